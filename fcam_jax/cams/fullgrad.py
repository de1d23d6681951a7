"""FullGrad: every constant that a layer adds has its share in the score, as the image has."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, AttentionNetwork, Network, Target
from fcam_jax.cams.score_maps import minmax, resample
from fcam_jax.errors import InputError
from fcam_jax.models.constants import Watch


@runtime_checkable
class BiasNetwork(Network, Protocol):
    """A network whose layers show the constants that they add."""

    def watched_output(self, inputs: Float[Array, "b y x _"], watch: Watch) -> Any:
        """The network's output, with a call of `watch` for every layer that adds a constant, as they are computed."""


class FullGrad(ActivationMap):
    """Gradient times input, and gradient times constant of every layer, summed over channels and layers.

    $$ C = \\sum_c \\psi\\big((\\nabla_x s \\odot x)_c\\big)
         + \\sum_l \\sum_c \\psi\\big((\\nabla_{z_l} s\\, b_l)_c\\big), \\qquad \\psi = U(\\mathrm{minmax}(|\\cdot|)) $$

    x is the normalised image, z_l what layer l gives, b_l the constant that it adds (`models.constants`), s the score.
    U brings each map to the cells of the highest stage, or of the finest target layer, bilinearly. For a network of
    convolutions and ReLU all products add up to the score, those of a head's bias included; it has no place in the map.

    One forward and one backward pass through the whole network. Memory is that of a backward pass with the gradients of
    all layers.

    Raises:
      InputError: the network does not show its constants, is one of volumes, or a transformer, most of whose layers
        give no maps.

    Differs from: the paper's implicit biases of other nonlinearities, such as ReLU6 where it is at 6 or GELU, are left
      out, as in the programs. The authors' program scales all channels of a layer together, where the paper and
      pytorch-grad-cam scale each; the latter scales the map of the sum again.

    Reference: Srinivas and Fleuret, Full-gradient representation for neural network visualization, NeurIPS 2019:
    proposition 1, and the map that is made of it.
    """

    title = "FullGrad"
    finest: ClassVar[int] = 0
    whole = "a sum over all layers"

    def check(self, network: Any) -> None:
        if isinstance(network, AttentionNetwork) and network.attention_blocks:
            raise InputError(f"{self.title} is for convolutional networks; take 'legrad', 'gradcam' or 'layercam'")
        if not isinstance(network, BiasNetwork):
            raise InputError(
                f"{self.title} needs a method watched_output(inputs, watch) of {type(network).__name__}, which shows "
                "the constants that layers add; 'hirescam' multiplies features and gradient without"
            )

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map on the grid of the target\'s stage, which is the highest."""
        self.check(target.network)
        if target.inputs.ndim != 4:
            raise InputError(f"{self.title} is for images; take another CAM for volumes, such as 'hirescam'")
        height, width = target.map.shape[1:3]
        maps = jnp.zeros((len(target.inputs), height, width))
        for part in full_gradient(target):
            if part.ndim == 4:
                maps += _placed(_rescaled(part), target)
        return maps


def full_gradient(target: Target) -> list[Float[Array, "b ..."]]:
    """Input times gradient, then constant times gradient of every layer in turn, each of the shape of the former."""
    shapes = jax.eval_shape(lambda inputs: _seen(target, inputs)[1], target.inputs)
    # As varied over devices as the images, so that each device has the gradients of its own.
    zero = jnp.zeros_like(target.inputs[0, 0, 0, 0])
    shifts = [jnp.broadcast_to(zero, outputs.shape) for outputs, _ in shapes]

    def score(inputs: Array, shifts: Sequence[Array]) -> tuple[Array, list[Array]]:
        total, layers = _seen(target, inputs, shifts)
        return total, [constant for _, constant in layers]

    (of_inputs, of_layers), constants = jax.grad(score, argnums=(0, 1), has_aux=True)(target.inputs, shifts)
    products = [gradient * constant for gradient, constant in zip(of_layers, constants, strict=True)]
    return [of_inputs * target.inputs, *products]


def _seen(
    target: Target, inputs: Float[Array, "b y x _"], shifts: Sequence[Array] | None = None
) -> tuple[Float[Array, ""], list[tuple[Array, Array]]]:
    """Sum of the scores of all images, where what each layer gives is shifted; what the layers give, and add."""
    layers: list[tuple[Array, Array]] = []

    def watch(outputs: Array, constant: Array) -> Array:
        layers.append((outputs, constant))
        return outputs if shifts is None else outputs + shifts[len(layers) - 1].astype(outputs.dtype)

    assert isinstance(target.network, BiasNetwork)  # `check` has said so
    return target.explained(target.network.watched_output(inputs, watch)).sum(), layers


def _rescaled(part: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
    """Sum over the channels of their sizes, each scaled to [0, 1]."""
    b, h, w, c = part.shape
    channels = jnp.moveaxis(jnp.abs(part), -1, 1).reshape(b * c, h, w)
    return minmax(channels).reshape(b, c, h, w).sum(axis=1)


def _placed(maps: Float[Array, "b h w"], target: Target) -> Float[Array, "b _ _"]:
    """A layer's maps at the cells of the target's stage; the layer lies as a stage of its size does, or evenly."""
    alike = [stage for stage in map(target.at, range(len(target.stages))) if stage.map.shape[1:3] == maps.shape[1:3]]
    height, width = target.map.shape[1:3]
    return resample(maps, (height, width), alike[0].grid if alike else None, target.grid)
