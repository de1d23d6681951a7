"""The pixel alignment loss of F-CAM (Eq. 3): its terms, each a component in a file of its own, and their sum."""

from fcam_jax.component import Registry
from fcam_jax.losses.classification import Classification
from fcam_jax.losses.constraints import Constraint, ForegroundBounds, Size
from fcam_jax.losses.dense_crf import DenseCRF, dense_crf
from fcam_jax.losses.entropy import Entropy
from fcam_jax.losses.log_barrier import log_barrier
from fcam_jax.losses.partial_cross_entropy import Seeds, partial_cross_entropy
from fcam_jax.losses.pixel_alignment import PixelAlignment, pixel_alignment
from fcam_jax.losses.reconstruction import Reconstruction
from fcam_jax.losses.term import Evidence, LossTerm, Weighted

# In the order in which they are summed up; a new one is one file and one line.
LOSSES: Registry[type[LossTerm]] = Registry(
    "term of the loss",
    {
        "seeds": Seeds,
        "crf": DenseCRF,
        "size": Size,
        "bounds": ForegroundBounds,
        "entropy": Entropy,
        "reconstruction": Reconstruction,
        "classification": Classification,
    },
)

__all__ = [
    "LOSSES",
    "Classification",
    "Constraint",
    "DenseCRF",
    "Entropy",
    "Evidence",
    "ForegroundBounds",
    "LossTerm",
    "PixelAlignment",
    "Reconstruction",
    "Seeds",
    "Size",
    "Weighted",
    "dense_crf",
    "log_barrier",
    "partial_cross_entropy",
    "pixel_alignment",
]
