"""Time whole training steps of both stages, say what they are made of, and hold them against an eager PyTorch loop.

Run from the repository's root: ``python -m benchmarks.train --encoders=resnet50 --dtypes=bfloat16 --batches=32,128``.
With ``--torch`` (which needs PyTorch) also the same classifier in torch.nn, trained eagerly: runs of the two alternate,
so that other work on the machine slows both. Where there is other work, hold them on one core (``taskset``): PyTorch's
threads wait for each other.

A line is a stage with an encoder, a compute dtype and a batch on one device. ``step`` is the package's own, on a batch
that lies on the device; images/s are of it alone. ``data`` is what the next batch of the embedded data set costs where
nothing hides it: the pipeline's wait, and the copy; in a run it comes while the device computes. ``log`` is a line of
the metric log, which is written every `log_steps` steps; ``save`` a checkpoint, written and waited for, while a run
goes on. ``compile`` includes tracing; ``cached`` is the same again out of the persistent cache. FLOP and the machine's
rate are those of `benchmarks.encoders`. ``CRF %`` and ``seeds %``: how much shorter F-CAM's step is without them.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from benchmarks import encoders
from benchmarks.encoders import CLASSES, METHOD, SETTINGS, allocator_peak, count_flops, matmul_rate, one_device
from fcam_jax.cams import CAMS
from fcam_jax.configuration import choose, defaults
from fcam_jax.methods.contract import Method
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.models import ENCODERS
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoders import default_cam
from fcam_jax.models.fcam import FCAM
from fcam_jax.runs.build_data import data_set
from fcam_jax.runs.build_model import alignment
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.training.checkpoint import Checkpoints, Progress
from fcam_jax.training.metric_log import MetricLog
from fcam_jax.training.placed import Placed, replicate, spread
from fcam_jax.training.step import TrainState, initial_state, jitted_step
from fcam_jax.types import Batch

STAGES = ("classifier", "fcam")
TITLES = (
    "     stage|             encoder|   dtype|batch|images/s|step ms|data ms|log ms|save ms|GFLOP/image|% of matmul|"
    "compile s|cached s|planned GB|peak GB|CRF %|seeds %|torch images/s|ratio"
)


def network(stage: str, encoder: str, dtype: str) -> nnx.Module:
    """The stage's model with random weights."""
    classifier = encoders.classifier(encoder, dtype)
    if stage == "classifier":
        return classifier
    body = classifier.encoder
    of_layers = {"dtype": jax.numpy.dtype(dtype), "rngs": nnx.Rngs(2)}
    decoder = Decoder(body.channels, body.strides, center=body.decoder_center, **of_layers)
    return FCAM(classifier, decoder)


def method_of(stage: str, *, cam: str = "cam", seeds: bool = True, crf: bool = True, kernel: str = "auto") -> Method:
    """What is trained, with the published settings; of F-CAM's loss a term may be left out, or the CRF's kernel set."""
    if stage == "classifier":
        return METHOD
    loss = defaults().fcam.loss
    loss.crf.kernel = kernel
    loss.seeds.weight *= seeds
    loss.crf.weight *= crf
    return FCAMMethod(CAMS[cam](), SeedSettings(**defaults().fcam.seeds), alignment(loss))


class Step:
    """A compiled step, its state and its batch, which can be run for so many steps."""

    def __init__(self, model: nnx.Module, method: Method, batch: Batch, options: argparse.Namespace):
        mesh = one_device()
        optimizer = SETTINGS.update(SETTINGS.schedule(1), method.learning_rate_factor)
        self.state = initial_state(Placed.split(model, method, mesh), optimizer)
        self.batch, self.key = batch, replicate(jax.random.key(0), mesh)
        self.metrics: dict[str, jax.Array] = {}
        how = {"accumulate": options.accumulate, "remat": options.remat}

        def compiled() -> Any:
            start = time.perf_counter()
            traced = jitted_step(Placed.split(model, method, mesh), method, optimizer, **how).trace(
                self.state, self.batch, self.key
            )
            return traced, traced.lower().compile(), time.perf_counter() - start

        traced, self.compiled, self.compile_seconds = compiled()
        jax.clear_caches()
        self.cached_seconds = compiled()[2]
        self.flops = count_flops(traced.jaxpr)

    def steps(self, count: int) -> None:
        """So many steps; returns when they are done."""
        for _ in range(count):
            self.state, self.metrics = self.compiled(self.state, self.batch, self.key)
        jax.block_until_ready(self.metrics)


def alternate(contestants: dict[str, Callable[[int], None]], seconds: float, repeats: int) -> dict[str, float]:
    """Seconds of a step of each, the median over the runs; the runs of all alternate.

    Before each run is a step that is not timed: the first one after another contestant's finds the caches and the
    memory in the other's state, which costs up to half as much again.

    Args:
      contestants: run so many steps.
      seconds: that each of them takes in all, but at least one step a run.
      repeats: runs of each.
    """
    lengths, runs = {}, {name: [] for name in contestants}
    for name, run in contestants.items():
        run(1)
        lengths[name] = max(1, round(seconds / repeats / seconds_of(run, 1)))
    for _ in range(repeats):
        for name, run in contestants.items():
            run(1)
            runs[name].append(seconds_of(run, lengths[name]) / lengths[name])
    return {name: statistics.median(found) for name, found in runs.items()}


def seconds_of(run: Callable[..., object], *arguments: Any) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def data_seconds(batch: int, size: int, repeats: int) -> float:
    """Seconds from asking for a batch of the embedded data set, whose images are loaded, until it is on the device."""
    config = defaults()
    choose(config, "source=synthetic", ("source",))
    config.data.batch_size = batch
    config.data.resize, config.data.size = round(size * 256 / 224), size
    config.data.num_classes = 8
    for split in ("train", "val", "test"):
        config.data.synthetic[split] = max(batch, 8)
    stream = data_set(config).stream(0, None)
    for _ in range(3):
        next(stream)
    return statistics.median(
        seconds_of(lambda: jax.block_until_ready(spread(next(stream), one_device()))) for _ in range(4 * repeats)
    )


def log_and_save_seconds(state: TrainState, metrics: dict[str, jax.Array], repeats: int) -> tuple[float, float]:
    """Seconds of a line of the metric log, and of a checkpoint until it is on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        log = MetricLog(pathlib.Path(folder), resumed_step=-1, validated=None)
        logging = statistics.median(
            seconds_of(lambda: log.write(0, "train", {name: float(v) for name, v in jax.device_get(metrics).items()}))
            for _ in range(repeats)
        )
        log.close()

        def save(number: int) -> None:
            checkpoints = Checkpoints(pathlib.Path(folder) / str(number), training=True)
            checkpoints.save(state, Progress(number, data={}))
            checkpoints.close()

        return logging, statistics.median(seconds_of(save, number) for number in range(repeats))


def measure(
    stage: str, encoder: str, dtype: str, count: int, rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    """The figures of a line."""
    model, batch = network(stage, encoder, dtype), encoders.random_batch(count, options.size)
    peak_before = allocator_peak()
    cam = default_cam(ENCODERS[encoder])
    step = Step(model, method_of(stage, cam=cam), batch, options)
    contestants: dict[str, Callable[[int], None]] = {"step": step.steps}
    if stage == "fcam" and options.terms:
        for name in ("crf", "seeds"):
            contestants[name] = Step(model, method_of(stage, cam=cam, **{name: False}), batch, options).steps
    if options.torch and stage == "classifier":
        from benchmarks.torch_networks import EagerTraining

        arrays = jax.device_get((batch.images, batch.labels))
        contestants["torch"] = EagerTraining(
            encoder, CLASSES, *arrays, dtype, channels_last=options.torch == "nhwc"
        ).steps
    seconds = alternate(contestants, options.seconds, options.repeats)
    if options.profile:
        with jax.profiler.trace(options.profile):
            step.steps(3)
    peak, plan, elapsed = allocator_peak(), step.compiled.memory_analysis(), seconds["step"]
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    log, save = log_and_save_seconds(step.state, step.metrics, options.repeats)
    without = {name: 100 * (1 - seconds[name] / elapsed) for name in ("crf", "seeds") if name in seconds}
    return {
        "images/s": count / elapsed,
        "step ms": 1e3 * elapsed,
        "data ms": 1e3 * data_seconds(count, options.size, options.repeats),
        "log ms": 1e3 * log,
        "save ms": 1e3 * save,
        "GFLOP/image": step.flops / count / 1e9,
        "% of matmul": 100 * step.flops / elapsed / rate,
        "compile s": step.compile_seconds,
        "cached s": step.cached_seconds,
        "planned GB": (planned - plan.alias_size_in_bytes) / 1e9,
        "peak GB": peak / 1e9 if peak > peak_before else None,
        "CRF %": without.get("crf"),
        "seeds %": without.get("seeds"),
        "torch images/s": count / seconds["torch"] if "torch" in seconds else None,
        "ratio": seconds["torch"] / elapsed if "torch" in seconds else None,
    }


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = functools.partial(str.split, sep=",")
    parser.add_argument("--stages", type=names, default="classifier,fcam")
    parser.add_argument("--encoders", type=names, default="resnet50")
    parser.add_argument("--dtypes", type=names, default="float32,bfloat16")
    parser.add_argument("--batches", type=names, default="32", help="images of a step")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of a batch")
    parser.add_argument("--remat", action="store_true", help="compute maps again for the gradients")
    parser.add_argument("--terms", action="store_true", help="also F-CAM's step without CRF and without seeds")
    parser.add_argument(
        "--torch", nargs="?", const="nchw", choices=("nchw", "nhwc"), help="also an eager PyTorch loop, in this layout"
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median is taken")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing for each step that is timed")
    parser.add_argument("--profile", metavar="DIR", help="write profiles there, of three steps of every line")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    for given, known in ((options.stages, STAGES), (options.encoders, ENCODERS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return options


def main() -> None:
    """Print the machine's rates and a line for every stage, encoder, dtype and batch."""
    options = parse()
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        rates = {dtype: matmul_rate(dtype, "default", options.repeats) for dtype in options.dtypes}
        products = {name: round(rate / 1e12, 4) for name, rate in rates.items()}
        machine = {
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "cores": len(os.sched_getaffinity(0)),
        }
        facts = ", ".join(f"{name} {value}" for name, value in machine.items())
        print(f"{facts}, matrix products, TFLOP/s: {products}")
        titles = TITLES.split("|")
        print(f"| {' | '.join(titles)} |\n|{'|'.join('-' * (len(title) + 1) + ':' for title in titles)}|", flush=True)
        lines = []
        for encoder, dtype, batch, stage in itertools.product(
            options.encoders, options.dtypes, map(int, options.batches), options.stages
        ):
            figures = measure(stage, encoder, dtype, batch, rates[dtype], options)
            how = {name: getattr(options, name) for name in ("size", "accumulate", "remat")}
            lines.append({"stage": stage, "encoder": encoder, "dtype": dtype, "batch": batch, **how, **figures})
            print(encoders.row(lines[-1], TITLES), flush=True)
            if options.json:
                options.json.write_text(
                    json.dumps({"machine": machine, "products": products, "lines": lines}, indent=2) + "\n"
                )


if __name__ == "__main__":
    main()
