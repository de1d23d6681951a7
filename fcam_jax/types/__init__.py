"""What travels between the rooms of the package: batches, localizations, annotations, and the letters of array axes.

Axis letters in every shape annotation: ``b`` images, ``h w`` rows and columns, ``c`` channels, ``k`` regions or
classes, ``n`` a free count. Images are NHWC.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, UInt8

if TYPE_CHECKING:
    from fcam_jax.types.batch import Batch as Batch
    from fcam_jax.types.batch import Features as Features
    from fcam_jax.types.batch import Localization as Localization
else:

    def __getattr__(name: str) -> Any:
        """What goes to the device; without it, as where arrays are measured, JAX is not loaded."""
        if name not in ("Batch", "Features", "Localization"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from fcam_jax.types import batch

        return getattr(batch, name)


# The mesh axis that images are spread over. BatchNorm and the losses take their means over it.
DATA_AXIS = "data"

# Values of `Batch.objects`; the others are 0.
OBJECT, UNDECIDED = 1, 255

Image = UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class Annotation:
    """Ground truth of one image in the frame of its score map; it never goes to the device."""

    image_id: str  # the image's key in its data set
    label: int  # its class, from 0
    boxes: Int[np.ndarray, "n 4"] | None = None  # inclusive pixel corners ``x0, y0, x1, y1``; None: there are no boxes
    mask: np.ndarray | None = None  # True on the object; None where the data set has no masks
    ignore: np.ndarray | None = None  # True where the mask is undecided
