"""What each of JAX's operations is in ONNX, of those that networks and their maps need in inference.

An operation adds its nodes to a graph, by the traced equation and the names of its inputs, and gives its output's name.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from fcam_jax.errors import InputError
from fcam_jax.runs.onnx_graph import Computed, Graph, Known, closed_size, type_of


def unknown(what: str) -> InputError:
    """The error for what is not known here."""
    return InputError(f"--format=onnx: {what} is not known in ONNX here; --format=stablehlo takes every network")


def _chain(text: str) -> Callable[[Graph, Any, list[str]], str]:
    def chain(graph: Graph, equation: Any, names: list[str]) -> str:
        for operation in text.split():
            names = [graph.node(operation, *names)]
        return names[0]

    return chain


def _select(graph: Graph, equation: Any, names: list[str]) -> str:
    return graph.node("Where", names[0], names[2], names[1])


def _clamp(graph: Graph, equation: Any, names: list[str]) -> str:
    return graph.node("Min", graph.node("Max", names[1], names[0]), names[2])


def _finite(graph: Graph, equation: Any, names: list[str]) -> str:
    return graph.node("Not", graph.node("Or", graph.node("IsNaN", names[0]), graph.node("IsInf", names[0])))


def _erfc(graph: Graph, equation: Any, names: list[str]) -> str:
    return graph.node("Sub", graph.constant(1, _out(equation).dtype), graph.node("Erf", names[0]))


def _cast(graph: Graph, equation: Any, names: list[str]) -> str:
    return graph.node("Cast", names[0], to=type_of(_out(equation).dtype))


def _power(graph: Graph, equation: Any, names: list[str]) -> str:
    power = equation.params.get("y", 2)
    if power == 2:
        return graph.node("Mul", names[0], names[0])
    return graph.node("Pow", names[0], graph.constant(power, _out(equation).dtype))


# The meaning of several in a row is the one around the other, and of none the input itself.
_CHAINS = {
    "abs": "Abs", "add": "Add", "add_any": "Add", "and": "And", "ceil": "Ceil", "copy": "", "cos": "Cos", "div": "Div",
    "eq": "Equal", "erf": "Erf", "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual", "gt": "Greater",
    "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less", "max": "Max", "min": "Min", "mul": "Mul",
    "name": "", "ne": "Equal Not", "neg": "Neg", "not": "Not", "optimization_barrier": "", "or": "Or", "pow": "Pow",
    "rsqrt": "Sqrt Reciprocal", "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt", "stop_gradient": "", "sub": "Sub",
    "tanh": "Tanh",
}  # fmt: skip
ELEMENTWISE = {name: _chain(text) for name, text in _CHAINS.items()} | {
    "clamp": _clamp,
    "convert_element_type": _cast,
    "erfc": _erfc,
    "integer_pow": _power,
    "is_finite": _finite,
    "select_n": _select,
    "square": _power,
}


def _out(equation: Any) -> Any:
    return equation.outvars[0].aval


def _shape(equation: Any, index: int) -> tuple[Any, ...]:
    return tuple(equation.invars[index].aval.shape)


def _reshape(graph: Graph, equation: Any, names: list[str]) -> str:
    return graph.reshape(names[0], _out(equation).shape)


def _transpose(graph: Graph, equation: Any, names: list[str]) -> str:
    return graph.transpose(names[0], equation.params["permutation"])


def _concatenate(graph: Graph, equation: Any, names: list[str]) -> str:
    return graph.node("Concat", *names, axis=equation.params["dimension"])


def _stack(graph: Graph, equation: Any, names: list[str]) -> str:
    axis = equation.params["axis"]
    return graph.node("Concat", *(graph.node("Unsqueeze", name, graph.ints([axis])) for name in names), axis=axis)


def _cut(graph: Graph, name: str, axes: Sequence[int], *bounds: Sequence[int]) -> str:
    """From the first of the bounds to the second, and by the third if there is one."""
    start, stop, *steps = map(graph.ints, bounds)
    return graph.node("Slice", name, start, stop, graph.ints(axes), *steps)


def _slice(graph: Graph, equation: Any, names: list[str]) -> str:
    first, last, steps = (equation.params[key] for key in ("start_indices", "limit_indices", "strides"))
    steps = steps or (1,) * len(first)
    cuts = zip(first, last, steps, _shape(equation, 0), strict=True)
    axes = [axis for axis, (start, stop, step, size) in enumerate(cuts) if (start, step) != (0, 1) or stop != size]
    return _cut(graph, names[0], axes, *([of[a] for a in axes] for of in (first, last, steps))) if axes else names[0]


def _split(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    stops = np.cumsum(equation.params["sizes"]).tolist()
    starts = [0, *stops[:-1]]
    axis = equation.params["axis"]
    return [_cut(graph, names[0], [axis], [start], [stop]) for start, stop in zip(starts, stops, strict=True)]


def _reverse(graph: Graph, equation: Any, names: list[str]) -> str:
    axes = equation.params["dimensions"]
    back = [-1] * len(axes)
    return _cut(graph, names[0], axes, back, [np.iinfo(np.int64).min] * len(axes), back)


def _pad(graph: Graph, equation: Any, names: list[str]) -> str:
    low, high, between = zip(*equation.params["padding_config"], strict=True)
    if any(between):
        raise unknown("padding between values")
    return graph.node("Pad", names[0], graph.ints([*low, *high]), names[1])


def _argmax(graph: Graph, equation: Any, names: list[str]) -> str:
    found = graph.node("ArgMax", names[0], axis=equation.params["axes"][0], keepdims=0)
    return graph.node("Cast", found, to=type_of(_out(equation).dtype))


def _reduction(operation: str, logical: bool = False) -> Callable[[Graph, Any, list[str]], str]:
    def reduction(graph: Graph, equation: Any, names: list[str]) -> str:
        numbers = graph.node("Cast", names[0], to=TensorProto.INT32) if logical else names[0]
        found = graph.node(operation, numbers, graph.ints(equation.params["axes"]), keepdims=0)
        return graph.node("Cast", found, to=TensorProto.BOOL) if logical else found

    return reduction


def _gather(graph: Graph, equation: Any, names: list[str]) -> str:
    """One slice, or whole ones at places of some axes."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape, out, last = _shape(equation, 0), _out(equation).shape, len(_shape(equation, 1)) - 1
    axes, batch, beside = numbers.start_index_map, numbers.operand_batching_dims, numbers.start_indices_batching_dims
    rest = [axis for axis in range(len(shape)) if axis not in (*axes, *batch)]
    places = graph.node("Cast", names[1], to=TensorProto.INT64)
    if any(sizes[axis] != shape[axis] for axis in rest):
        raise unknown("gathering parts of slices")
    if last == 0:
        stop = graph.node("Add", places, graph.ints([sizes[axis] for axis in axes]))
        return graph.reshape(graph.node("Slice", names[0], places, stop, graph.ints(axes)), out)
    if set(numbers.collapsed_slice_dims) != set(axes):
        raise unknown("gathering slices of several places")
    order = [*beside, *(axis for axis in range(last) if axis not in beside)]  # the last axis has the coordinates
    tensor, places = graph.transpose(names[0], [*batch, *axes, *rest]), graph.transpose(places, [*order, last])
    picked = [axis for axis in range(len(out)) if axis not in numbers.offset_dims]
    found = graph.node("GatherND", tensor, places, batch_dims=len(batch))
    return graph.transpose(found, np.argsort([*(picked[axis] for axis in order), *numbers.offset_dims]).tolist())


def _product(graph: Graph, equation: Any, names: list[str]) -> str:
    """A product of matrices: batch axes, then one for all that is free, and one that is summed over."""
    summed, batch = equation.params["dimension_numbers"]
    sides = []
    for index in (0, 1):
        shape = _shape(equation, index)
        kept = [axis for axis in range(len(shape)) if axis not in (*summed[index], *batch[index])]
        groups = (kept, summed[index]) if index == 0 else (summed[index], kept)
        sizes = [int(np.prod([shape[a] for a in of])) if closed_size([shape[a] for a in of]) else None for of in groups]
        moved = graph.transpose(names[index], [*batch[index], *groups[0], *groups[1]])
        sides.append(graph.reshape(moved, [*(shape[a] for a in batch[index]), *sizes]))
    return graph.reshape(graph.node("MatMul", *sides), _out(equation).shape)


def _convolution(graph: Graph, equation: Any, names: list[str]) -> str:
    params = equation.params
    if set(params["lhs_dilation"]) != {1} or params["batch_group_count"] != 1:
        raise unknown("a transposed convolution")
    image, kernel, result = params["dimension_numbers"]
    low, high = zip(*params["padding"], strict=True)
    found = graph.node(
        "Conv", graph.transpose(names[0], image), graph.transpose(names[1], kernel), strides=params["window_strides"],
        pads=[*low, *high], dilations=params["rhs_dilation"], group=params["feature_group_count"],
    )  # fmt: skip
    return graph.transpose(found, np.argsort(result).tolist())


def _pool(graph: Graph, equation: Any, name: str, operation: str, **more: Any) -> str:
    """Of maps [b, h, w], or [b, h, w, c]."""
    params, rank = equation.params, len(equation.params["window_dimensions"])
    order = [axis for axis in range(rank) if axis not in (1, 2)] + [1, 2]
    strange = any(params["window_dimensions"][axis] != 1 for axis in order[:-2])
    if rank not in (3, 4) or strange or {*params["base_dilation"], *params["window_dilation"]} != {1}:
        raise unknown("this kind of pooling")
    low, high = zip(*params["padding"][1:3], strict=True)
    image = graph.transpose(name, order) if rank == 4 else graph.node("Unsqueeze", name, graph.ints([1]))
    window, strides = (params[key][1:3] for key in ("window_dimensions", "window_strides"))
    found = graph.node(operation, image, kernel_shape=window, strides=strides, pads=[*low, *high], **more)
    back = np.argsort(order).tolist()
    return graph.transpose(found, back) if rank == 4 else graph.node("Squeeze", found, graph.ints([1]))


def _max_pool(graph: Graph, equation: Any, names: list[str]) -> str:
    return _pool(graph, equation, names[0], "MaxPool")


def _sum_pool(graph: Graph, equation: Any, names: list[str]) -> str:
    mean = _pool(graph, equation, names[0], "AveragePool", count_include_pad=1)
    count = np.prod(equation.params["window_dimensions"])
    return graph.node("Mul", mean, graph.constant(count, _out(equation).dtype))


OPERATIONS: dict[str, Callable[[Graph, Any, list[str]], str | list[str]]] = {
    "argmax": _argmax,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "expand_dims": _reshape,
    "gather": _gather,
    "pad": _pad,
    "reduce_and": _reduction("ReduceMin", logical=True),
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_or": _reduction("ReduceMax", logical=True),
    "reduce_prod": _reduction("ReduceProd"),
    "reduce_sum": _reduction("ReduceSum"),
    "reduce_window_max": _max_pool,
    "reduce_window_sum": _sum_pool,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "transpose": _transpose,
}


def _iota(graph: Graph, equation: Any, given: list[Known]) -> list[Known]:
    out, axis = _out(equation), equation.params["dimension"]
    shape = tuple(size if at == axis else 1 for at, size in enumerate(out.shape))
    if closed_size(shape):
        return [np.arange(shape[axis], dtype=out.dtype).reshape(shape)]
    stop = graph.node("Squeeze", graph.sizes((shape[axis],)))
    numbers = graph.node("Range", graph.constant(0, np.int64), stop, graph.constant(1, np.int64))
    return [Computed(graph.reshape(graph.node("Cast", numbers, to=type_of(out.dtype)), shape), shape)]


def _size(graph: Graph, equation: Any, given: list[Known]) -> list[Known]:
    size = graph.node("Squeeze", graph.sizes((equation.params["dim"],)))
    return [Computed(graph.node("Cast", size, to=type_of(_out(equation).dtype)), ())]


def _scatter(graph: Graph, equation: Any, given: list[Known]) -> list[Known]:
    """Zeros with a slice in them, or with a number in each row: what the gradient of taking these is."""
    numbers, (shape, at, part) = equation.params["dimension_numbers"], (_shape(equation, index) for index in range(3))
    zeros, places = given[:2]
    if isinstance(zeros, Computed) or zeros.any():
        raise unknown("adding to places of an array")
    update = graph.full(given[2], part)
    if numbers.operand_batching_dims == (0,) and len(shape) == 2 and at[-1] == 1:
        columns = np.arange(shape[1])[None].astype(equation.invars[1].aval.dtype)
        hit = graph.node("Equal", graph.full(places, at), graph.constant(columns))
        zero = graph.constant(0, zeros.dtype)
        return [Computed(graph.node("Where", hit, graph.reshape(update, (shape[0], 1)), zero), shape)]
    if isinstance(places, Computed) or len(at) != 1:
        raise unknown("adding to several places of an array")
    first = dict(zip(numbers.scatter_dims_to_operand_dims, places.tolist(), strict=True))
    sizes = iter(part)
    widths = [1 if axis in numbers.inserted_window_dims else next(sizes) for axis in range(len(shape))]
    low = [first.get(axis, 0) for axis in range(len(shape))]
    high = [int(size - width - skipped) for size, width, skipped in zip(shape, widths, low, strict=True)]
    return [Computed(graph.node("Pad", graph.reshape(update, widths), graph.ints([*low, *high])), shape)]


# Those that look at which of their inputs are constants, or have none.
OF_CONSTANTS = {"dim_as_value": _size, "iota": _iota, "scatter-add": _scatter}
