"""CAMs of principal components: where the features, or their products with the gradient, point one way."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target

# The vector is found to a share r^(2^17) of the next, where r < 1 is the ratio of the first two singular values.
_SQUARINGS = 16
_EXACT = jax.lax.Precision.HIGHEST


class EigenCAM(ActivationMap):
    """Projection of every position's features on their first right singular vector; the same for all classes.

    $$ C = A V_1, \\qquad A = U \\Sigma V^T \\text{ with a row for every position} $$

    A singular vector has no sign of its own: it is that which makes the sum of the map positive. Features are not
    centred. The vector comes from powers of the smaller of A A^T and A^T A, which are matrix products alone, where a
    decomposition would be slow on accelerators and have no gradient where singular values repeat, as zeros do.

    Differs from: programs that centre the features, or leave the sign to the decomposition.

    Reference: Muhammad and Yeasin, Eigen-CAM, IJCNN 2020.
    """

    title = "Eigen-CAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        return leading_projection(target.features)


class EigenGradCAM(ActivationMap):
    """Eigen-CAM of the class: of the products of features and gradient.

    $$ C = M V_1, \\qquad M = g \\odot A = U \\Sigma V^T \\text{ with a row for every position} $$

    The sign is that which makes the sum of the map positive.

    Differs from: the program, which centres the products and leaves the sign to the decomposition.

    Reference: no paper; the program pytorch-grad-cam (Gildenblat, 2021).
    """

    title = "EigenGradCAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        return leading_projection(target.gradient() * target.features)


class SegEigenCAM(ActivationMap):
    """Eigen-CAM of features weighted by the size of their gradient, made for segmentation.

    $$ C = M V_1, \\qquad M = |g| \\odot A = U \\Sigma V^T \\text{ with a row for every position} $$

    The sign is that which makes the value of the largest size positive. Of a score whose gradient is the same at all
    positions, as behind the top stage, M is A with its channels scaled.

    Differs from: pytorch-grad-cam, which centres the products.

    Reference: Chung and Ying, Seg-Eigen-CAM, Applied Sciences 15(13), 2025, Eq. 10 to 13.
    """

    title = "Seg-Eigen-CAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        return with_positive_peak(leading_projection(jnp.abs(target.gradient()) * target.features))


def leading_projection(
    features: Float[Array, "b h w c"], along: Float[Array, "b h w"] | None = None
) -> Float[Array, "b h w"]:
    """Every position's features on their first right singular vector, with the sign that agrees with a map.

    Its product with `along`, summed up over positions, is not negative; by default its sum is not.
    """
    b, h, w, c = features.shape
    largest = jnp.abs(features).max(axis=(1, 2, 3), keepdims=True)
    rows = (features / jnp.where(largest == 0, 1, largest)).reshape(b, h * w, c)
    if c <= h * w:  # v of A^T A, or of u of A A^T, of which the smaller is taken
        vector = leading(jnp.einsum("bpc,bpd->bcd", rows, rows, precision=_EXACT))
    else:
        positions = leading(jnp.einsum("bpc,bqc->bpq", rows, rows, precision=_EXACT))
        vector = unit(jnp.einsum("bpc,bp->bc", rows, positions, precision=_EXACT))
    maps = jnp.einsum("bpc,bc->bp", rows, vector, precision=_EXACT)
    agreed = (maps if along is None else maps * along.reshape(b, h * w)).sum(axis=1, keepdims=True)
    return (maps * jnp.where(agreed < 0, -1, 1)).reshape(b, h, w) * largest[..., 0]


def leading(matrix: Float[Array, "b n n"]) -> Float[Array, "b n"]:
    """Unit eigenvector of the largest eigenvalue of matrices without negative ones; its sign is arbitrary."""
    power = unit(matrix)
    for _ in range(_SQUARINGS):
        power = unit(jnp.einsum("bij,bjk->bik", power, power, precision=_EXACT))
    # All columns of the limit are multiples of the vector; the longest has its largest entry on the diagonal.
    longest = jnp.diagonal(power, axis1=1, axis2=2).argmax(axis=1)
    return unit(jnp.take_along_axis(power, longest[:, None, None], axis=2)[..., 0])


def unit(values: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Divided by the root of the sum of squares; 0 stays 0."""
    squares = (values**2).sum(axis=tuple(range(1, values.ndim)), keepdims=True)
    return values / jnp.sqrt(jnp.where(squares == 0, 1, squares))


def with_positive_peak(maps: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
    """Maps with the sign that makes the value of the largest size positive."""
    lowest, highest = (found(axis=(1, 2), keepdims=True) for found in (maps.min, maps.max))
    return maps * jnp.where(-lowest > highest, -1, 1)
