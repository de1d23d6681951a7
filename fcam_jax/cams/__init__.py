"""Class activation maps: one file per variant, their registry, and the one place that normalises and resizes maps."""

from fcam_jax.cams.api import compute
from fcam_jax.cams.registry import CAMS

__all__ = ["CAMS", "compute"]
