"""Compile the train steps for accelerators without having any: what they take, what they send, what that may cost.

Run from the repository's root: ``python -m benchmarks.scaling --gpu=h200 --encoders=resnet50 --json=FILE``. Programs
are those of a GPU (``pip install 'jax[cuda12]'``), with ``--tpu`` of a TPU v5e by the compiler in `libtpu` (``pip
install 'jax[tpu]'``), else of fake CPU devices. No accelerator is needed. Compiling is all that is done and timed:
**every other figure is an estimate, none a measurement.**

The first table, for accelerators, is of a device's kernels, by `benchmarks.roofline`. ``least ms`` is the sum over
kernels of the longest of bytes / bandwidth, FLOP / rate of products, operations / rate of vectors; ``images/s`` follows
from it. What libraries and memory leave of their rates is left out, so a step takes longer; in ``ms, starts`` no kernel
takes less than 2 us, which is an assumption. ``CRF %`` and ``seeds %`` are shares of ``least ms``. ``planned GB`` is
XLA's plan, without what libraries work in; from it at two numbers of images (``--images=16,32``) follow the most images
that fit in so many GB.

The second is of many devices, each with the same number of images. ``all-reduces``: of gradients, of BatchNorm's
statistics and of losses, as compiled, and the bytes of their results. The two efficiencies are those of
`benchmarks.hlo_collectives.efficiency`: no communication is hidden behind computation, so they are a lower bound of
what the stated bandwidths, latencies and rates give.
"""

import argparse
import functools
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding

from benchmarks import encoders, hlo, roofline, train
from benchmarks.hlo_collectives import MACHINES, Collective, collectives, efficiency
from benchmarks.targets import TARGETS, Target, without_any
from fcam_jax.errors import InputError
from fcam_jax.methods.contract import Method
from fcam_jax.models.encoders import default_cam
from fcam_jax.training.placed import REPLICATED, SPREAD, Placed, split_model
from fcam_jax.training.step import TrainState, jitted_step
from fcam_jax.types import DATA_AXIS, Batch

# The parts of a step whose shares are told, by where their code lies.
PARTS = {"CRF": ("losses/dense_crf", "losses/crf_energy", "losses/gaussian_sum"), "seeds": ("seeds/",)}
START = 2e-6  # seconds that a kernel takes at least
MEMORIES = (16, 24, 40, 80, 141)
LINE = ("target", "stage", "encoder", "devices", "images", "size", "dtype", "accumulate", "remat", "kernel")
KERNELS = (
    "     stage|             encoder|images|least ms|images/s|ms, starts|CRF %|seeds %|kernels|{kinds}|GB moved|TFLOP|"
    "planned GB|{memories}|compile s"
).format(kinds="|".join(roofline.KINDS), memories="|".join(f"in {memory}" for memory in MEMORIES))
SENT = (
    "     stage|             encoder|devices|images|compile s|GFLOP/device|planned GB|all-reduces|all-reduced MB|"
    "all-gathers|TPU v5e %|H100 %"
)


def mesh_of(devices: int, target: Target | None) -> Mesh:
    """A mesh of accelerators that are not there, or of fake CPU devices."""
    there = jax.devices()[:devices] if target is None else target.devices(devices)
    return Mesh(np.array(there), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def arguments(
    model: nnx.Module, method: Method, optimizer: optax.GradientTransformation, count: int, size: int, mesh: Mesh
) -> tuple[Any, ...]:
    """Shapes and places of what the step takes."""
    _, params, rest = split_model(model, method)
    state = TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, rest, jax.eval_shape(optimizer.init, params))
    images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.uint8)
    whole, real = (jax.ShapeDtypeStruct((count,), dtype) for dtype in (jnp.int32, jnp.float32))

    def placed(tree: Any, spec: Any) -> Any:
        place = NamedSharding(mesh, spec)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    key = jax.eval_shape(lambda: jax.random.key(0))
    return placed(state, REPLICATED), placed(Batch(images, whole, whole, real), SPREAD), placed(key, REPLICATED)


def compile_step(line: dict[str, Any], target: Target | None, folder: pathlib.Path | None) -> dict[str, Any]:
    """The figures of a line; the program's text goes to the folder."""
    stage, devices = line["stage"], line["devices"]
    mesh, cam = mesh_of(devices, target), default_cam(train.ENCODERS[line["encoder"]])
    model = nnx.eval_shape(lambda: train.network(stage, line["encoder"], line["dtype"]))
    method = train.method_of(stage, cam=cam, kernel=line["kernel"])
    optimizer = encoders.SETTINGS.update(encoders.SETTINGS.schedule(1), method.learning_rate_factor)
    how = {name: line[name] for name in ("accumulate", "remat")}
    step = jitted_step(Placed.split(model, method, mesh), method, optimizer, **how)
    start = time.perf_counter()
    traced = step.trace(*arguments(model, method, optimizer, line["images"] * devices, line["size"], mesh))
    compiled = traced.lower().compile()
    seconds, text, plan = time.perf_counter() - start, compiled.as_text(), compiled.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    on_tpu = target is not None and not target.gpu
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stage}-{line['encoder']}-{devices}x{line['images']}.hlo").write_text(text)
    flops, program = encoders.count_flops(traced.jaxpr), hlo.read(text)
    sent = {kind: (one.count, one.bytes) for kind, one in collectives(program).items()}
    found = [] if target is None else list(roofline.kernels(program))
    return {
        "compile s": seconds,
        "GFLOP/device": flops / 1e9,
        "planned GB": (plan.peak_memory_in_bytes if on_tpu else planned - plan.alias_size_in_bytes) / 1e9,
        "sent": sent,
        **(estimate(found, line["images"], target) if target else {}),
    }


def estimate(found: list[roofline.Kernel], images: int, target: Target) -> dict[str, Any]:
    """The least time of a step's kernels, and what they are."""
    seconds = [kernel.seconds(target) for kernel in found]
    total = sum(seconds)
    shares = {
        f"{part} %": 100 * sum(t for t, one in zip(seconds, found, strict=True) if one.comes_from(files)) / total
        for part, files in PARTS.items()
    }
    kinds = {kind: sum(one.times for one in found if one.kind == kind) for kind in roofline.KINDS}
    work = [(one.times, one.work) for one in found]
    order = sorted(zip(seconds, found, strict=True), key=lambda pair: -pair[0])
    return {
        "least ms": 1e3 * total,
        "images/s": images / total,
        "ms, starts": 1e3 * sum(max(t, one.times * START) for t, one in zip(seconds, found, strict=True)),
        **shares,
        "kernels": sum(kinds.values()),
        **kinds,
        "ms": {kind: 1e3 * sum(t for t, one in zip(seconds, found, strict=True) if one.kind == kind) for kind in kinds},
        "GB moved": sum(one.times * one.bytes for one in found) / 1e9,
        "TFLOP": sum(times * (work.half + work.single) for times, work in work) / 1e12,
        "longest": [
            {"ms": 1e3 * t, "times": one.times, "kind": one.kind, "MB": one.bytes / 1e6, "place": one.place}
            for t, one in order[:40]
        ],
    }


def most_images(lines: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many images fit in so many GB, by what is planned for two numbers of them."""
    planned = {line["images"]: line["planned GB"] for line in lines if "planned GB" in line}
    if len(planned) < 2:
        return {}
    few, *_, many = sorted(planned)
    each = (planned[many] - planned[few]) / (many - few)
    fixed = planned[many] - many * each
    return {f"in {memory}": max(0, int((memory - fixed) / each)) for memory in MEMORIES}


def tables(lines: list[dict[str, Any]], longest: int) -> None:
    """Print what the lines say."""
    for titles, chosen in (
        (KERNELS, [line for line in lines if "least ms" in line or "error" in line]),
        (SENT, [line for line in lines if line["devices"] > 1 and "sent" in line]),
    ):
        if chosen:
            names = titles.split("|")
            print(f"| {' | '.join(names)} |\n|{'|'.join('-' * (len(name) + 1) + ':' for name in names)}|")
        for line in chosen:
            same = [one for one in lines if all(one[name] == line[name] for name in LINE if name != "images")]
            if line["images"] == max(one["images"] for one in same):
                print(encoders.row(line | most_images(same) | _sent(line), titles), line.get("error", ""))
    for line in lines:
        for one in line.get("longest", ())[:longest]:
            what = "{ms:8.3f} ms {times:4} x {kind:8} {MB:8.1f} MB  {place}".format(**one)
            print(f"{line['stage']}, {line['encoder']}, {line['images']} images: {what}")


def _sent(line: dict[str, Any]) -> dict[str, Any]:
    found = {kind: Collective(*figures) for kind, figures in line.get("sent", {}).items()}
    reduced, gathered = (found.get(kind, Collective(0, 0)) for kind in ("all-reduce", "all-gather"))
    devices = line["devices"]
    return {
        "all-reduces": reduced.count,
        "all-reduced MB": reduced.bytes / 1e6,
        "all-gathers": gathered.count,
        **{
            f"{machine.name} %": 100 * efficiency(1e9 * line["GFLOP/device"], reduced, devices, machine)
            for machine in MACHINES
            if devices <= machine.most and "sent" in line
        },
    }


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = functools.partial(str.split, sep=",")
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--stages", type=names, default="classifier,fcam")
    parser.add_argument("--encoders", type=names, default="resnet50", help="names, or `all`")
    parser.add_argument("--devices", type=numbers, help="default: 1 accelerator; 8, 64 and 256 fake CPU devices")
    parser.add_argument("--images", type=numbers, default="32", help="of a step on each device")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of a batch")
    parser.add_argument("--remat", action="store_true", help="compute maps again for the gradients")
    parser.add_argument("--kernel", default="auto", help="of the CRF's sums")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--gpu", choices=[name for name, one in TARGETS.items() if one.gpu], help="compile for this one"
    )
    target.add_argument("--tpu", action="store_true", help="compile for TPU v5e, by libtpu")
    parser.add_argument("--longest", type=int, default=0, metavar="N", help="also the N kernels that take longest")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="a line for each; what it has is kept")
    parser.add_argument("--hlo", type=pathlib.Path, metavar="DIR", help="write the programs there")
    options = parser.parse_args()
    options.target = "v5e" if options.tpu else options.gpu
    options.devices = options.devices or ([1] if options.target else [8, 64, 256])
    options.encoders = list(train.ENCODERS) if options.encoders == ["all"] else options.encoders
    for given, known in ((options.stages, train.STAGES), (options.encoders, train.ENCODERS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return options


def main() -> None:
    """Compile a step for every number of images and devices, encoder and stage, and print what is known of them."""
    options = parse()
    target = TARGETS.get(options.target or "")
    without_any(fake=1 if target else max(options.devices))
    try:
        mesh_of(1, target)
    except (jax.errors.JaxRuntimeError, NotImplementedError, RuntimeError, ValueError) as error:
        extra = "tpu" if options.tpu else "cuda12"
        sys.exit(f"error: no compiler for {options.target}: {error}; pip install 'jax[{extra}]'")
    known = []
    if options.json and options.json.exists():
        known = [json.loads(text) for text in options.json.read_text().splitlines()]
    print(f"jax {jax.__version__}. {target or 'Fake CPU devices'}\nEstimates of compiled programs, no measurements.")
    lines = []
    for images, encoder, stage, devices in itertools.product(
        options.images, options.encoders, options.stages, options.devices
    ):
        line = vars(options) | {"images": images, "encoder": encoder, "stage": stage, "devices": devices}
        line = {name: line[name] for name in LINE}
        figures = next((one for one in known if all(one[name] == line[name] for name in LINE)), None)
        if figures is None:
            try:
                figures = line | compile_step(line, target, options.hlo)
            except (jax.errors.JaxRuntimeError, NotImplementedError, InputError) as error:
                figures = line | {"error": str(error).splitlines()[0]}
            print(f"{stage}, {encoder}, {devices} x {images}: {figures.get('compile s', 0):.0f} s", file=sys.stderr)
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps(figures) + "\n")
        lines.append(figures)
    tables(lines, options.longest)


if __name__ == "__main__":
    main()
