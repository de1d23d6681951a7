"""Inequality constraints by the extended log-barrier, and the size constraint of F-CAM written with it."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

Scalar = Num[Array, ""] | float


def log_barrier(values: Float[Array, "*n"], t: Scalar) -> Float[Array, "*n"]:
    """Penalty of the constraint value <= 0: the log-barrier, continued by its tangent where it would be undefined.

    $$ \\psi_t(z) = \\begin{cases} -\\frac1t \\log(-z) & z \\le -1/t^2 \\\\
       t z - \\frac1t \\log\\frac1{t^2} + \\frac1t & \\text{otherwise} \\end{cases} $$

    Value and slope agree at the joint z = -1/t^2, and both are finite everywhere, so an infeasible start is allowed.

    Args:
      values: constraint functions z, any shape.
      t: sharpness, > 0; as it grows the penalty tends to the hard constraint.

    Reference: Kervadec et al., Constrained deep networks: Lagrangian optimization via log-barrier extensions, Eq. 4.
    """
    values = values.astype(jnp.float32)
    joint = -1.0 / jnp.square(t)
    inside = -jnp.log(-jnp.minimum(values, joint)) / t
    outside = t * values - jnp.log(1.0 / jnp.square(t)) / t + 1.0 / t
    return jnp.where(values <= joint, inside, outside)


def region_sizes(probs: Float[Array, "b h w k"]) -> Float[Array, "b k"]:
    """Soft area of every region in pixels, between 0 and h*w.

    $$ a_{bk} = \\sum_p S_{bpk} $$

    Reference: F-CAM (WACV 2022), Eq. 3, constraint.
    """
    return probs.astype(jnp.float32).sum(axis=(1, 2))


def size_barrier(probs: Float[Array, "b h w k"], t: Scalar) -> Float[Array, " b"]:
    """Barrier of the absolute size constraint "every region has size >= 0", mean over the regions of each image.

    Inside the barrier its gradient, -1/(t a), pushes every region to grow, the smaller the stronger; that is what
    expands the foreground beyond its seeds.

    Args:
      probs: softmax maps in [0, 1].
      t: sharpness of the barrier.

    Reference: F-CAM (WACV 2022), Eq. 3, constraint; Belharbi et al., Deep interpretable classification (ASC).
    """
    return log_barrier(-region_sizes(probs), t).mean(axis=-1)


def barrier_sharpness(epoch: Scalar, start: float, rate: float, limit: float) -> Float[Array, ""]:
    """Sharpness t of an epoch: min(start * rate^epoch, limit).

    Reference: F-CAM (WACV 2022), Sec. 3.1: start 1, rate 1.01, limit 10.
    """
    return jnp.minimum(start * jnp.power(rate, jnp.asarray(epoch, jnp.float32)), limit)
