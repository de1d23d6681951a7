"""ONNX models out of traced JAX functions; what depends on no input is computed here and becomes a constant."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Literal
from jax.interpreters.partial_eval import dce_jaxpr
from onnx import helper, numpy_helper

from fcam_jax.runs.onnx_graph import Computed, Graph, Known, closed_size, described, type_of
from fcam_jax.runs.onnx_operations import ELEMENTWISE, OF_CONSTANTS, OPERATIONS, unknown

OPSET, IR_VERSION = 18, 9  # those of ONNX 1.14, of 2023
_LARGE = 1024  # elements of what is kept in half precision
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # parameters of operations that call a function


def onnx_model(
    function: Callable[..., dict[str, jax.Array]], inputs: Mapping[str, jax.ShapeDtypeStruct], facts: dict[str, str]
) -> onnx.ModelProto:
    """A function as an ONNX model.

    Args:
      function: of arrays; gives arrays by their names.
      inputs: shapes and types by name; the first axis of the first one is the batch, which may be open.
      facts: metadata of the model.

    Raises:
      InputError: it has an operation that is not known here.
    """
    closed, made = jax.make_jaxpr(function, return_shape=True)(*inputs.values())
    jaxpr, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    graph = Graph(next(iter(inputs)))
    given = [Computed(name, spec.shape) for name, spec in inputs.items()]
    outputs = {name: made[name] for name in sorted(made)}
    for name, value in zip(outputs, _follow(graph, ClosedJaxpr(jaxpr, closed.consts), given), strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.full(value, outputs[name].shape)], [name]))
    ends = [[described(name, spec) for name, spec in of.items()] for of in (inputs, outputs)]
    whole = helper.make_graph(graph.nodes, "fcam", ends[0], ends[1], graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, facts)
    return model


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large constants kept in half precision; it computes in float32 as before."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _LARGE and np.abs(values).max() <= np.finfo(np.float16).max:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _follow(graph: Graph, closed: ClosedJaxpr, given: Sequence[Known]) -> list[Known]:
    """What a traced function makes of what it is given."""
    jaxpr: Any = closed.jaxpr
    values: dict[Any, Known] = dict(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    values |= dict(zip(jaxpr.invars, given, strict=True))

    def read(one: Any) -> Known:
        literal: Any = one.aval if isinstance(one, Literal) else None
        return values[one] if literal is None else np.asarray(one.val, literal.dtype)

    for equation in jaxpr.eqns:
        found = _equation(graph, equation, [read(one) for one in equation.invars])
        values.update(zip(equation.outvars, found, strict=True))
    return [read(one) for one in jaxpr.outvars]


def _equation(graph: Graph, equation: Any, given: list[Known]) -> list[Known]:
    kind, outs = equation.primitive.name, [one.aval for one in equation.outvars]
    inner = next((equation.params[key] for key in _CALLS if key in equation.params), None)
    if kind == "while":
        return _loop(graph, equation, given)
    if kind == "platform_index":  # the form of a function that is for all platforms but those it names
        return [np.array(equation.params["platforms"].index(None), np.int32)]
    if kind == "cond" and isinstance(given[0], np.ndarray):
        return _follow(graph, equation.params["branches"][int(given[0])], given[1:])
    if inner is not None:
        return _follow(graph, inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), given)
    shapes = [one.aval.shape for one in equation.invars]
    if kind == "broadcast_in_dim" and len(given) == 1:
        places = dict(zip(equation.params["broadcast_dimensions"], given[0].shape, strict=True))
        shape = tuple(places.get(axis, 1) for axis in range(len(outs[0].shape)))
        one = given[0]
        return [Computed(graph.reshape(one.name, shape), shape) if isinstance(one, Computed) else one.reshape(shape)]
    broadcasts = kind in ELEMENTWISE
    constants = [one for one in given if isinstance(one, np.ndarray)]
    known = len(constants) == len(given) and all(closed_size(one.shape) for one in outs)
    if known and kind != "dim_as_value":
        whole = np.broadcast_arrays(*constants) if broadcasts else map(np.broadcast_to, constants, shapes)
        found = equation.primitive.bind(*map(jnp.asarray, whole), **equation.params)
        return [np.asarray(one) for one in (found if equation.primitive.multiple_results else [found])]
    if broadcasts:
        names = [graph.tensor(one) for one in given]
        joint = zip(*([1] * (len(outs[0].shape) - len(one.shape)) + [*one.shape] for one in given), strict=True)
        kept = tuple(next((size for size in sizes if not isinstance(size, int) or size != 1), 1) for sizes in joint)
        return [Computed(ELEMENTWISE[kind](graph, equation, names), kept)]
    if kind in OF_CONSTANTS:
        return OF_CONSTANTS[kind](graph, equation, given)
    if kind not in OPERATIONS:
        raise unknown(kind)
    names = [graph.full(one, shape) for one, shape in zip(given, shapes, strict=True)]
    made = OPERATIONS[kind](graph, equation, names)
    names = [made] if isinstance(made, str) else made
    return [Computed(name, out.shape) for name, out in zip(names, outs, strict=True)]


def _loop(graph: Graph, equation: Any, given: list[Known]) -> list[Known]:
    """A Loop that is entered by the condition and asks it after each turn."""
    params, avals = equation.params, [one.aval for one in equation.outvars]
    of_cond, of_both = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    cond, body = given[:of_cond], given[of_cond:of_both]
    start = [graph.full(one, aval.shape) for one, aval in zip(given[of_both:], avals, strict=True)]
    state: list[Known] = [Computed(name, aval.shape) for name, aval in zip(start, avals, strict=True)]
    entered = graph.tensor(_follow(graph, params["cond_jaxpr"], [*cond, *state])[0])
    turn = Graph(graph.batch, graph)
    inside: list[Known] = [Computed(turn.name(), aval.shape) for aval in avals]
    after = _follow(turn, params["body_jaxpr"], [*body, *inside])
    again = turn.tensor(_follow(turn, params["cond_jaxpr"], [*cond, *after])[0])
    # Outputs of a body must be its own nodes.
    results = [again, *(turn.full(one, aval.shape) for one, aval in zip(after, avals, strict=True))]
    outer = [turn.name() for _ in results]
    turn.nodes += [helper.make_node("Identity", [name], [own]) for name, own in zip(results, outer, strict=True)]
    number, asked = (helper.make_tensor_value_info(turn.name(), type_of(kind), []) for kind in (np.int64, np.bool_))
    begins = [described(turn_name, aval) for turn_name, aval in zip(map(turn.tensor, inside), avals, strict=True)]
    ends = [described(name, aval) for name, aval in zip(outer[1:], avals, strict=True)]
    asks = helper.make_tensor_value_info(outer[0], type_of(np.bool_), [])
    inner = helper.make_graph(turn.nodes, "turn", [number, asked, *begins], [asks, *ends])
    names = [graph.name() for _ in avals]
    graph.nodes.append(helper.make_node("Loop", ["", entered, *start], names, body=inner))
    return [Computed(name, aval.shape) for name, aval in zip(names, avals, strict=True)]
