"""The extended log-barrier, a penalty of inequality constraints, and its schedule."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from fcam_jax.data.arrays import array_of
from fcam_jax.errors import InputError

Scalar = Num[Array, ""] | float | int


def log_barrier(values: Any, t: Scalar) -> Float[Array, "*n"]:
    """Penalty of the constraint value <= 0: the log-barrier, continued by its tangent where it would be undefined.

    $$ \\psi_t(z) = \\begin{cases} -\\frac1t \\log(-z) & z \\le -1/t^2 \\\\
       t z - \\frac1t \\log\\frac1{t^2} + \\frac1t & \\text{otherwise} \\end{cases} $$

    Value and slope agree at the joint z = -1/t^2, and both are finite everywhere, so an infeasible start is allowed.

    Args:
      values: constraint functions z, any shape, also a number or a list.
      t: sharpness, > 0; as it grows the penalty tends to the hard constraint.

    Returns:
      The penalty of each value, float32, of either sign.

    Raises:
      InputError: t is not above 0.

    Reference: Kervadec et al., Constrained deep networks: Lagrangian optimization via log-barrier extensions, Eq. 4.
    """
    values = jnp.asarray(array_of(values, "values"), jnp.float32)
    if not isinstance(t, jax.core.Tracer) and (np.ndim(t) or not isinstance(t, numbers.Real | jax.Array) or not t > 0):
        raise InputError(f"t is {t!r:.100}; it must be above 0")
    joint = -1.0 / jnp.square(t)
    feasible = values <= joint
    # Not by jnp.minimum, which halves the slope at the joint itself.
    inside = -jnp.log(-jnp.where(feasible, values, joint)) / t
    outside = t * values - jnp.log(1.0 / jnp.square(t)) / t + 1.0 / t
    return jnp.where(feasible, inside, outside)


def barrier_sharpness(grown: Scalar, start: float, rate: float, limit: float) -> Float[Array, ""]:
    """Sharpness t after it has grown so many times: min(start * rate^grown, limit).

    Reference: F-CAM (WACV 2022), Sec. 3.1: start 1, rate 1.01 for each epoch, limit 10.
    """
    return jnp.minimum(start * jnp.power(rate, jnp.asarray(grown, jnp.float32)), limit)
