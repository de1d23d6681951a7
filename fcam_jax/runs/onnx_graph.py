"""An ONNX graph as it is built: nodes, constants, and tensors in shapes that broadcast to their own.

A tensor is kept so until an operation needs all of it, as most of ONNX's operations broadcast. One size, that of the
batch, may be open.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import onnx
from onnx import helper

Shape = tuple[Any, ...]  # whole numbers, and the open size


class Computed(NamedTuple):
    """A tensor that depends on the inputs."""

    name: str
    shape: Shape


Known = Computed | np.ndarray


def described(name: str, spec: Any) -> onnx.ValueInfoProto:
    """A tensor's name, type and shape."""
    shape = [size if isinstance(size, int) else str(size) for size in spec.shape]
    return helper.make_tensor_value_info(name, type_of(spec.dtype), shape)


def type_of(dtype: Any) -> int:
    """ONNX's number of a type; bfloat16 is computed in float32, as runtimes have no convolutions in it."""
    return int(helper.np_dtype_to_tensor_dtype(_widened(np.dtype(dtype))))


def _widened(dtype: Any) -> Any:
    return np.dtype(np.float32) if dtype == jnp.bfloat16 else dtype


def closed_size(shape: Sequence[Any]) -> bool:
    """Whether no size is open."""
    return all(isinstance(size, int) for size in shape)


class Graph:
    """Nodes and constants as they are added; the body of a loop sees the names of the graph around it."""

    def __init__(self, batch: str, outer: "Graph | None" = None):
        """`batch` is the input whose first axis is the batch."""
        self.batch = batch
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = [] if outer is None else outer.constants
        self._names: list[str] = [] if outer is None else outer._names
        self._known: dict[Any, str] = {} if outer is None else outer._known
        self._made: dict[Any, str] = {} if outer is None else dict(outer._made)

    def name(self) -> str:
        """A new one."""
        self._names.append(f"t{len(self._names)}")
        return self._names[-1]

    def node(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """The output of a node; what was asked for before is there already."""
        key = (operation, inputs, repr(attributes))
        if key not in self._made:
            self._made[key] = self.name()
            self.nodes.append(helper.make_node(operation, inputs, [self._made[key]], **attributes))
        return self._made[key]

    def constant(self, value: Any, dtype: Any = None) -> str:
        """The name of an array."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        array = array.astype(_widened(array.dtype))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.name()
            self.constants.append(onnx.numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def ints(self, values: Sequence[Any]) -> str:
        """The name of whole numbers, as shapes and axes are given."""
        return self.constant(np.array(values, np.int64))

    def tensor(self, value: Known) -> str:
        """The name of a value, in the shape in which it is kept."""
        return value.name if isinstance(value, Computed) else self.constant(value)

    def full(self, value: Known, shape: Shape) -> str:
        """The name of a value in the shape that is its own."""
        if tuple(value.shape) == tuple(shape):
            return self.tensor(value)
        return self.node("Expand", self.tensor(value), self.sizes(shape))

    def sizes(self, shape: Shape) -> str:
        """A shape as a tensor."""
        if closed_size(shape):
            return self.ints(shape)
        batch = self.node("Shape", self.batch, start=0, end=1)
        return self.node("Concat", *(self.ints([d]) if isinstance(d, int) else batch for d in shape), axis=0)

    def reshape(self, name: str, shape: Sequence[Any]) -> str:
        """In another shape, in which one size may be open."""
        return self.node("Reshape", name, self.ints([size if isinstance(size, int) else -1 for size in shape]))

    def transpose(self, name: str, order: Sequence[int]) -> str:
        """With the axes in another order."""
        return name if list(order) == sorted(order) else self.node("Transpose", name, perm=list(order))
