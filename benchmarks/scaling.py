"""Compile the train steps for many devices without having any, and say what they send and what that may cost.

Run from the repository's root: ``python -m benchmarks.scaling --encoders=resnet50``. With ``--tpu`` the programs are
those of a TPU v5e, by the compiler in `libtpu` (``pip install 'jax[tpu]'``; no TPU needed); else of fake CPU devices.

A line is a stage with an encoder on so many devices, each with the same number of images. ``all-reduces``: of
gradients, of BatchNorm's statistics and of losses, as compiled, and the bytes of their results. The two efficiencies
are those of `benchmarks.hlo_collectives.efficiency`: no communication is hidden behind computation, so they are a lower
bound of what the stated bandwidths, latencies and rates give. Nothing here is measured but the time to compile.
"""

import argparse
import functools
import itertools
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding

from benchmarks import encoders, train
from benchmarks.hlo_collectives import MACHINES, Collective, collectives, efficiency
from fcam_jax.training.placed import REPLICATED, SPREAD, Placed, split_model
from fcam_jax.training.step import TrainState, jitted_step
from fcam_jax.types import DATA_AXIS, Batch

TITLES = (
    "     stage|             encoder|devices|images|compile s|GFLOP/device|planned GB|all-reduces|all-reduced MB|"
    "all-gathers|TPU v5e %|H100 %"
)


def mesh_of(devices: int, *, tpu: bool) -> Mesh:
    """A mesh of TPUs that are not there, or of fake CPU devices."""
    there = jax.devices()
    if tpu:
        rows = 2 ** ((devices.bit_length() - 1) // 2)
        there = topologies.get_topology_desc(topology_name=f"v5e:{rows}x{devices // rows}", platform="tpu").devices
    return Mesh(np.array(there[:devices]), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def arguments(model: nnx.Module, stage: str, count: int, size: int, mesh: Mesh) -> tuple[Any, ...]:
    """Shapes and places of what the step takes."""
    method = train.method_of(stage)
    optimizer = encoders.SETTINGS.update(encoders.SETTINGS.schedule(1), method.learning_rate_factor)
    _, params, rest = split_model(model, method)
    state = TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, rest, jax.eval_shape(optimizer.init, params))
    images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.uint8)
    whole, real = (jax.ShapeDtypeStruct((count,), dtype) for dtype in (jnp.int32, jnp.float32))

    def placed(tree: Any, spec: Any) -> Any:
        place = NamedSharding(mesh, spec)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    key = jax.eval_shape(lambda: jax.random.key(0))
    return placed(state, REPLICATED), placed(Batch(images, whole, whole, real), SPREAD), placed(key, REPLICATED)


def compile_step(stage: str, encoder: str, devices: int, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of a line."""
    mesh, method = mesh_of(devices, tpu=options.tpu), train.method_of(stage)
    model = nnx.eval_shape(lambda: train.network(stage, encoder, options.dtype))
    optimizer = encoders.SETTINGS.update(encoders.SETTINGS.schedule(1), method.learning_rate_factor)
    step = jitted_step(
        Placed.split(model, method, mesh), method, optimizer, accumulate=options.accumulate, remat=options.remat
    )
    start = time.perf_counter()
    traced = step.trace(*arguments(model, stage, options.images * devices, options.size, mesh))
    compiled = traced.lower().compile()
    seconds, plan, flops = time.perf_counter() - start, compiled.memory_analysis(), encoders.count_flops(traced.jaxpr)
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    found = collectives(compiled.as_text())
    reduced, gathered = (found.get(kind, Collective(0, 0)) for kind in ("all-reduce", "all-gather"))
    return {
        "compile s": seconds,
        "GFLOP/device": flops / 1e9,
        "planned GB": (plan.peak_memory_in_bytes if options.tpu else planned - plan.alias_size_in_bytes) / 1e9,
        "all-reduces": reduced.count,
        "all-reduced MB": reduced.bytes / 1e6,
        "all-gathers": gathered.count,
        **{
            f"{machine.name} %": 100 * efficiency(flops, reduced, devices, machine)
            for machine in MACHINES
            if devices <= machine.most
        },
    }


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = functools.partial(str.split, sep=",")
    parser.add_argument("--stages", type=names, default="classifier,fcam")
    parser.add_argument("--encoders", type=names, default="resnet50")
    parser.add_argument("--devices", type=names, default="8,64,256")
    parser.add_argument("--images", type=int, default=32, help="of a step on each device")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of a batch")
    parser.add_argument("--remat", action="store_true", help="compute maps again for the gradients")
    parser.add_argument("--tpu", action="store_true", help="compile for TPU v5e, by libtpu")
    return parser.parse_args()


def main() -> None:
    """Print a line for every stage, encoder and number of devices."""
    options = parse()
    most = max(map(int, options.devices))
    # Read when JAX first looks for devices.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={1 if options.tpu else most}"
    os.environ.update(XLA_FLAGS=flags, TPU_SKIP_MDS_QUERY="1")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    titles = TITLES.split("|")
    print(f"| {' | '.join(titles)} |\n|{'|'.join('-' * (len(title) + 1) + ':' for title in titles)}|", flush=True)
    for encoder, stage, devices in itertools.product(options.encoders, options.stages, map(int, options.devices)):
        line = {"stage": stage, "encoder": encoder, "devices": devices, "images": options.images * devices}
        print(encoders.row(line | compile_step(stage, encoder, devices, options), TITLES), flush=True)


if __name__ == "__main__":
    main()
