"""Maps averaged over an image and its mirror image."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from fcam_jax.methods.contract import Localizer
from fcam_jax.types import Batch, Localization


@dataclasses.dataclass(frozen=True)
class Mirrored:
    """A localizer that sees every image twice: ``(L(X) + mirror(L(mirror(X)))) / 2``; class scores without a mirror.

    Training mirrors images, too, so neither side is strange to the network; what differs between them is error. It
    takes two passes for one.
    """

    localizer: Localizer

    def localize(self, model: Any, batch: Batch) -> Localization:
        """Mean maps and mean class scores."""
        one = self.localizer.localize(model, batch)
        turned = dataclasses.replace(batch, images=jnp.asarray(batch.images)[:, :, ::-1])
        other = self.localizer.localize(model, turned)
        logits = None if one.logits is None else (jnp.asarray(one.logits) + jnp.asarray(other.logits)) / 2
        return Localization((jnp.asarray(one.maps) + jnp.asarray(other.maps)[:, :, ::-1]) / 2, logits)
