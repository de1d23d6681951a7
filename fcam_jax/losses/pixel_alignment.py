"""The pixel alignment loss: weighted sum of seeds, CRF and constraints, each within its own range of epochs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from fcam_jax.errors import InputError
from fcam_jax.losses.constraints import Constraint, barrier, nonnegative_sizes
from fcam_jax.losses.dense_crf import dense_crf
from fcam_jax.losses.log_barrier import barrier_sharpness
from fcam_jax.losses.partial_cross_entropy import partial_cross_entropy

# The published weights and widths belong to images of this side.
REFERENCE_SIDE = 224


@dataclasses.dataclass(frozen=True)
class Term:
    """Weight of a term and the epochs in which it counts.

    Attributes:
      weight: factor of the term; 0 leaves it out of the computation altogether.
      start_epoch: first epoch in which it counts.
      end_epoch: first epoch in which it does not count any more, or None to keep it to the end.
    """

    weight: float
    start_epoch: int = 0
    end_epoch: int | None = None

    def at(self, epoch: Int[Array, ""]) -> Float[Array, ""]:
        """The weight in an epoch: `weight` within [start_epoch, end_epoch), otherwise 0."""
        end = jnp.inf if self.end_epoch is None else self.end_epoch
        return jnp.where((epoch >= self.start_epoch) & (epoch < end), self.weight, 0.0)


@dataclasses.dataclass(frozen=True)
class PixelAlignment:
    """Settings of the loss.

    Attributes:
      seeds: partial cross-entropy (alpha).
      crf: dense CRF (lambda), weight as for images of 224 x 224 pixels.
      size: log-barrier on the regions' sizes.
      sigma_xy: width of the CRF kernel in pixels of a 224 x 224 image.
      sigma_rgb: width of the CRF kernel in colour levels.
      crf_stride: side in pixels of the cells that one CRF landmark stands for; 1 is exact.
      barrier_start: sharpness t of the barrier in the first epoch.
      barrier_rate: factor on t after every epoch.
      barrier_limit: largest t.
      constraints: further terms with their names, log-barriers as that of the sizes and with the same t.
    """

    seeds: Term
    crf: Term
    size: Term
    sigma_xy: float
    sigma_rgb: float
    crf_stride: int
    barrier_start: float
    barrier_rate: float
    barrier_limit: float
    constraints: tuple[tuple[str, Term, Constraint], ...] = ()

    def __post_init__(self):
        if self.crf_stride < 1:
            raise InputError(f"loss.crf.stride is {self.crf_stride}; it must be 1 (exact) or more pixels")


def pixel_alignment(
    logits: Float[Array, "b h w 2"],
    seeds: Int[Array, "b h w"],
    images: UInt8[Array, "b h w 3"],
    keys: Key[Array, " b"],
    epoch: Int[Array, ""],
    settings: PixelAlignment,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss of a batch and its unweighted terms.

    $$ L = \\alpha H(Y, S) + \\lambda R(S, X) + w \\, \\tfrac12 \\sum_r \\psi_t\\Big(-\\sum_p S_p^r\\Big) $$

    R is a sum over pairs of pixels, so for N pixels it is multiplied by (224^2 / N)^2, and the kernel's width by
    sqrt(N) / 224: a weight means the same pull at every resolution.

    Args:
      logits: decoder output, background and foreground.
      seeds: pseudo-labels, -1 where unknown.
      images: raw RGB of the CRF.
      keys: one random key an image.
      epoch: epoch of the step, from 0.
      settings: weights, epochs and kernel.
      axis_name: mesh axis over which the batch is spread.

    Returns:
      The loss, and the terms that take part by name, "seeds", "crf", "size" and the constraints' own, each a mean over
      the whole batch.

    Reference: F-CAM (WACV 2022), Eq. 3.
    """
    probs = jax.nn.softmax(logits.astype(jnp.float32))
    terms: dict[str, tuple[Term, Float[Array, ""]]] = {}
    if settings.seeds.weight:
        terms["seeds"] = settings.seeds, partial_cross_entropy(logits, seeds, axis_name)
    if settings.crf.weight:
        terms["crf"] = settings.crf, _mean(_crf(probs, images, keys, settings), axis_name)
    t = barrier_sharpness(epoch, settings.barrier_start, settings.barrier_rate, settings.barrier_limit)
    for name, term, constraint in (("size", settings.size, nonnegative_sizes), *settings.constraints):
        if term.weight:
            terms[name] = term, _mean(barrier(constraint(probs), t), axis_name)
    loss = sum((term.at(epoch) * value for term, value in terms.values()), jnp.zeros(()))
    return loss, {name: value for name, (_, value) in terms.items()}


def _crf(
    probs: Float[Array, "b h w 2"], images: UInt8[Array, "b h w 3"], keys: Key[Array, " b"], settings: PixelAlignment
) -> Float[Array, " b"]:
    """CRF energy as it would be at 224 x 224 pixels."""
    pixels = images.shape[1] * images.shape[2]
    scale = math.sqrt(pixels) / REFERENCE_SIDE
    energy = dense_crf(
        probs,
        images.astype(jnp.float32),
        keys,
        sigma_xy=settings.sigma_xy * scale,
        sigma_rgb=settings.sigma_rgb,
        stride=settings.crf_stride,
    )
    return energy / scale**4


def _mean(values: Float[Array, " b"], axis_name: str | None) -> Float[Array, ""]:
    return values.mean() if axis_name is None else jax.lax.pmean(values.mean(), axis_name)
