"""Sums over Gaussians, exact: the inner loop of the dense CRF. The matrix of pairs is never in memory.

Distances are sums of squared differences. By the dot product, |p|^2 + |c|^2 - 2 p.c, they would cancel: at features of
17, as of colours by a width of 15, the sums' relative error is then 1e-4 instead of 1e-6.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from fcam_jax.errors import unknown_name
from fcam_jax.losses import gaussian_sum_pallas

# Centres of a step of `by_xla`: so many pairs are computed for each time that a point and its sums go through memory.
# Of 16 XLA makes two kernels for an A100, and some weights go through memory, too.
AT_A_TIME = 14


def gaussian_sum(
    points: Float[Array, "b n d"], centres: Float[Array, "b m d"], values: Float[Array, "b m k"], *, form: str = "auto"
) -> Float[Array, "b n k"]:
    """The values at the centres, spread to the points by Gaussians.

    $$ out_i = \\sum_j \\exp(-|p_i - c_j|^2 / 2)\\, v_j $$

    in O(n + m) memory and O(n m) time. Images of a batch have nothing to do with each other. It is not meant to be
    differentiated.

    Args:
      points: p, float32, in units of the Gaussian's width.
      centres: c, float32, likewise.
      values: v, float32, of any sign; the columns are independent.
      form: a name of `FORMS`. "auto": "pallas" on a TPU, "xla" elsewhere, by the platform that the program is compiled
        for. "xla" is for any machine. "pallas" is a kernel of ours on a GPU or a TPU, and "xla" on a CPU.

    Returns:
      The sums, float32.

    Raises:
      InputError: for a form that does not exist.
    """
    if form not in FORMS:
        raise unknown_name("form of the Gaussian sum", form, FORMS)
    return FORMS[form](points, centres, values)


def by_xla(
    points: Float[Array, "b n d"], centres: Float[Array, "b m d"], values: Float[Array, "b m k"]
) -> Float[Array, "b n k"]:
    """The sum in steps of a few centres, each a map over all points.

    Two columns of the values are one complex number. So a weight has a single use for up to two columns, and XLA makes
    a single kernel of a step; a weight with two uses is written to memory and read again on a GPU.
    """
    columns = values.shape[-1]
    values = jnp.pad(values, ((0, 0), (0, 0), (0, columns % 2)))
    pairs = jax.lax.complex(values[..., ::2], values[..., 1::2])
    features = jnp.moveaxis(points, -1, 0)
    zero = jnp.zeros_like(features[0])

    def step(sums: list[Complex[Array, "b n"]], terms: tuple[Array, Array]) -> tuple[list[Array], None]:
        part = [jnp.zeros_like(one) for one in sums]
        for place, value in zip(*terms, strict=True):
            distance = sum(jnp.square(x - c[:, None]) for x, c in zip(features, place, strict=True))
            weight = jnp.exp(-0.5 * distance).astype(jnp.complex64)
            part = [one + weight * v[:, None] for one, v in zip(part, value, strict=True)]
        return [a + b for a, b in zip(sums, part, strict=True)], None

    start = [jax.lax.complex(zero, zero)] * pairs.shape[-1]
    sums, _ = jax.lax.scan(step, start, (_in_steps(centres), _in_steps(pairs)))
    halves = [half for one in sums for half in (one.real, one.imag)]
    return jnp.stack(halves[:columns], axis=-1)


def _in_steps(x: Array) -> Array:
    """From [b, m, d] to [steps, centres of a step, d, b]; zeros at the end, which as values add nothing."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % AT_A_TIME), (0, 0)))
    return x.reshape(x.shape[0], -1, AT_A_TIME, x.shape[-1]).transpose(1, 2, 3, 0)


def by_pallas(
    points: Float[Array, "b n d"], centres: Float[Array, "b m d"], values: Float[Array, "b m k"]
) -> Float[Array, "b n k"]:
    """The sum by the kernel of the platform that the program is compiled for; a CPU has none."""
    return jax.lax.platform_dependent(
        points,
        centres,
        values,
        cpu=by_xla,
        tpu=gaussian_sum_pallas.on_tpu,
        default=gaussian_sum_pallas.on_gpu,
    )


def by_platform(
    points: Float[Array, "b n d"], centres: Float[Array, "b m d"], values: Float[Array, "b m k"]
) -> Float[Array, "b n k"]:
    """The sum in the form that suits the platform that the program is compiled for.

    That is not our kernel on a GPU: JAX has announced (0.11) that Pallas' Triton backend goes, and XLA's program is one
    kernel a step, too, which differs by its loop over the steps.
    """
    return jax.lax.platform_dependent(points, centres, values, tpu=gaussian_sum_pallas.on_tpu, default=by_xla)


FORMS: dict[str, Callable[[Array, Array, Array], Array]] = {"auto": by_platform, "xla": by_xla, "pallas": by_pallas}
