"""What a compiled program sends between devices, read out of its HLO text, and what that costs on paper."""

import collections
import dataclasses
import math

from benchmarks.hlo import Program

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of a kind in one execution of a program.

    Attributes:
      count: how many are executed.
      bytes: of their results, in all.
    """

    count: int
    bytes: int


def collectives(program: Program) -> dict[str, Collective]:
    """Collectives of a program by kind; what a loop holds is counted as often as the loop is said to run."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    for name, computation in program.computations.items():
        for one in computation.values():
            kind, started = one.opcode.removesuffix("-start"), one.opcode.endswith("-start")
            if kind in KINDS:
                # A start of an all-gather results in its operands and its results; of an all-reduce in the results.
                own = one.results[len(one.results) // 2 :] if started and kind != "all-reduce" else one.results
                found[kind] += [sum(array.bytes for array in own)] * program.times.get(name, 1)
    return {kind: Collective(len(sizes), sum(sizes)) for kind, sizes in found.items()}


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device and its links, from public figures.

    Attributes:
      name: for people.
      flops: FLOP/s of a device at bfloat16.
      utilisation: share of that which the step's products reach; an assumption.
      bandwidth: bytes/s that a device sends to its neighbours in a ring all-reduce.
      latency: seconds of the shortest all-reduce, for each hop of `hops`; an assumption.
      torus: whether the devices are a square torus, so that a ring passes one of its sides at a time.
      most: devices that these links join.
    """

    name: str
    flops: float
    utilisation: float
    bandwidth: float
    latency: float
    torus: bool
    most: int

    def hops(self, devices: int) -> float:
        """Steps from one device to all: log2 of the devices behind a switch, half the two sides of a torus."""
        return math.sqrt(devices) if self.torus else math.log2(devices)


# v5e: https://cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 1,600 Gbit/s of links, half of which a
# ring that does not close has; a 2D torus of up to 16 x 16.
# H100 SXM: https://www.nvidia.com/en-us/data-center/h100: 989 TFLOP/s dense, NVLink 900 GB/s, both directions together.
MACHINES = (
    Machine("TPU v5e", 197e12, 0.4, 200e9 / 2, 1e-6, torus=True, most=256),
    Machine("H100", 989e12, 0.3, 900e9 / 2, 4e-6, torus=False, most=8),
)


def efficiency(flops: float, reduced: Collective, devices: int, machine: Machine) -> float:
    """Share of a device's time that a step computes, where nothing of its all-reduces is hidden.

    $$ E = \\frac{t_c}{t_c + t_r}, \\quad t_c = \\frac{F}{u P}, \\quad
       t_r = n\\, h(D)\\, \\tau + 2\\, \\frac{D - 1}{D}\\, \\frac{B}{w} $$

    Args:
      flops: F, of a device's share of the step.
      reduced: n and B, the all-reduces of the step and their bytes.
      devices: D.
      machine: P, u, w, tau and h.
    """
    computing = flops / (machine.utilisation * machine.flops)
    latency = reduced.count * machine.hops(devices) * machine.latency
    reducing = latency + 2 * (devices - 1) / devices * reduced.bytes / machine.bandwidth
    return computing / (computing + reducing)
