"""Time the encoders, forward and a training step, and hold them against the machine's rate of matrix products.

Run from the repository's root: ``python -m benchmarks.encoders --encoders=resnet50 --dtypes=bfloat16 --batches=32``.
With ``--parts`` also the forward and backward pass of every stage alone, on an input of that stage's shape.

``forward`` is the classifier's scores in inference mode; ``training`` the package's own step on one device: loss,
gradients of all parameters, BatchNorm in training mode, SGD. A run is several steps that follow one another on the
device; the figure is the median over the runs. Compilation includes tracing and is without the persistent cache.

FLOP: 2 per multiply-add of the convolutions and matrix products in the jaxpr of the function that is timed, by their
closed form: products with the zeros of the padding count, those with the zeros that the gradient of a strided
convolution inserts do not; what rematerialisation repeats counts. Left out is all element-wise work: BatchNorm, ReLU,
pooling, the update, and MobileNet's depthwise convolutions, which are nine shifted products here. GB/s is of XLA's own
estimate of the bytes that the compiled program reads and writes.
"""

import argparse
import functools
import itertools
import json
import math
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh

from fcam_jax.cams import CAMS
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.training.optimizer import SGD
from fcam_jax.training.placed import REPLICATED, SPREAD, Placed, replicate, split_model, spread
from fcam_jax.training.step import initial_state, jitted_step
from fcam_jax.types import DATA_AXIS, Batch

CLASSES = 200
METHOD = ClassifierMethod(CAMS["cam"](), "protocol", new_layers=(("head",),), new_layers_factor=10.0)
SETTINGS = SGD(learning_rate=1e-3, decay_epochs=0, decay_rate=1.0, momentum=0.9, weight_decay=1e-4)
PRODUCTS = 4  # matrix products one after another in one program, so that its dispatch does not count
RATE_SECONDS = 2.0  # for each of the machine's own rates
# Titles of the table, as wide as their columns; stripped they are the keys of the JSON.
TITLES = (
    "         encoder|   dtype|batch|          mode|images/s|ms/step| runs x steps|compile s|planned GB|peak GB|"
    "GFLOP/image|TFLOP/s|% of matmul|  GB/s"
)
HEADER = """jax {jax}, one {device} device, {cores} cores. Memory: {memory} GB/s. Matrix products, TFLOP/s: {products},
at the default precision (the convolutions' too; TF32 on some GPUs) unless named. planned GB: arguments, results and
temporaries in XLA's plan. peak GB: most that the allocator ever held, where it says so and a line raised it.
"""


def count_flops(jaxpr: Any) -> float:
    """FLOP of the convolutions and matrix products of a jaxpr and of those inside it; a scan's body times its length.

    Of branches the one with the fewest counts.

    Convolution: 2 |result| |kernel| / c_out / |dilation of its input|. Matrix product: 2 |result| |contracted axes|.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        settings = equation.params
        if equation.primitive.name == "conv_general_dilated":
            result = equation.outvars[0].aval
            kernel = equation.invars[1].aval
            channels_out = kernel.shape[settings["dimension_numbers"].rhs_spec[0]]
            total += 2 * result.size * kernel.size / channels_out / math.prod(settings["lhs_dilation"])
        elif equation.primitive.name == "dot_general":
            result = equation.outvars[0].aval
            contracted = settings["dimension_numbers"][0][0]
            total += 2 * result.size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        inner_counts = [count_flops(value) for value in jax.tree.leaves(settings) if hasattr(value, "eqns")]
        # Of branches, such as those of platforms, one is run; what only one platform multiplies by zeros is no work.
        inner = min(inner_counts, default=0) if equation.primitive.name == "cond" else sum(inner_counts)
        total += inner * settings.get("length", 1)
    return total


def time_steps(step: Callable[[Any], Any], carry: Any, seconds: float, repeats: int) -> tuple[float, str]:
    """Seconds of a step `carry = step(carry)`, and how often it was timed, "runs x steps".

    It takes about so many seconds. The first call is a warm-up, unless it takes longer: then it alone is timed.
    """

    def run(steps: int) -> float:
        nonlocal carry
        start = time.perf_counter()
        for _ in range(steps):
            carry = step(carry)
        jax.block_until_ready(carry)
        return (time.perf_counter() - start) / steps

    if (first := run(1)) > seconds:
        return first, "first call"
    affordable = seconds / run(1)
    runs = max(1, min(repeats, int(affordable)))
    steps = max(1, min(100, int(affordable / runs)))
    return statistics.median(run(steps) for _ in range(runs)), f"{runs} x {steps}"


def matmul_rate(dtype: str, precision: str, repeats: int) -> float:
    """Best FLOP/s over sizes of square matrices; each product is a factor of the next."""
    dot = functools.partial(jnp.dot, precision=precision)
    best = 0.0
    for side in (512, 1024, 2048) if jax.default_backend() == "cpu" else (4096, 8192, 16384):
        a, b = jax.random.normal(jax.random.key(0), (2, side, side), dtype)
        b = b / math.sqrt(side)  # keeps the products at the size of a
        compiled = jax.jit(lambda a, b: functools.reduce(dot, [b] * PRODUCTS, a)).lower(a, b=b).compile()
        elapsed, _ = time_steps(functools.partial(compiled, b=b), a, RATE_SECONDS, repeats)
        best = max(best, PRODUCTS * 2 * side**3 / elapsed)
    return best


def memory_rate(repeats: int) -> float:
    """Bytes/s of reading and writing an array that no cache holds."""
    array = jnp.zeros(2**26 if jax.default_backend() == "cpu" else 2**28, jnp.float32)
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(array).compile()
    return 2 * array.nbytes / time_steps(compiled, array, RATE_SECONDS, repeats)[0]


class Workload(NamedTuple):
    """A jitted function and its arguments; `carried`: the first is donated, and the next step's is the first result."""

    function: Any
    arguments: tuple[Any, ...]
    carried: bool = False


def one_device() -> Mesh:
    """The mesh of the first device alone."""
    return jax.make_mesh((1,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])


def classifier(name: str, dtype: str) -> Classifier:
    """Encoder with random weights and head."""
    encoder = ENCODERS[name](dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    return Classifier(encoder, WGAP(encoder.channels[-1], CLASSES, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(1)))


def random_batch(batch: int, size: int) -> Batch:
    """Noise of several classes, on the device."""
    index = np.arange(batch, dtype=np.int32)
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    return spread(Batch(images, index % CLASSES, index, np.ones(batch, np.float32)), one_device())


def forward(model: Classifier, batch: Batch) -> Workload:
    """Class scores in inference mode."""
    structure, params, rest = split_model(model, METHOD)
    scores = jax.jit(lambda params, rest, images: nnx.merge(structure, params, rest)(images, train=False)[1])
    return Workload(scores, (params, rest, batch.images))


def training(model: Classifier, batch: Batch) -> Workload:
    """The classifier's train step."""
    mesh = one_device()
    optimizer = SETTINGS.update(SETTINGS.schedule(1), METHOD.learning_rate_factor)
    arguments = (initial_state(Placed.split(model, METHOD, mesh), optimizer), batch, replicate(jax.random.key(0), mesh))
    return Workload(jitted_step(Placed.split(model, METHOD, mesh), METHOD, optimizer), arguments, carried=True)


def part(model: Classifier, index: int, x: jax.ShapeDtypeStruct) -> Workload:
    """Map of stage `index`, or the scores for the index after the last; gradients by its parameters and its input."""
    structure, params, rest = split_model(model, METHOD)
    leaves, tree = jax.tree.flatten(params)

    def apply(leaves: list[Any], rest: Any, x: jax.Array, train: bool) -> jax.Array:
        net = nnx.merge(structure, jax.tree.unflatten(tree, leaves), rest, copy=train)
        rng = jax.random.split(jax.random.key(0), len(x)) if train else None
        return net.encoder.stage(index, x, train=train, rng=rng) if index < len(net.encoder.channels) else net.head(x)

    jaxpr, out = jax.make_jaxpr(functools.partial(apply, train=False), return_shape=True)(leaves, rest, x)
    read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    own = [id(variable) in read for variable in jaxpr.jaxpr.invars[: len(leaves)]]

    def both_passes(leaves: list[Any], rest: Any, x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, Any, Any]:
        def result(leaves: list[Any], x: jax.Array = x) -> jax.Array:
            return apply(leaves, rest, x, train=True)

        # Training needs no gradient by the image, and those by other stages' parameters are zeros, not to be written.
        value, pullback = jax.vjp(result, *((leaves, x) if index else (leaves,)))
        gradients, *by_input = pullback(cotangent)
        return value, [gradient for gradient, needed in zip(gradients, own, strict=True) if needed], by_input

    noise = (jax.random.normal(jax.random.key(i), of.shape, of.dtype) for i, of in enumerate((x, out)))
    in_specs, out_specs = (REPLICATED, REPLICATED, SPREAD, SPREAD), (SPREAD, REPLICATED, SPREAD)
    mapped = jax.shard_map(both_passes, mesh=one_device(), in_specs=in_specs, out_specs=out_specs)
    return Workload(jax.jit(mapped), (leaves, rest, *noise))


def workloads(model: Classifier, batch: int, size: int, parts: bool) -> dict[str, Callable[[], Workload]]:
    """What is timed, by mode; its arrays are made when it is called."""
    image = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    inputs = (image, *jax.eval_shape(functools.partial(model.encoder, train=False), image))
    names = [f"{index}: {'x'.join(map(str, out.shape[1:]))}" for index, out in enumerate(inputs[1:])] + ["head"]
    stages = {name: functools.partial(part, model, index, inputs[index]) for index, name in enumerate(names)}
    return {
        "forward": lambda: forward(model, random_batch(batch, size)),
        "training": lambda: training(model, random_batch(batch, size)),
        **(stages if parts else {}),
    }


def allocator_peak() -> int:
    """Most bytes that the allocator has ever held; 0 where it does not say."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def measure(make: Callable[[], Workload], batch: int, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """Compile and time a workload; the figures of its line."""
    try:
        workload = make()
        start = time.perf_counter()
        traced = workload.function.trace(*workload.arguments)
        compiled = traced.lower().compile()
        compile_seconds = time.perf_counter() - start
        first, *others = workload.arguments
        peak_before = allocator_peak()
        step = (lambda state: compiled(state, *others)[0]) if workload.carried else (lambda _: compiled(first, *others))
        elapsed, timed = time_steps(step, first, options.seconds, options.repeats)
        peak = allocator_peak()
        if options.profile and workload.carried:
            arguments = make().arguments
            with jax.profiler.trace(options.profile):
                jax.block_until_ready(compiled(*arguments))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise
        return {"runs x steps": "out of memory"}
    flops, plan = count_flops(traced.jaxpr), compiled.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return {
        "images/s": batch / elapsed,
        "ms/step": 1e3 * elapsed,
        "runs x steps": timed,
        "compile s": compile_seconds,
        "planned GB": (planned - plan.alias_size_in_bytes) / 1e9,
        "peak GB": peak / 1e9 if peak > peak_before else None,
        "GFLOP/image": flops / batch / 1e9,
        "TFLOP/s": flops / elapsed / 1e12,
        "% of matmul": 100 * flops / elapsed / rate,
        "GB/s": (compiled.cost_analysis() or {}).get("bytes accessed", 0) / elapsed / 1e9,
    }


def row(line: dict[str, Any], titles: str = TITLES) -> str:
    """A line of the table; figures have four digits, and what it does not hold is blank."""
    columns = [(line.get(title.strip()) or "", len(title)) for title in titles.split("|")]
    cells = (f"{float(f'{v:.4g}') if isinstance(v, float) else v!s:>{width}}" for v, width in columns)
    return f"| {' | '.join(cells)} |"


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = functools.partial(str.split, sep=",")
    parser.add_argument("--encoders", type=names, default="resnet50,vgg16,inceptionv3")
    parser.add_argument("--dtypes", type=names, default="float32,bfloat16")
    parser.add_argument("--batches", type=names, default="1,8,32", help="images of a step")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--parts", action="store_true", help="also every stage of the encoder, forward and backward")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median is taken")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing for a line; a longer step is run once")
    parser.add_argument("--profile", metavar="DIR", help="write profiles there, of one training step of every line")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    if unknown := set(options.encoders) - ENCODERS.keys():
        parser.error(f"--encoders: unknown: {', '.join(unknown)}; known: {', '.join(ENCODERS)}")
    return options


def main() -> None:
    """Print the machine's rates and a line for every workload."""
    options = parse()
    jax.config.update("jax_enable_compilation_cache", False)
    rates = {dtype: matmul_rate(dtype, "default", options.repeats) for dtype in options.dtypes}
    if jax.default_backend() != "cpu":
        rates["float32 HIGHEST"] = matmul_rate("float32", "highest", options.repeats)
    machine = {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "memory": round(memory_rate(options.repeats) / 1e9, 1),
        "products": {name: round(rate / 1e12, 4) for name, rate in rates.items()},
    }
    print(HEADER.format(**machine))
    titles = TITLES.split("|")
    print(f"| {' | '.join(titles)} |\n|{'|'.join('-' * (len(title) + 1) + ':' for title in titles)}|", flush=True)
    lines = []
    for name, dtype, batch in itertools.product(options.encoders, options.dtypes, map(int, options.batches)):
        for mode, make in workloads(classifier(name, dtype), batch, options.size, options.parts).items():
            figures = measure(make, batch, rates[dtype], options)
            lines.append({"encoder": name, "dtype": dtype, "batch": batch, "mode": mode, **figures})
            print(row(lines[-1]), flush=True)
            if options.json:  # after every line, so that a run that is cut short leaves what it has
                options.json.write_text(json.dumps({"machine": machine, "lines": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()
