"""Ways to localize that nothing is trained for, as further rows of the tables."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.methods.contract import Localizer
from fcam_jax.types import Batch, Localization


@dataclasses.dataclass(frozen=True)
class Center:
    """The same map for every image: a Gaussian at its centre. A method below it has learnt nothing of places.

    Only the order of the pixels counts, so the width of the Gaussian does not. Class scores are the classifier's.

    Reference: Choe et al., CVPR 2020, section 4.3.
    """

    classes: bool = True  # whether the model has class scores; without them there are none here

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The Gaussian and the classifier's scores."""
        images = jnp.asarray(batch.images)
        b, h, w, _ = images.shape
        logits = model(images, train=False)[1] if self.classes else None
        return Localization(jnp.broadcast_to(center_map(h, w), (b, h, w)), logits)


@dataclasses.dataclass(frozen=True)
class Decision:
    """F-CAM's own decision where the object is, without a threshold: 1 where foreground is likelier than background.

    Every threshold cuts such a map alike, so its figures are at no threshold.
    """

    method: Localizer

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The more likely region of every pixel."""
        found = self.method.localize(model, batch)
        return Localization((found.maps > 0.5).astype(jnp.float32), found.logits)


def center_map(height: int, width: int) -> Float[Array, "{height} {width}"]:
    """An isotropic Gaussian at the centre of the image, 1 at most.

    $$ \\exp(-|p - c|^2 / 2 s^2), \\quad s = \\max(h, w) / 3 $$
    """
    y = jnp.arange(height) - (height - 1) / 2
    x = jnp.arange(width) - (width - 1) / 2
    return jnp.exp(-(y[:, None] ** 2 + x**2) / (2 * (max(height, width) / 3) ** 2))
