"""A compiled program as its HLO text has it: computations, their instructions, and how often each of them runs."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.$-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.$-]+) = (.+?) ([a-z][a-z0-9-]*)\(")
_ARRAY = re.compile(r"\b(pred|token|[a-z]+\d+)\w*\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_NAME = re.compile(r"%([\w.$-]+)")
_CALLED = re.compile(r"\b(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.$-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array in memory.

    Attributes:
      dtype: as XLA calls it.
      shape: its sides.
      sides: the same as they lie in memory, from the slowest to the fastest, filled up to whole tiles on a TPU.
      on_chip: in a TPU's own memory, not in HBM.
    """

    dtype: str
    shape: tuple[int, ...]
    sides: tuple[int, ...]
    on_chip: bool = False

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Of its elements."""
        return self._bytes(self.shape)

    @property
    def in_memory(self) -> int:
        """Bytes that it takes in HBM, whole tiles."""
        return 0 if self.on_chip else self._bytes(self.sides)

    def _bytes(self, sides: tuple[int, ...]) -> int:
        bits = 8 if self.dtype == "pred" else int(re.sub(r"\D", "", self.dtype) or 0)
        return math.prod(sides) * bits // 8


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type, of which a tuple has several."""
    return tuple(_array(*found) for found in _ARRAY.findall(text))


def _array(dtype: str, shape: str, order: str, layout: str) -> Array:
    sides = tuple(int(side) for side in shape.split(",") if side)
    lying = tuple(sides[int(axis)] for axis in reversed(order.split(","))) if order else sides
    if tile := re.match(r"T\(([\d,]+)\)", layout):
        tiles = [int(side) for side in tile[1].split(",")]
        tiles = [1] * (len(lying) - len(tiles)) + tiles[-len(lying) :] if lying else []
        lying = tuple(-(-side // of) * of for side, of in zip(lying, tiles, strict=True))
    return Array(dtype, sides, lying, bool(tile) and "S(1)" in layout)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction.

    Attributes:
      name: its name.
      opcode: what it does.
      results: arrays.
      arguments: what stands in its parentheses.
      details: all that stands behind the operands.
      root: whether its result is that of its computation.
    """

    name: str
    opcode: str
    results: tuple[Array, ...]
    arguments: str
    details: str
    root: bool

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of the instructions whose results it takes."""
        return tuple(_NAME.findall(self.arguments))

    @functools.cached_property
    def called(self) -> tuple[str, ...]:
        """The computations that it runs: a loop's body, branches, what is fused."""
        branches = _BRANCHES.search(self.details)
        return (*_CALLED.findall(self.details), *(_NAME.findall(branches[1]) if branches else ()))

    def detail(self, pattern: str) -> str:
        """What a pattern's group finds in the details; nothing where it is not there."""
        found = re.search(pattern, self.details)
        return found[1] if found else ""


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
      computations: by name, each with its instructions by name.
      entry: name of the one that is run.
      tables: of the places in the source, by name and number.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str
    tables: dict[str, dict[int, str]]

    @functools.cached_property
    def times(self) -> dict[str, int]:
        """How often each computation runs that is no part of an instruction; loops within loops multiplied.

        A loop that does not say how often it runs counts once, and so does each branch of a condition.
        """
        found: dict[str, int] = {}

        def run(name: str, times: int) -> None:
            found[name] = found.get(name, 0) + times
            for one in self.computations.get(name, {}).values():
                if one.opcode in ("while", "conditional", "call", "async-start"):
                    for called in one.called:
                        run(called, times * self._trips(one))

        run(self.entry, 1)
        return found

    def _trips(self, one: Instruction) -> int:
        """What a loop says of how often it runs, or else the constant that its counter stays below."""
        if known := one.detail(r'"known_trip_count":\{"n":"(\d+)"\}'):
            return int(known)
        condition = self.computations.get(one.detail(r"\bcondition=%?([\w.$-]+)"), {})
        below = [test for test in condition.values() if test.root and "direction=LT" in test.details]
        bounds = [condition[name].arguments for test in below for name in test.operands[1:] if name in condition]
        return int(bounds[0]) if bounds and bounds[0].isdigit() else 1

    def frames(self, instruction: Instruction) -> Iterator[tuple[str, int, str]]:
        """File, line and function of where an instruction comes from, the innermost call first."""
        number = int(instruction.detail(r"stack_frame_id=(\d+)") or 0)
        stack = self.tables["StackFrames"]
        none = _field(stack.get(1, ""), "parent_frame_id")  # the first frame has no parent; some releases count from 1
        while frame := stack.get(number):
            place = self.tables["FileLocations"][_field(frame, "file_location_id")]
            names = (self.tables[table].get(_field(place, key), "") for table, key in _NAMES.items())
            file, function = names
            yield file, _field(place, "line"), function
            number = _field(frame, "parent_frame_id") - none


_NAMES = {"FileNames": "file_name_id", "FunctionNames": "function_name_id"}


def _field(text: str, name: str) -> int:
    found = re.search(rf"\b{name}=(\d+)", text)
    return int(found[1]) if found else 0


def read(hlo: str) -> Program:
    """A program out of its text."""
    tables: dict[str, dict[int, str]] = {name: {} for name in _TABLES}
    computations: dict[str, dict[str, Instruction]] = {}
    table, computation, entry = None, "", ""
    for line in hlo.splitlines():
        if line in tables:
            table = tables[line]
        elif heading := _COMPUTATION.match(line):
            table, computation = None, heading[2]
            computations[computation] = {}
            entry = computation if heading[1] else entry
        elif table is not None and (row := re.match(r"(\d+) (.*)", line)):
            table[int(row[1])] = row[2].strip('"')
        elif one := _INSTRUCTION.match(line):
            arguments, details = _parted(line[one.end() :])
            computations[computation][one[2]] = Instruction(
                one[2], one[4], arrays(one[3]), arguments, details, bool(one[1])
            )
    return Program(computations, entry, tables)


def _parted(text: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes, and behind it."""
    depth = 1
    for at in re.finditer(r"[()]", text):
        depth += 1 if at[0] == "(" else -1
        if depth == 0:
            return text[: at.start()], text[at.end() :]
    return text, ""
