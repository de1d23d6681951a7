"""The layers of a module that add a constant, shown to whoever watches them."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, Float

Module = TypeVar("Module", bound=nnx.Module)

# Called with what a layer gives and the constant that it adds to every position, a value for each channel; the network
# goes on with what it returns.
Watch = Callable[[Float[Array, "b ... c"], Float[Array, " c"]], Float[Array, "b ... c"]]

_WITH_BIAS = (nnx.Conv, nnx.ConvTranspose, nnx.Linear, nnx.LayerNorm, nnx.GroupNorm)
_LINEN_WITH_BIAS = (linen.Conv, linen.ConvTranspose, linen.Dense, linen.LayerNorm, linen.GroupNorm, linen.BatchNorm)


def watched(module: Module, watch: Watch) -> Module:
    """A copy of a module, of the same arrays, that calls `watch` for every layer that adds a constant.

    The layers come in the order in which they are computed; a layer that is computed twice comes twice. The copy is for
    inference, within one function: it cannot be split or compiled as an argument.
    """
    copy = nnx.merge(*nnx.split(module))
    watch_layers(copy, watch)
    return copy


def watch_layers(module: nnx.Module, watch: Watch) -> None:
    """What `watched` does to its copy."""
    for _, layer in nnx.iter_modules(module):
        if constant_of(layer) is not None:
            vars(layer)["_watch"] = watch
            object.__setattr__(layer, "__class__", _watched(type(layer)))


def watching(watch: Watch) -> Callable[..., Any]:
    """The same for a Linen network, for `linen.intercept_methods`."""

    def intercept(goes_on: Any, args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
        outputs = goes_on(*args, **kwargs)
        constant = linen_constant_of(context.module) if context.method_name == "__call__" else None
        return outputs if constant is None else watch(outputs, constant)

    return intercept


def constant_of(layer: nnx.Module) -> Float[Array, " c"] | None:
    """What a layer adds in inference mode to every position of what it gives; None for a layer that adds nothing.

    It is the bias b, and of BatchNorm, which is linear there,

    $$ \\beta - \\frac{\\gamma\\, \\mu}{\\sqrt{\\sigma^2 + \\epsilon}} $$
    """
    if isinstance(layer, nnx.BatchNorm):
        moved = -layer.mean[...] / jnp.sqrt(layer.var[...] + layer.epsilon)
        scaled = moved if layer.scale is None else layer.scale[...] * moved
        return scaled if layer.bias is None else scaled + layer.bias[...]
    bias = getattr(layer, "bias", None)
    return bias[...] if isinstance(layer, _WITH_BIAS) and bias is not None else None


def linen_constant_of(layer: linen.Module) -> Float[Array, " c"] | None:
    """`constant_of` a Linen layer, while it is called."""
    if not isinstance(layer, _LINEN_WITH_BIAS):
        return None
    bias: Any = layer.get_variable("params", "bias")
    if not isinstance(layer, linen.BatchNorm):
        return bias
    mean, variance = (layer.get_variable("batch_stats", name) for name in ("mean", "var"))
    moved = -mean / jnp.sqrt(variance + layer.epsilon)
    scale = layer.get_variable("params", "scale")
    scaled = moved if scale is None else scale * moved
    return scaled if bias is None else scaled + bias


@functools.cache  # JAX keeps every class that it has seen
def _watched(kind: type[nnx.Module]) -> type:
    def call(self: Any, *args: Any, **settings: Any) -> Any:
        constant = constant_of(self)
        return vars(self)["_watch"](kind.__call__(self, *args, **settings), constant)

    create: type = type(kind)  # the metaclass of modules
    return create(kind.__name__, (kind,), {"__call__": call})
