"""The kernels of a compiled program, what each reads, writes and computes, and the least time that this takes.

Out of the HLO text, that is on paper. Bytes: each kernel reads its operands once and writes its results once; of what
it slices, gathers or updates in place only that part counts. FLOP of products: 2 per multiply-add, by the closed form
of their shapes; products with the zeros that a strided convolution's gradient inserts do not count. All other
arithmetic is an operation an element; sums and windows as many as they take in.
"""

import collections
import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterator
from typing import Protocol

from benchmarks.hlo import Array, Computation, Instruction, Program
from benchmarks.hlo_collectives import KINDS as COLLECTIVES

# Kinds of kernels, as the tables have them.
KINDS = ("cuBLAS", "cuDNN", "product", "own", "fusion", "sort", "move", "collective", "other")

_NOTHING = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "add-dependency",
    "partition-id", "replica-id", "while", "conditional", "call", "domain", "async-start",
}  # fmt: skip
_MOVES = {
    "copy", "copy-start", "transpose", "reshape", "slice", "dynamic-slice", "dynamic-update-slice", "pad", "gather",
    "concatenate", "broadcast", "reverse", "convert", "iota", "bitcast-convert", "tuple", "get-tuple-element",
    "parameter", "constant", "bitcast",
}  # fmt: skip
_SPECIAL = {
    "exponential", "exponential-minus-one", "log", "log-plus-one", "logistic", "tanh", "power", "sqrt", "rsqrt",
    "cbrt", "sine", "cosine", "tan", "erf", "atan2",
}  # fmt: skip
_PARTS = {"slice", "dynamic-slice", "gather"}  # read a part of their first operand


class Rates(Protocol):
    """What a device can do in a second, see `benchmarks.targets.Target`."""

    bandwidth: float
    half: float
    single: float
    vector: float
    special: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What is computed.

    Attributes:
      half: FLOP of products of 16 bits.
      single: FLOP of products of float32 at the default precision, TF32 on GPUs.
      vector: other operations, and those of products in full float32.
      special: exponentials, roots and so on.
    """

    half: float = 0
    single: float = 0
    vector: float = 0
    special: float = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel.

    Attributes:
      name: of its instruction.
      kind: one of `KINDS`.
      place: where it comes from: JAX' name of the operation, and the innermost calls in two files of the package.
      files: files that it comes from, through all calls.
      times: how often it runs.
      bytes: that one run reads and writes.
      work: of one run.
    """

    name: str
    kind: str
    place: str
    files: frozenset[str]
    times: int
    bytes: int
    work: Work

    def comes_from(self, files: tuple[str, ...]) -> bool:
        """Whether one of these files, or of files whose names begin so, is where it comes from."""
        return any(file.startswith(files) for file in self.files)

    def seconds(self, rates: Rates) -> float:
        """The least time of all its runs, by what takes longest: memory, products, vectors or special functions."""
        products = self.work.half / rates.half + self.work.single / rates.single
        others = (self.bytes / rates.bandwidth, self.work.vector / rates.vector, self.work.special / rates.special)
        return self.times * max(products, *others)


def kernels(program: Program, package: str = "fcam_jax") -> Iterator[Kernel]:
    """All kernels that a program runs; places are named by files of the package."""
    for name, times in program.times.items():
        scope = program.computations[name]
        for one in scope.values():
            if one.opcode in _NOTHING or one.opcode.endswith(("-done", "-update")):
                continue
            place, files = _place(program, one, package)
            yield Kernel(one.name, _kind(program, one), place, files, times, _bytes(program, one, scope),
                         _work(program, one, scope))  # fmt: skip


def _kind(program: Program, one: Instruction) -> str:
    opcode, target = one.opcode.removesuffix("-start"), one.detail(r'custom_call_target="([^"]*)"')
    inside = [inner.opcode for inner in _inside(program, one)]
    for kind, holds in {
        "collective": opcode in COLLECTIVES,
        "cuBLAS": target.startswith("__cublas"),
        "cuDNN": target.startswith("__cudnn") or '"kind":"__cudnn' in one.details,
        "own": "triton" in target or target == "tpu_custom_call",
        "sort": opcode == "sort" or "sort" in inside or "TopK" in target or "Sort" in target,
        "product": {"convolution", "dot"} & {opcode, *inside},
        "move": opcode in _MOVES or (inside and set(inside) <= _MOVES),
        "fusion": opcode not in ("custom-call", "scatter"),
    }.items():
        if holds:
            return kind
    return "other"


def _inside(program: Program, one: Instruction) -> list[Instruction]:
    """The instructions of a fusion, those of fusions within it, too."""
    if one.opcode not in ("fusion", "fusion-start"):
        return []
    found = [inner for name in one.called for inner in program.computations.get(name, {}).values()]
    return found + [deeper for inner in found for deeper in _inside(program, inner)]


def _place(program: Program, one: Instruction, package: str) -> tuple[str, frozenset[str]]:
    """What of a kernel says where it comes from: itself, or else the last of what is fused in it."""
    told = [x for x in (one, *reversed(_inside(program, one))) if "stack_frame_id=" in x.details]
    operation = (told[0] if told else one).detail(r'op_name="([^"]*)"')
    if not told:
        return operation, frozenset()
    calls: dict[str, str] = {}
    for file, line, function in program.frames(told[0]):
        if f"/{package}/" in file:
            own = file.rpartition(f"/{package}/")[2]
            calls.setdefault(own, f"{own}:{line} {function}")
    return " < ".join([operation, *list(calls.values())[:2]]), frozenset(calls)


def _results(name: str, scope: Computation) -> tuple[Array, ...]:
    """The arrays of an operand: of a tuple's element only that."""
    one = scope.get(name)
    return one.results if one is not None else ()


def _size(found: tuple[Array, ...]) -> int:
    return sum(array.in_memory for array in found)


def _bytes(program: Program, one: Instruction, scope: Computation) -> int:
    operands = [_results(name, scope) for name in one.operands]
    results = one.results
    if one.opcode == "fusion":
        return _fused_bytes(program.computations[one.called[0]], operands, results)
    if one.opcode in _PARTS:
        return 2 * _size(results)
    if one.opcode == "dynamic-update-slice":
        return 2 * _size(operands[1])
    if one.opcode == "copy-start":
        return _size(results[:1]) + _size(operands[0])
    if one.opcode.endswith("-start") and one.opcode != "all-reduce-start":  # whose results are operands, too
        results = results[len(results) // 2 :]
    if one.opcode == "custom-call" and len(results) > 1 and results[-1].dtype in ("s8", "u8"):
        results = results[:-1]  # without the workspace
    return sum(_size(found) for found in operands) + _size(results)


def _fused_bytes(fused: Computation, operands: list[tuple[Array, ...]], results: tuple[Array, ...]) -> int:
    """Of a fusion's operands what its instructions take of them, and of its results what they change."""
    users: dict[str, list[Instruction]] = collections.defaultdict(list)
    for inner in fused.values():
        for name in dict.fromkeys(inner.operands):
            users[name].append(inner)

    def read(name: str) -> float:
        """Bytes that are read of a parameter, or of what is the same memory."""
        total = 0.0
        for user in users[name]:
            if user.opcode == "bitcast":
                total += read(user.name)
            elif user.opcode in _PARTS and user.operands[0] == name and name not in user.operands[1:]:
                total += _size(user.results)
            elif user.opcode != "dynamic-update-slice" or user.operands[0] != name:
                return math.inf
        return total

    numbered = {int(inner.arguments): inner.name for inner in fused.values() if inner.opcode == "parameter"}
    taken = sum(min(read(numbered[i]), _size(found)) for i, found in enumerate(operands) if i in numbered)
    (root,) = (inner for inner in fused.values() if inner.root)
    written = [fused[name] for name in root.operands] if root.opcode == "tuple" else [root]
    for array, source in zip(results, written, strict=False):
        source = _through_bitcasts(source, fused)
        in_place = source.opcode == "dynamic-update-slice"
        taken += _size(fused[source.operands[1]].results) if in_place else array.in_memory
    return int(taken)


def _through_bitcasts(one: Instruction, scope: Computation) -> Instruction:
    while one.opcode == "bitcast":
        one = scope[one.operands[0]]
    return one


def _work(program: Program, one: Instruction, scope: Computation) -> Work:
    """What an instruction computes; a fusion all that is fused in it."""
    if one.opcode in ("fusion", "fusion-start"):
        return functools.reduce(
            Work.__add__,
            (_work(program, inner, program.computations[name])
             for name in one.called for inner in program.computations[name].values()),
            Work(),
        )  # fmt: skip
    operands = [found[0] for name in one.operands if (found := _results(name, scope))]
    if told := one.detail(r'"cost_estimate":(\{[^}]*\})'):
        cost = {name: float(value) for name, value in json.loads(told).items()}
        return Work(vector=cost["flops"], special=cost["transcendentals"])
    if (flops := _products(one, operands)) is not None:
        return _at_precision(flops, one, operands[0].dtype)
    elements = max((array.size for array in one.results), default=0)
    if one.opcode in _SPECIAL:
        return Work(special=elements)
    if one.opcode == "reduce":
        return Work(vector=operands[0].size)
    if one.opcode in ("reduce-window", "select-and-scatter"):
        return Work(vector=elements * _window(one))
    if one.opcode == "sort":
        length = max(operands[0].shape[int(one.detail(r"dimensions=\{(\d+)\}") or 0)], 2)
        rounds = math.ceil(math.log2(length))
        return Work(vector=elements * rounds * (rounds + 1) / 2)
    if one.opcode in _MOVES or one.opcode in ("custom-call", "scatter") or one.opcode in _NOTHING:
        return Work()
    # A complex product is four products and two sums.
    times = {"multiply": 6, "divide": 12}.get(one.opcode, 2) if one.results and one.results[0].dtype == "c64" else 1
    return Work(vector=elements * times)


def _products(one: Instruction, operands: list[Array]) -> float | None:
    """FLOP of a convolution or a product; None of what is neither."""
    target = one.detail(r'custom_call_target="([^"]*)"')
    if target.startswith("__cublas"):
        sides = one.detail(r'"lhs_contracting_dimensions":\[([^\]]*)\]')
        return 2.0 * one.results[0].size * _contracted(operands[0], sides)
    if one.opcode == "dot":
        return 2.0 * one.results[0].size * _contracted(operands[0], one.detail(r"lhs_contracting_dims=\{([^}]*)\}"))
    labels = one.detail(r"dim_labels=(\S+?)(?:,|$)")
    if not labels or not (one.opcode == "convolution" or target.startswith("__cudnn")):
        return None
    _, kernel, _ = re.split("_|->", labels)
    # cuDNN's gradients have the labels of the forward pass: its maps, kernel and result are other operands there.
    result = one.results[0]
    forward = (operands[0], operands[1], result)
    if target.endswith("BackwardInput"):
        forward = (result, operands[1], operands[0])
    elif target.endswith("BackwardFilter"):
        forward = (operands[0], result, operands[1])
    spread = math.prod(int(rate) for rate in one.detail(r"lhs_dilate=([\dx]+)").split("x") if rate)
    channels = forward[1].shape[kernel.index("o")]
    return 2.0 * forward[2].size * forward[1].size / channels / spread


def _contracted(array: Array, axes: str) -> int:
    return math.prod(array.shape[int(axis)] for axis in re.findall(r"\d+", axes))


def _at_precision(flops: float, one: Instruction, dtype: str) -> Work:
    if dtype in ("bf16", "f16"):
        return Work(half=flops)
    exact = re.search(r'operand_precision[=":{\[]+(?:HIGHEST|highest)', one.details)
    return Work(vector=flops / 2) if exact else Work(single=flops)


def _window(one: Instruction) -> int:
    return math.prod(int(side) for side in one.detail(r"window=\{size=([\dx]+)").split("x") if side)
