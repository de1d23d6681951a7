"""The pixel alignment loss of F-CAM (Eq. 3): its terms, each a component in a file of its own, and their sum."""

from fcam_jax.component import Registry
from fcam_jax.losses.classification import Classification
from fcam_jax.losses.constraints import Constraint as Constraint
from fcam_jax.losses.constraints import ForegroundBounds, Size
from fcam_jax.losses.dense_crf import DenseCRF
from fcam_jax.losses.dense_crf import dense_crf as dense_crf
from fcam_jax.losses.entropy import Entropy
from fcam_jax.losses.log_barrier import log_barrier as log_barrier
from fcam_jax.losses.partial_cross_entropy import Seeds
from fcam_jax.losses.partial_cross_entropy import partial_cross_entropy as partial_cross_entropy
from fcam_jax.losses.pixel_alignment import PixelAlignment as PixelAlignment
from fcam_jax.losses.pixel_alignment import pixel_alignment as pixel_alignment
from fcam_jax.losses.reconstruction import Reconstruction
from fcam_jax.losses.term import Evidence as Evidence
from fcam_jax.losses.term import LossTerm
from fcam_jax.losses.term import Weighted as Weighted

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
