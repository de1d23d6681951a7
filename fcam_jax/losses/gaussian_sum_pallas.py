"""Gaussian sums in one kernel for GPUs and TPUs: the pairs' distances and weights never leave the registers.

The points of a program lie as vectors, rows x 128 of them for each feature; the centres come one after the other as
scalars. So a pair costs d differences, d squares, one exponential and k products, and a centre's load serves all points
of its program. GPU: Pallas' Triton backend, a program goes through all centres. TPU: Mosaic, the centres come in blocks
to scalar memory along the last axis of the grid, and the sums stay in vector memory.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

# Points that lie in a row: the lanes of a TPU's vectors; a GPU's program has a thread for each.
LANES = 128

# Centres whose terms are added up before they are added to the sum: fewer, larger steps, and less rounding.
AT_A_TIME = 8


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the kernel lies on a machine.

    Attributes:
      rows: points of a program in units of `LANES`.
      centres: at most so many centres in a block, a multiple of `LANES`; None for all of them in one.
      memory: where blocks of points and of sums lie, and blocks of centres.
      compiler_params: for Pallas; they also choose its backend.
    """

    rows: int
    centres: int | None
    memory: tuple[Any, Any]
    compiler_params: Any


# Four vectors of 8 x 128 for each feature and each sum: less than half of the 64 registers. A block of 640 centres with
# seven numbers each is 18 kB of scalar memory; five of them hold the 3,136 of an image of 224 pixels.
TPU = Plan(
    32,
    640,
    (pltpu.VMEM, pltpu.SMEM),
    pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
)


def gaussian_sum(
    points: Float[Array, "b n d"],
    centres: Float[Array, "b m d"],
    values: Float[Array, "b m k"],
    *,
    plan: Plan,
    interpret: bool = False,
) -> Float[Array, "b n k"]:
    """The sum of `fcam_jax.losses.gaussian_sum.gaussian_sum` by a kernel.

    Args:
      points: p, float32.
      centres: c, float32.
      values: v, float32.
      plan: `TPU` or `gpu_plan()`.
      interpret: run the kernel's operations one by one, on any machine; for tests. Under `jax.shard_map` that needs
        `check_vma=False`, the kernel itself does not.
    """
    (count, number, features), regions = points.shape, values.shape[-1]
    tile = plan.rows * LANES
    block = _round_up(centres.shape[1], AT_A_TIME)
    if plan.centres is not None and block > plan.centres:
        # As few blocks as there may be, all alike; Mosaic cuts arrays at multiples of 128.
        block = _round_up(-(-block // -(-block // plan.centres)), LANES)
    # Points of the padding are cut off below; its centres have a finite weight and the value 0.
    place = _pad(points, tile).swapaxes(1, 2).reshape(count, features, -1, LANES)
    terms = _pad(jnp.concatenate([centres, values], axis=-1), block).reshape(count, 1, -1)
    width = features + regions
    vectors, scalars = plan.memory
    sums = pl.pallas_call(
        functools.partial(_kernel, block=block, features=features, regions=regions),
        grid=(count, place.shape[2] // plan.rows, terms.shape[2] // (block * width)),
        in_specs=[
            _block_spec((1, features, plan.rows, LANES), lambda i, tile, block: (i, 0, tile, 0), vectors),
            _block_spec((1, 1, block * width), lambda i, tile, block: (i, 0, block), scalars),
        ],
        out_specs=_block_spec((1, regions, plan.rows, LANES), lambda i, tile, block: (i, 0, tile, 0), vectors),
        out_shape=jax.ShapeDtypeStruct(
            (count, regions, *place.shape[2:]),
            jnp.float32,
            manual_axis_type=jax.typeof(place).manual_axis_type,
        ),
        compiler_params=plan.compiler_params,
        cost_estimate=_cost(place, terms, width, regions),
        interpret=interpret,
        name="gaussian_sum",
    )(place, terms)
    return sums.reshape(count, regions, -1)[:, :, :number].swapaxes(1, 2)


on_tpu = functools.partial(gaussian_sum, plan=TPU)


def on_gpu(
    points: Float[Array, "b n d"], centres: Float[Array, "b m d"], values: Float[Array, "b m k"]
) -> Float[Array, "b n k"]:
    """The sum by the kernel for GPUs."""
    return gaussian_sum(points, centres, values, plan=gpu_plan())


def gpu_plan() -> Plan:
    """How the kernel lies on a GPU.

    Four points a thread: the loads of a centre cost little beside its pairs, and the registers suffice for many
    programs at a time.
    """
    # Only here: JAX has announced (0.11) that this backend goes, and then nobody else shall notice.
    from jax.experimental.pallas import triton

    return Plan(4, None, (None, None), triton.CompilerParams(num_warps=4, num_stages=1))


def _kernel(place: Any, terms: Any, total: Any, *, block: int, features: int, regions: int) -> None:
    """Add a block of centres to the sums of a tile of points."""

    @pl.when(pl.program_id(2) == 0)
    def _() -> None:
        for r in range(regions):
            total[0, r] = jnp.zeros(total.shape[2:], jnp.float32)

    point = [place[0, f] for f in range(features)]

    def add(step: Any, sums: list[Any]) -> list[Any]:
        part = [jnp.zeros_like(one) for one in sums]
        for j in range(AT_A_TIME):
            at = (step * AT_A_TIME + j) * (features + regions)
            distance = sum(jnp.square(point[f] - terms[0, 0, at + f]) for f in range(features))
            weight = jnp.exp2(distance * (-0.5 * math.log2(math.e)))
            part = [one + weight * terms[0, 0, at + features + r] for r, one in enumerate(part)]
        return [a + b for a, b in zip(sums, part, strict=True)]

    zeros = [jnp.zeros_like(point[0])] * regions
    for r, one in enumerate(jax.lax.fori_loop(0, block // AT_A_TIME, add, zeros)):
        total[0, r] += one


def _cost(place: Array, terms: Array, width: int, regions: int) -> pl.CostEstimate:
    """What the compiler cannot see: operations of all pairs, and bytes that are read and written once."""
    points = place.size // place.shape[1]
    pairs = points * (terms.shape[2] // width)
    return pl.CostEstimate(
        flops=pairs * (3 * (width - regions) + 2 * regions),
        transcendentals=pairs,
        bytes_accessed=place.dtype.itemsize * (points * width + terms.size),
    )


def _block_spec(shape: tuple[int, ...], place: Any, memory: Any) -> pl.BlockSpec:
    return pl.BlockSpec(shape, place, memory_space=memory) if memory is not None else pl.BlockSpec(shape, place)


def _pad(x: Float[Array, "b n d"], multiple: int) -> Float[Array, "b _ d"]:
    """Zeros appended along the middle axis up to a multiple."""
    return jnp.pad(x, ((0, 0), (0, _round_up(x.shape[1], multiple) - x.shape[1]), (0, 0)))


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
