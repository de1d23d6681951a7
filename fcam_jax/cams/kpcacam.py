"""KPCA-CAM: the first principal component of the features under a kernel; no class and no gradient take part."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.cams.eigencam import leading, unit, with_positive_peak
from fcam_jax.component import at_least, known

_EXACT = jax.lax.Precision.HIGHEST
_TANH_1 = 0.7615941559557649


def _sigmoid(products: Float[Array, "b p p"]) -> Float[Array, "b p p"]:
    # tanh(u + 1) - tanh(1) by the addition theorem.
    tanh = jnp.tanh(products)
    return tanh * (1 - _TANH_1**2) / (1 + _TANH_1 * tanh)


def _rbf(products: Float[Array, "b p p"]) -> Float[Array, "b p p"]:
    squares = jnp.diagonal(products, axis1=1, axis2=2)
    return jnp.expm1(2 * products - squares[:, :, None] - squares[:, None])


# From gamma times the products of all pairs of rows to the kernel, less its value at 0: centring takes a constant away
# in any case, and what is left of weak features would be lost in float32 beside it.
_KERNELS: dict[str, Callable[[Float[Array, "b p p"]], Float[Array, "b p p"]]] = {
    "sigmoid": _sigmoid,
    "rbf": _rbf,
    "polynomial": lambda products: products * (3 + products * (3 + products)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KPCACAM(ActivationMap):
    """Eigen-CAM with a kernel in place of the scalar product of two positions; the same for all classes.

    $$ C = \\sqrt{\\lambda_1}\\, v_1, \\qquad
       \\tilde K v_1 = \\lambda_1 v_1 \\text{ with the largest } \\lambda, \\qquad
       \\tilde K = \\big(I - \\tfrac1Z 1 1^T\\big) K \\big(I - \\tfrac1Z 1 1^T\\big), \\qquad
       K_{pq} = k(A_p - \\bar A,\\, A_q - \\bar A) $$
    $$ k(x, y) = \\tanh(\\gamma\\, x^T y + 1), \\quad \\exp(-\\gamma \\|x - y\\|^2) \\quad \\text{or} \\quad
       (\\gamma\\, x^T y + 1)^3 $$

    The sign is that which makes the value of the largest size positive. The map's mean is 0. Memory is that of two
    matrices of Z squared for each image.

    Attributes:
      kernel: "sigmoid", "rbf" or "polynomial", in the order of the equation.
      gamma: of the kernel; 0: 1 / c, c being the number of channels.

    Raises:
      InputError: a setting is outside its range.

    Reference: Karmani et al., KPCA-CAM, 2024, arXiv:2410.00267; details (that the features are centred, the kernels'
    constants) are those of the authors' program in pytorch-grad-cam.
    """

    title = "KPCA-CAM"
    kernel: str = "sigmoid"
    gamma: float = 0.0

    def __post_init__(self) -> None:
        known(self, kernel=_KERNELS)
        at_least(self, gamma=0)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        b, h, w, c = target.features.shape
        rows = target.features.reshape(b, h * w, c)
        rows = rows - rows.mean(axis=1, keepdims=True)
        products = (self.gamma or 1 / c) * jnp.einsum("bpc,bqc->bpq", rows, rows, precision=_EXACT)
        matrix = _KERNELS[self.kernel](products)
        for axis in (1, 2):
            matrix = matrix - matrix.mean(axis=axis, keepdims=True)
        scale = jnp.abs(matrix).max(axis=(1, 2), keepdims=True)
        matrix /= jnp.where(scale == 0, 1, scale)
        # Some eigenvalues of a sigmoid may be negative; none is below minus 1 of a matrix whose squares add up to 1.
        vector = leading(unit(matrix) + jnp.eye(h * w)) * (scale[..., 0] > 0)
        value = jnp.einsum("bp,bpq,bq->b", vector, matrix, vector, precision=_EXACT)[:, None] * scale[..., 0]
        return with_positive_peak((vector * jnp.sqrt(jnp.where(value > 0, value, 1))).reshape(b, h, w))
