"""Class activation maps: one file per variant, their registry, and the one place that normalises and resizes maps."""

from fcam_jax.cams.ablationcam import AblationCAM
from fcam_jax.cams.api import compute
from fcam_jax.cams.cam import CAM
from fcam_jax.cams.eigencam import EigenCAM
from fcam_jax.cams.elementwise import ElementwiseGradCAM
from fcam_jax.cams.gradcam import GradCAM
from fcam_jax.cams.gradcampp import GradCAMPP
from fcam_jax.cams.hirescam import HiResCAM
from fcam_jax.cams.iscam import ISCAM
from fcam_jax.cams.layercam import LayerCAM
from fcam_jax.cams.registry import CAMS
from fcam_jax.cams.scorecam import ScoreCAM
from fcam_jax.cams.smooth_gradcampp import SmoothGradCAMPP
from fcam_jax.cams.sscam import SSCAM
from fcam_jax.cams.xgradcam import XGradCAM

__all__ = [
    "CAM",
    "CAMS",
    "ISCAM",
    "SSCAM",
    "AblationCAM",
    "EigenCAM",
    "ElementwiseGradCAM",
    "GradCAM",
    "GradCAMPP",
    "HiResCAM",
    "LayerCAM",
    "ScoreCAM",
    "SmoothGradCAMPP",
    "XGradCAM",
    "compute",
]
