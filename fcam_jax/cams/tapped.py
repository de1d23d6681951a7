"""Flax networks as they are, run with the outputs of some layers read, or replaced.

The network that was given is never changed: NNX modules are copied, and Linen's calls are intercepted.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
from flax import linen, nnx

from fcam_jax.cams.layers import Path, dotted
from fcam_jax.errors import InputError
from fcam_jax.models.constants import Watch, watch_layers, watching

Call = Callable[[Any, Any], Any]  # from a module and its inputs to its output
Taken = tuple[tuple[Any, ...], ...]  # outputs of every layer, at each of its calls

# What switches a network to inference, as attributes or arguments of its call.
INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}
_TAKEN, _GIVEN = "cam_taken", "cam_given"


@runtime_checkable
class Tapped(Protocol):
    """A network whose layers, by their positions in a list, can be read and replaced."""

    def run(self, inputs: Any, given: Mapping[int, Any], watch: Watch | None = None) -> tuple[Any, Taken]:
        """The network's output, and those of the layers; some layers give what is `given` in place of their own.

        `watch` is called for every layer that adds a constant (`models.constants`).
        """


@dataclasses.dataclass(frozen=True)
class Inference:
    """The call of a network in inference mode: arguments of these names are set where its signature has them."""

    settings: tuple[tuple[str, bool], ...]

    def __call__(self, module: Any, inputs: Any) -> Any:
        """The network's output."""
        return module(inputs, **dict(self.settings))


def inference(kind: type) -> Inference:
    """The call of a network of a class in inference mode."""
    parameters = inspect.signature(kind.__call__).parameters
    return Inference(tuple((name, value) for name, value in INFERENCE.items() if name in parameters))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TappedNNX:
    """An NNX network; layers are instances of a class that was derived from their own."""

    state: Any
    graph: Any = dataclasses.field(metadata={"static": True})
    paths: tuple[Path, ...] = dataclasses.field(metadata={"static": True})
    call: Call = dataclasses.field(metadata={"static": True})

    def run(self, inputs: Any, given: Mapping[int, Any], watch: Watch | None = None) -> tuple[Any, Taken]:
        """The output, and those of the layers."""
        model = nnx.merge(self.graph, self.state, copy=True)
        if watch is not None:
            watch_layers(model, watch)
        layers = [_at(model, path) for path in self.paths]
        for place, value in given.items():
            setattr(layers[place], _GIVEN, _Tap(value))
        output = self.call(model, inputs)
        return output, tuple(getattr(layer, _TAKEN).get_value() if hasattr(layer, _TAKEN) else () for layer in layers)


def tapped_nnx(model: nnx.Module, paths: Sequence[Path], call: Call | None) -> TappedNNX:
    """A copy of a module in inference mode, of which some layers can be read and replaced."""
    copy = nnx.clone(model)
    copy.eval()
    for _, module in nnx.iter_modules(copy):
        for name in INFERENCE.keys() & vars(module).keys():
            if isinstance(getattr(module, name), bool):
                setattr(module, name, INFERENCE[name])
    for path in paths:
        layer = _at(copy, path)
        if not callable(layer):
            raise InputError(
                f"the layer {dotted(path)} is a {type(layer).__name__}, which is not called; take one in it"
            )
        kind: Any = type(layer)
        object.__setattr__(layer, "__class__", _tapped_class(kind))
    graph, state = nnx.split(copy)
    return TappedNNX(state, graph, tuple(paths), call or inference(type(model)))


class _Tap(nnx.Variable[Any]):
    """A layer's output; as a variable it comes through NNX's own transformations."""


@functools.cache
def _tapped_class(kind: Any) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(self, _GIVEN):
            return getattr(self, _GIVEN).get_value()
        output = kind.__call__(self, *args, **kwargs)
        before = getattr(self, _TAKEN).get_value() if hasattr(self, _TAKEN) else ()
        setattr(self, _TAKEN, _Tap((*before, output)))
        return output

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _at(model: Any, path: Path) -> Any:
    for part in path:
        model = model[part] if isinstance(part, int) else getattr(model, part)
    return model


class Same:
    """Something that is compared by what it is, not by what it holds; Linen's modules may hold what has no hash."""

    def __init__(self, held: Any):
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TappedLinen:
    """A Linen network and its variables."""

    variables: Any
    module: Same = dataclasses.field(metadata={"static": True})
    paths: tuple[Path, ...] = dataclasses.field(metadata={"static": True})
    call: Call = dataclasses.field(metadata={"static": True})

    def run(self, inputs: Any, given: Mapping[int, Any], watch: Watch | None = None) -> tuple[Any, Taken]:
        """The output, and those of the layers."""

        def intercept(goes_on: Any, args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
            path = context.module.path
            if context.method_name != "__call__" or path not in self.paths:
                return goes_on(*args, **kwargs)
            if self.paths.index(path) in given:
                return context.module.get_variable(_GIVEN, "map")
            output = goes_on(*args, **kwargs)
            context.module.sow(_TAKEN, "outputs", output)
            return output

        replaced: dict[str, Any] = {}
        for place, value in given.items():
            _inner(replaced, self.paths[place])["map"] = value
        variables = {**self.variables, **({_GIVEN: replaced} if given else {})}
        watched = contextlib.nullcontext() if watch is None else linen.intercept_methods(watching(watch))
        with watched, linen.intercept_methods(intercept):
            output, found = linen.apply(self.call, self.module.held, mutable=[_TAKEN])(variables, inputs)
        taken = found.get(_TAKEN, {})
        return output, tuple(_inner(taken, path).get("outputs", ()) for path in self.paths)


def _inner(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    for part in path:
        tree = tree.setdefault(str(part), {})
    return tree
