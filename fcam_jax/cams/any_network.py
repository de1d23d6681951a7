"""Any Flax network as a `Network`: a stage for every target layer, cut at the layer's output.

The whole network is run for a score, with the layer's output replaced. What comes before the layer is dead code then,
which the compiler takes out.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, Float

from fcam_jax.cams.layers import Layer, check_linen, dotted, linen_paths, nnx_paths, path_of, path_of_module
from fcam_jax.cams.layouts import check_layout, put_back
from fcam_jax.cams.tapped import Call, Same, Tapped, TappedLinen, inference, tapped_nnx
from fcam_jax.errors import InputError
from fcam_jax.models.constants import Watch
from fcam_jax.models.encoder import Grid
from fcam_jax.runtime.text import first_line

Reshape = Callable[[Any], Any]
GridOf = Callable[[tuple[int, int]], Grid]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerOutput:
    """A stage: what a layer gave for some inputs."""

    inputs: Any
    activation: Any
    layout: Reshape | None = dataclasses.field(metadata={"static": True})

    @property
    def space(self) -> Array:
        """The map as it lies in the image, [b, h, w, c] or [b, d, h, w, c]."""
        return self.activation if self.layout is None else self.layout(self.activation)

    def with_map(self, features: Float[Array, "b h w c"]) -> "LayerOutput":
        """With another map, of which the depths lie one below the other."""
        features = features.reshape(self.space.shape)
        activation = features if self.layout is None else put_back(self.layout, self.activation, features)
        return dataclasses.replace(self, activation=activation)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AnyNetwork:
    """A network that is cut at some of its layers; images are what the network takes."""

    body: Any  # a `Tapped`
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})  # of the layers
    layouts: tuple[Reshape | None, ...] = dataclasses.field(metadata={"static": True})  # of each
    grids: tuple[GridOf | None, ...] = dataclasses.field(metadata={"static": True})  # of each; None: an even one

    def normalize(self, images: Array) -> Array:
        """The images, as they are."""
        return images

    def stages(self, inputs: Array) -> tuple[LayerOutput, ...]:
        """What the layers give, in their order."""
        _, taken = self.body.run(inputs, {})
        return tuple(LayerOutput(inputs, found[0], layout) for found, layout in zip(taken, self.layouts, strict=True))

    def score(self, features: LayerOutput, stage: int) -> Any:
        """The network's output, whatever it is, with the output of a layer replaced."""
        return self.body.run(features.inputs, {stage: features.activation})[0]

    def watched_output(self, inputs: Array, watch: Watch) -> Any:
        """The network's output, with a call of `watch` for every layer that adds a constant."""
        return self.body.run(inputs, {}, watch)[0]

    def map_of(self, stage: LayerOutput) -> Float[Array, "b h w c"]:
        """The map of a layer; of volumes, with the depths one below the other."""
        space = stage.space
        return space.reshape(len(space), -1, *space.shape[-2:])

    def with_map(self, stage: LayerOutput, features: Float[Array, "b h w c"]) -> LayerOutput:
        """The layer's output with another map."""
        return stage.with_map(features)

    def depth(self, stage: LayerOutput) -> int:
        """Depths of a volume's map; 0 of an image's."""
        space = stage.space
        return int(space.shape[1]) if space.ndim == 5 else 0

    def grid(self, stage: int, size: tuple[int, int]) -> Grid | None:
        """Where the cells of a layer lie, if that is known."""
        of_size = self.grids[stage]
        return None if of_size is None else of_size(size)

    def shapes(self, inputs: jax.ShapeDtypeStruct) -> tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]:
        """The shapes of the network's output and of the layers' maps; nothing is computed.

        Raises:
          InputError: the network does not take such inputs, or a layer gives no map, or none that is clear.
        """
        output, taken = _followed(self.body, inputs)
        found = []
        for name, calls, layout in zip(self.names, taken, self.layouts, strict=True):
            activation = _only(name, calls)
            if layout is not None:
                check_layout(layout, activation)
                activation = jax.eval_shape(layout, activation)
            found.append(_checked(name, activation, inputs))
        return output, tuple(found)


def any_network(model: Any, target_layers: Sequence[Any], reshape: Any = None, call: Call | None = None) -> AnyNetwork:
    """A network that is cut at the target layers.

    Args:
      model: an NNX module, or a Linen module with its variables as a pair.
      target_layers: modules of the NNX network, or names.
      reshape: from a layer's output to a map [b, h, w, c], such as `layouts.tokens`; or a list, one for each layer.
      call: the network's output for a module and its inputs; by default the module is called in inference mode.

    Raises:
      InputError: the model is no Flax network, or a layer is not one of it.
    """
    layouts = tuple(reshape) if isinstance(reshape, list | tuple) else (reshape,) * len(target_layers)
    if len(layouts) != len(target_layers):
        raise InputError(f"reshape has {len(layouts)} entries for {len(target_layers)} target layers")
    if wrong := [one for one in layouts if not (one is None or callable(one))]:
        raise InputError(f"reshape is {wrong[0]!r:.100}; it must be a function, such as fc.cams.tokens(prefix=1)")
    paths = paths_of(model, target_layers)
    body = _tapped(model, paths, call)
    return AnyNetwork(body, tuple(map(dotted, paths)), layouts, (None,) * len(paths))


def list_layers(model: Any, images: Any = None, *, call: Call | None = None) -> list[Layer]:
    """The layers of a network, by the names that `target_layers` takes.

    Args:
      model: as for `any_network`.
      images: inputs of the network, or arrays of that shape; with them, the output's shapes at every call are found.
        Linen's modules without variables are known with images alone.
      call: as for `any_network`.
    """
    if images is None:
        if isinstance(model, nnx.Module):
            modules = nnx_paths(model).items()
            return [Layer(dotted(path), type(module).__name__) for path, module in modules]
        _, variables = _linen(model)
        return [Layer(dotted(path), "") for path in linen_paths(variables)]
    inputs = jax.ShapeDtypeStruct(jnp.shape(images), jnp.float32)
    if isinstance(model, nnx.Module):
        kinds = {path: type(one).__name__ for path, one in nnx_paths(model).items() if callable(one)}
    else:
        kinds = _linen_kinds(model, inputs, call)
    _, taken = _followed(_tapped(model, list(kinds), call), inputs)
    shapes = [tuple(getattr(one, "shape", None) for one in calls) for calls in taken]
    return [Layer(dotted(path), kind, of_it) for (path, kind), of_it in zip(kinds.items(), shapes, strict=True)]


def paths_of(model: Any, target_layers: Sequence[Any]) -> list[Any]:
    """The paths of layers that are given as modules or names."""
    modules = nnx_paths(model) if isinstance(model, nnx.Module) else {}
    known: list[Any] = list(modules) or linen_paths(_linen(model)[1])
    paths = []
    for layer in target_layers:
        check_linen(layer)
        path = path_of(layer, known) if isinstance(layer, str) else path_of_module(layer, modules)
        paths.append(_last_of(path, modules))
    return paths


def _tapped(model: Any, paths: Sequence[Any], call: Call | None) -> Tapped:
    """The network, in which the layers at some paths can be read and replaced."""
    if isinstance(model, nnx.Module):
        return tapped_nnx(model, paths, call)
    module, variables = _linen(model)
    return TappedLinen(dict(variables), Same(module), tuple(paths), call or inference(type(module)))


def _linen(model: Any) -> tuple[linen.Module, Any]:
    """A Linen module and its variables."""
    if isinstance(model, linen.Module):
        if model.scope is None:
            raise InputError("a Linen module needs its variables: give the pair (module, variables)")
        return model.unbind()
    if not (isinstance(model, tuple | list) and len(model) == 2 and isinstance(model[0], linen.Module)):
        raise InputError(
            f"{type(model).__name__} is no network for CAMs: give an NNX module, or the pair of a Linen module and its "
            "variables"
        )
    if not hasattr(model[1], "items") or "params" not in model[1]:
        raise InputError("the variables of a Linen module are a dict with 'params', as its init gives them")
    return model[0], model[1]


def _last_of(path: Any, modules: dict[Any, Any]) -> Any:
    """The path of a module; of a list of modules, that of its last one, which gives what the list does."""
    while isinstance(modules.get(path), nnx.List):
        inner = [one for one in modules if len(one) == len(path) + 1 and one[: len(path)] == path]
        if not inner:
            raise InputError(f"the list {dotted(path)} holds no modules")
        path = max(inner, key=lambda one: one[-1])
    return path


def _linen_kinds(model: Any, inputs: Any, call: Call | None) -> dict[Any, str]:
    """The classes of all modules that are called, by path."""
    module, variables = _linen(model)
    found: dict[Any, str] = {}

    def see(goes_on: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and context.module.path:
            found.setdefault(context.module.path, type(context.module).__name__)
        return goes_on(*args, **kwargs)

    with linen.intercept_methods(see):
        _followed(_tapped((module, variables), [], call), inputs)
    return found


def _followed(body: Tapped, inputs: Any) -> tuple[Any, Any]:
    """The shapes of what a network gives, and of what its layers do."""
    try:
        return jax.eval_shape(functools.partial(_run, body), inputs)
    except InputError:
        raise
    except (flax.errors.TraceContextError, jax.errors.UnexpectedTracerError) as error:
        raise InputError(
            "a target layer lies within a function that JAX transforms (scan, checkpoint, vmap): "
            "take the module around it"
        ) from error
    except Exception as error:
        hint = ""
        if len(inputs.shape) == 4 and inputs.shape[1] <= 4 < inputs.shape[-1]:
            hint = "; images are [b, y, x, c], with the channels last"
        raise InputError(
            f"the network does not take images of the shape {inputs.shape}: {first_line(error)}{hint}"
        ) from error


def _run(body: Tapped, inputs: Any) -> tuple[Any, Any]:
    return body.run(inputs, {})


def _only(name: str, calls: Sequence[Any]) -> jax.ShapeDtypeStruct:
    """The output of a layer that is called once."""
    if not calls:
        raise InputError(
            f"the layer {name} is never called: the network takes another way, calls a method of it other than "
            "__call__, or runs it within a scan"
        )
    if len(calls) > 1:
        raise InputError(f"the layer {name} is called {len(calls)} times; take one that is called once")
    if not isinstance(calls[0], jax.ShapeDtypeStruct):
        kind = type(calls[0]).__name__
        raise InputError(f"the layer {name} gives a {kind}, not an array; take a layer in it, or after it")
    return calls[0]


def _checked(name: str, activation: Any, inputs: Any) -> jax.ShapeDtypeStruct:
    shape = getattr(activation, "shape", None)
    if shape is None or len(shape) != len(inputs.shape):
        cure = "reshape=fc.cams.tokens(prefix=1) for tokens" if shape and len(shape) == 3 else "reshape="
        raise InputError(
            f"the layer {name} gives {shape}, and a map has {len(inputs.shape)} axes, [b, ..., c]: "
            f"take one before the pooling, or give {cure}"
        )
    if shape[0] != inputs.shape[0] or 0 in shape:
        raise InputError(f"the layer {name} gives {shape} for {inputs.shape[0]} images; the first axis must be theirs")
    if not jnp.issubdtype(activation.dtype, jnp.floating):
        raise InputError(f"the layer {name} gives {activation.dtype}, which has no gradient")
    return activation
