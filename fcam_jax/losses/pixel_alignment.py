"""The pixel alignment loss: the sum of its terms, each with a weight and in its own range of updates."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.losses.term import Evidence, Weighted


@dataclasses.dataclass(frozen=True)
class PixelAlignment:
    """The terms of the loss by name, in the order in which they are summed up."""

    terms: Mapping[str, Weighted]

    @property
    def active(self) -> dict[str, Weighted]:
        """The terms that have a weight."""
        return {name: one for name, one in self.terms.items() if one.weight}

    @property
    def flooding(self) -> dict[str, Weighted]:
        """Those of them that may flood the maps."""
        return {name: one for name, one in self.active.items() if one.term.floods}

    @property
    def needs_image(self) -> bool:
        """Whether the decoder needs a head that reconstructs the image."""
        return any(one.term.needs_image for one in self.active.values())

    @property
    def trains_classifier(self) -> bool:
        """Whether the classifier is trained together with the decoder."""
        return any(one.term.trains_classifier for one in self.active.values())

    def share(self, known: Evidence) -> Evidence:
        """With what the terms tell each other, such as the barriers' sharpness."""
        for one in self.terms.values():
            known = dataclasses.replace(known, **one.term.shared(known.step))
        return known


Factors = Mapping[str, Float[Array, ""]]


def pixel_alignment(
    known: Evidence, settings: PixelAlignment, factors: Factors = MappingProxyType({})
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss of a batch and its unweighted terms.

    $$ L = \\sum_k w_k(n) L_k, \\qquad \\text{by default} \\quad
       L = \\alpha H(Y, S) + \\lambda R(S, X) + w \\, \\tfrac12 \\sum_r \\psi_t\\Big(-\\sum_p S_p^r\\Big) $$

    Args:
      known: what the step knows of this device's images.
      settings: the terms with their weights and schedules.
      factors: on weights, by the terms' names; 1 where there is none.

    Returns:
      The loss, and the terms that take part by name, each a mean over the whole batch, with their further figures.

    Reference: F-CAM (WACV 2022), Eq. 3.
    """
    known = settings.share(known)
    loss = jnp.zeros(())
    figures: dict[str, Float[Array, ""]] = {}
    for name, one in settings.active.items():
        figures |= one.term.figures(known)
        figures[name] = one.term(known)
        weight = one.at(known.step)
        loss += (weight * factors[name] if name in factors else weight) * figures[name]
    return loss, figures


def foreground_pull(
    known: Evidence, settings: PixelAlignment, factors: Factors = MappingProxyType({})
) -> Float[Array, "b h w"] | None:
    """What the terms that are `pictured` pull at: their gradient in the foreground map s of every image.

    $$ w \\, \\frac{\\partial L_k}{\\partial s_p}
       = w \\Big(\\frac{\\partial L_k}{\\partial S_p^1} - \\frac{\\partial L_k}{\\partial S_p^0}\\Big),
       \\qquad S = (1 - s, s) $$

    Args:
      known: what the step knows; the terms look at its maps.
      settings: terms and weights; their schedules do not count.
      factors: as of `pixel_alignment`.

    Returns:
      The gradient; where it is negative, descent moves the pixel towards the foreground. None without such a term.
    """
    known = settings.share(known)
    pictured = {name: one for name, one in settings.active.items() if one.term.pictured}

    def total(foreground: Float[Array, "b h w"], one: Weighted) -> Float[Array, ""]:
        maps = jnp.stack([1 - foreground, foreground], axis=-1)
        return one.term.of_images(dataclasses.replace(known, maps=maps)).sum()

    pulls = [
        factors.get(name, 1) * one.weight * jax.grad(total)(known.maps[..., 1], one) for name, one in pictured.items()
    ]
    return sum(pulls[1:], pulls[0]) if pulls else None
