"""Ground truth of places, apart from `types` so that what measures arrays need not load JAX."""

import dataclasses

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Annotation:
    """Ground truth of one image in the frame of its score map; it never goes to the device.

    Attributes:
      image_id: the image's key in its data set.
      label: its class, from 0.
      boxes: inclusive pixel corners ``x0, y0, x1, y1``, or None where the data set has no boxes.
      mask: True on the object, or None where the data set has no masks.
      ignore: True where the mask is undecided, or None.
    """

    image_id: str
    label: int
    boxes: Int[np.ndarray, "n 4"] | None = None
    mask: np.ndarray | None = None
    ignore: np.ndarray | None = None
