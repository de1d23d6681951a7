"""The layers of a Flax network by name: which there are, and which one is meant.

Names are paths with dots, of NNX's attributes (`"layer4.1"`, `"blocks.3.norm1"`) or Linen's modules
(`"Block_2.Conv_0"`); `"blocks[3]"` and `"Block_2/Conv_0"` are the same. The end of a path is enough where it is
the end of one alone.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from flax import linen, nnx

from fcam_jax.errors import InputError

Path = tuple[str | int, ...]


class Layer(NamedTuple):
    """A layer of a network."""

    name: str
    kind: str  # the class of the module; nothing where it is not known
    shapes: tuple[tuple[int, ...] | None, ...] = ()  # of its output at every call; None: that is no array

    def __str__(self) -> str:
        shapes = ", ".join("no array" if shape is None else str(shape) for shape in self.shapes)
        return "  ".join(part for part in (self.name, self.kind, shapes) if part)


def nnx_paths(model: nnx.Module) -> dict[Path, Any]:
    """The modules within a module and lists of them, by path, in the order of a walk."""
    found: dict[Path, Any] = {}
    for path, module in nnx.iter_graph(model):
        if path and isinstance(module, nnx.Module | nnx.List):
            found[tuple(part if isinstance(part, int) else str(part) for part in path)] = module
    return dict(sorted(found.items(), key=lambda item: [_in_order(part) for part in item[0]]))


def linen_paths(variables: Any) -> list[Path]:
    """The modules that have variables, by path."""
    found: dict[Path, None] = {}
    for collection in variables.values():
        for keys, _ in jax.tree_util.tree_flatten_with_path(collection)[0]:
            names = tuple(key.key for key in keys if isinstance(key, jax.tree_util.DictKey))
            found |= dict.fromkeys(names[:end] for end in range(1, len(names)))
    return sorted(found, key=lambda path: [_in_order(part) for part in path])


def _in_order(part: str | int) -> tuple[str, int]:
    """The place of a name among others: numbers at its end count as such."""
    letters, digits = re.fullmatch(r"(.*?)(\d*)", str(part)).groups()  # type: ignore[union-attr]
    return letters, int(digits or -1)


def dotted(path: Sequence[str | int]) -> str:
    """A path as a name."""
    return ".".join(map(str, path))


def path_of(name: str, known: Sequence[Path]) -> Path:
    """The path of the layer that a name means.

    Raises:
      InputError: there is none, or several have paths that end so; the message has the nearest names.
    """
    wanted = re.sub(r"\[(\w+)\]", r".\1", name).replace("/", ".").strip(".")
    names = {dotted(path): path for path in known}
    if wanted in names:
        return names[wanted]
    ends = [one for one in names if one.endswith(f".{wanted}")]
    if len(ends) == 1:
        return names[ends[0]]
    if ends:
        raise InputError(f"several layers are called {name!r}: {', '.join(ends[:5])}")
    near = difflib.get_close_matches(wanted, names, n=5, cutoff=0.4) or list(names)[:8]
    raise InputError(f"the network has no layer {name!r}; near: {', '.join(near)} (all: fc.cams.list_layers(model))")


def path_of_module(layer: Any, modules: dict[Path, Any]) -> Path:
    """The path of a module of an NNX network. Raises InputError: the network does not have it."""
    for path, module in modules.items():
        if module is layer:
            return path
    raise InputError(f"a {type(layer).__name__} of target_layers is no part of the model; give its layers, or names")


def check_linen(layer: Any) -> None:
    """Refuse a Linen module as a layer: it has no place of its own before the network is called."""
    if isinstance(layer, linen.Module):
        raise InputError("layers of a Linen network are given by name, such as 'Block_2/Conv_0' (fc.cams.list_layers)")
