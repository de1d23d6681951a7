"""BatchNorm whose statistics are those of the whole batch, over all devices, and which may keep pretrained ones."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fcam_jax.errors import InputError
from fcam_jax.types import DATA_AXIS


class BatchNorm(nnx.BatchNorm):
    """BatchNorm whose training statistics are those of the whole batch, over every device of the mesh axis.

    It normalises in float32 whatever the compute dtype: the running statistics would lose their low bits otherwise.
    Where it is `frozen` it normalises by the running statistics in training, too, and leaves them as they are.

    Differs from: PyTorch keeps a running variance with Bessel's correction, here (as in Flax and Keras) without.
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-5, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        super().__init__(channels, momentum=0.9, epsilon=epsilon, dtype=jnp.float32, axis_name=DATA_AXIS, rngs=rngs)
        self.output_dtype, self.frozen = dtype, False

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:  # type: ignore[override]
        """Normalise by the batch and update the running statistics, or (`train=False`) by the running statistics."""
        if self.frozen or not train:
            return super().__call__(x, use_running_average=True).astype(self.output_dtype)
        assert self.scale is not None and self.bias is not None
        # As varied over the devices as the maps, so that each device has its own share of their gradients.
        zero = jnp.zeros_like(x[0, 0, 0], jnp.float32)
        scale, bias = self.scale[...] + zero, self.bias[...] + zero
        normalized, mean, variance = normalize(x, scale, bias, self.epsilon, self.output_dtype)
        for running, new in ((self.mean, mean), (self.var, variance)):
            # Not by `running[...] =`, for which JAX walks through all that has been traced so far.
            running.set_value(self.momentum * running[...] + (1 - self.momentum) * jax.lax.stop_gradient(new))
        return normalized


def freeze_norms(network: nnx.Module) -> None:
    """Keep the running statistics of every BatchNorm of a network, whose scales and biases are still trained.

    Raises InputError: it has none.
    """
    norms = [module for _, module in nnx.iter_modules(network) if isinstance(module, BatchNorm)]
    if not norms:
        raise InputError(f"frozen_norms is True, and {type(network).__name__} has no BatchNorm; leave it out")
    for norm in norms:
        norm.frozen = True


def _over_devices(means: tuple[Array, Array]) -> tuple[Array, Array]:
    """Means over the mesh axis; where no such axis is mapped, as in a step by hand, the batch is whole already.

    As one array: to send two, XLA puts them together and takes them apart by kernels of their own.
    """
    try:
        first, second = jax.lax.pmean(jnp.stack(means), DATA_AXIS)
    except NameError:
        return means
    return first, second


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
    x: Float[Array, "b h w c"], scale: Float[Array, " c"], bias: Float[Array, " c"], epsilon: float, dtype: DTypeLike
) -> tuple[Float[Array, "b h w c"], Float[Array, " c"], Float[Array, " c"]]:
    """Normalise every channel by its mean and variance over the batch of all devices, in float32.

    $$ y = \\gamma\\,\\hat x + \\beta, \\quad \\hat x = \\frac{x - \\mu}{\\sqrt{\\sigma^2 + \\epsilon}}, \\quad
       \\frac{\\partial L}{\\partial x} = \\frac{\\gamma}{\\sqrt{\\sigma^2 + \\epsilon}}
       \\bigl(g - \\bar g - \\hat x\\, \\overline{g \\hat x}\\bigr) $$

    with g the gradient of y and bars for means over the batch. Written out, the gradient needs x and two sums;
    what is derived from the equation for y keeps more maps and takes several times as long on CPUs. The gradients of
    gamma, the scale, and beta, the bias, are this device's share.

    Returns:
      The normalised maps, in `dtype`, and means and variances (biased) of the channels, which have no gradient.

    Reference: Ioffe and Szegedy, Batch Normalization, ICML 2015, Sec. 3.
    """
    return _normalize_forward(x, scale, bias, epsilon, dtype)[0]


def _normalize_forward(x, scale, bias, epsilon, dtype):
    values = x.astype(jnp.float32)
    mean, square = _over_devices((values.mean(axis=(0, 1, 2)), (values * values).mean(axis=(0, 1, 2))))
    variance = jnp.maximum(square - mean**2, 0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    normalized = (values - mean) * (inverse * scale) + bias
    return (normalized.astype(dtype), mean, variance), (x, scale, mean, inverse)


def _normalize_backward(epsilon, dtype, kept, gradients):
    x, scale, mean, inverse = kept
    values, gradient = x.astype(jnp.float32), gradients[0].astype(jnp.float32)
    of_bias = gradient.sum(axis=(0, 1, 2))
    of_scale = inverse * ((gradient * values).sum(axis=(0, 1, 2)) - mean * of_bias)
    count = values.size // values.shape[-1]
    mean_bias, mean_scale = _over_devices((of_bias / count, of_scale / count))
    of_x = inverse * scale * (gradient - mean_bias - (values - mean) * (inverse * mean_scale))
    return of_x.astype(x.dtype), of_scale, of_bias


normalize.defvjp(_normalize_forward, _normalize_backward)
