"""The pixel alignment loss: weighted sum of seeds, CRF, constraints and entropy, each in its own range of epochs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from fcam_jax.errors import InputError, unknown_name
from fcam_jax.losses.constraints import Constraint, barrier, nonnegative_sizes
from fcam_jax.losses.dense_crf import FORMS, dense_crf
from fcam_jax.losses.entropy import entropy
from fcam_jax.losses.gaussian_sum import FORMS as KERNELS
from fcam_jax.losses.log_barrier import barrier_sharpness
from fcam_jax.losses.partial_cross_entropy import partial_cross_entropy

# The published weights and widths belong to images of this side.
REFERENCE_SIDE = 224

# What K S is multiplied by. The released program filters with a permutohedral lattice, whose result was measured at
# 0.57 to 0.66 times the exact sum: with it, the published weight 2e-9 has the pull that it had there.
AMPLITUDES = {"exact": 1.0, "released": 0.6}


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


# A term that takes no part.
OFF = Term(0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrfTerm(Term):
    """The dense CRF: weight (lambda) as for images of 224 x 224 pixels.

    Attributes:
      sigma_xy: width of the kernel in pixels of a 224 x 224 image.
      sigma_rgb: width of the kernel in colour levels.
      form: "landmarks" or "exact" (`losses/dense_crf.py`).
      stride: a landmark stands for stride x stride pixels.
      scale: the CRF is computed on maps and images of this share of their sides, in (0, 1].
      amplitude: "exact", or "released" for that of the released program's filter.
      kernel: "auto", "xla" or "pallas" (`losses/gaussian_sum.py`).

    Raises:
      InputError: for a setting that does not exist or is outside its range.
    """

    sigma_xy: float
    sigma_rgb: float
    form: str = "landmarks"
    stride: int = 4
    scale: float = 1.0
    amplitude: str = "exact"
    kernel: str = "auto"

    def __post_init__(self):
        for name, known in (("form", FORMS), ("amplitude", AMPLITUDES), ("kernel", KERNELS)):
            if getattr(self, name) not in known:
                raise unknown_name(f"config.fcam.loss.crf.{name}", getattr(self, name), known)
        if self.stride < 1:
            raise InputError(f"fcam.loss.crf.stride is {self.stride}; it must be 1 (all pixels) or more pixels")
        if not 0 < self.scale <= 1:
            raise InputError(f"fcam.loss.crf.scale is {self.scale}; it must lie in (0, 1]")
        for name in ("sigma_xy", "sigma_rgb"):
            if getattr(self, name) <= 0:
                raise InputError(f"fcam.loss.crf.{name} is {getattr(self, name)}; it must be above 0")


@dataclasses.dataclass(frozen=True)
class PixelAlignment:
    """Settings of the loss.

    Attributes:
      seeds: partial cross-entropy (alpha).
      crf: dense CRF (lambda).
      size: log-barrier on the regions' sizes.
      barrier_start: sharpness t of the barrier in the first epoch.
      barrier_rate: factor on t after every epoch.
      barrier_limit: largest t.
      constraints: further terms with their names, log-barriers as that of the sizes and with the same t.
      entropy: mean entropy of the pixels.
    """

    seeds: Term
    crf: CrfTerm
    size: Term
    barrier_start: float
    barrier_rate: float
    barrier_limit: float
    constraints: tuple[tuple[str, Term, Constraint], ...] = ()
    entropy: Term = OFF


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

    $$ L = \\alpha H(Y, S) + \\lambda R(S, X) + w \\, \\tfrac12 \\sum_r \\psi_t\\Big(-\\sum_p S_p^r\\Big)
       - \\frac{w_e}{N} \\sum_{p,r} S_p^r \\log S_p^r $$

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
      The loss, and the terms that take part by name, "seeds", "crf", "size", the constraints' own and "entropy", each a
      mean over the whole batch.

    Reference: F-CAM (WACV 2022), Eq. 3.
    """
    probs = jax.nn.softmax(logits.astype(jnp.float32))
    terms: dict[str, tuple[Term, Float[Array, ""]]] = {}
    if settings.seeds.weight:
        terms["seeds"] = settings.seeds, partial_cross_entropy(logits, seeds, axis_name)
    if settings.crf.weight:
        terms["crf"] = settings.crf, _mean(_crf(probs, images, keys, settings.crf), axis_name)
    t = barrier_sharpness(epoch, settings.barrier_start, settings.barrier_rate, settings.barrier_limit)
    for name, term, constraint in (("size", settings.size, nonnegative_sizes), *settings.constraints):
        if term.weight:
            terms[name] = term, _mean(barrier(constraint(probs), t), axis_name)
    if settings.entropy.weight:
        terms["entropy"] = settings.entropy, _mean(entropy(logits), axis_name)
    loss = sum((term.at(epoch) * value for term, value in terms.values()), jnp.zeros(()))
    return loss, {name: value for name, (_, value) in terms.items()}


def crf_gradient(
    probs: Float[Array, "b h w 2"], images: UInt8[Array, "b h w 3"], keys: Key[Array, " b"], settings: PixelAlignment
) -> Float[Array, "b h w"]:
    """What the CRF term pulls at: its gradient in the foreground map s of every image, where S is (1 - s, s).

    $$ \\lambda \\, \\frac{\\partial R}{\\partial s_p}
       = \\lambda \\Big(\\frac{\\partial R}{\\partial S_p^1} - \\frac{\\partial R}{\\partial S_p^0}\\Big) $$

    Args:
      probs: softmax maps.
      images: raw RGB of the CRF.
      keys: one random key an image.
      settings: weight and kernel; the term's epochs do not count.

    Returns:
      The gradient; where it is negative, descent moves the pixel towards the foreground.
    """

    def energy(foreground: Float[Array, "b h w"]) -> Float[Array, ""]:
        return _crf(jnp.stack([1 - foreground, foreground], axis=-1), images, keys, settings.crf).sum()

    return settings.crf.weight * jax.grad(energy)(probs[..., 1])


def _crf(
    probs: Float[Array, "b h w 2"], images: UInt8[Array, "b h w 3"], keys: Key[Array, " b"], crf: CrfTerm
) -> Float[Array, " b"]:
    """CRF energy as it would be at 224 x 224 pixels: maps are shrunk bilinearly, images by picking pixels."""
    batch, height, width, regions = probs.shape
    if crf.scale < 1:
        height, width = max(1, round(crf.scale * height)), max(1, round(crf.scale * width))
        probs = jax.image.resize(probs, (batch, height, width, regions), "bilinear", antialias=False)
        images = jax.image.resize(images, (batch, height, width, 3), "nearest")
    side = math.sqrt(height * width) / REFERENCE_SIDE
    energy = dense_crf(
        probs,
        images.astype(jnp.float32),
        keys,
        sigma_xy=crf.sigma_xy * side,
        sigma_rgb=crf.sigma_rgb,
        form=crf.form,
        stride=crf.stride,
        kernel=crf.kernel,
    )
    return AMPLITUDES[crf.amplitude] * energy / side**4


def _mean(values: Float[Array, " b"], axis_name: str | None) -> Float[Array, ""]:
    return values.mean() if axis_name is None else jax.lax.pmean(values.mean(), axis_name)
