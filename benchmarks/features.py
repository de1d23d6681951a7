"""How much sooner a step of stage 2 is done when what the frozen classifier makes of its images is kept on disk.

Run from the repository's root: ``python -m benchmarks.features --encoders=mobilenet_v1_100,deit_small --size=128``.

A line is F-CAM's step with an encoder and a CAM, on one device, with random weights. ``computed`` is the step that runs
the classifier, ``kept`` the one that is given its maps on the device; runs of the two alternate, so that other work on
the machine slows both. ``read`` is what a batch of them costs out of the file, in the system's cache, to the device;
in a run it comes while the device computes. ``ratio`` is computed over kept, ``at least`` over kept and read together.
Of these ``MiB`` has the size of a crop, ``GiB`` that of a thousand.
"""

import argparse
import dataclasses
import functools
import pathlib
import statistics
import tempfile
from typing import Any

import jax
import numpy as np

from benchmarks.encoders import one_device, random_batch, row
from benchmarks.train import Step, alternate, method_of, network, seconds_of
from fcam_jax.cams import CAMS
from fcam_jax.cams.fusion import fused
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.training.frozen_cache import cached
from fcam_jax.training.placed import Placed, spread

TITLES = "             encoder|      cam|computed ms|kept ms|read ms|ratio|at least|MiB a crop|GiB of 1000 crops"
_ROWS = 64  # of the file


def measure(encoder: str, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of a line."""
    model: Any = network("fcam", encoder, options.dtype)
    body, method = model.classifier.encoder, method_of("fcam")
    assert isinstance(method, FCAMMethod)
    chosen = fused(CAMS[options.cam](), (), len(body.channels), body.cam_stage)
    method = dataclasses.replace(method, cam=chosen)
    batch = random_batch(options.batch, options.size)
    placed = Placed.split(model, method, one_device())
    leaves, structure = jax.tree.flatten(jax.device_get(placed.forward(method.features)(placed, batch)))
    numbers = np.random.default_rng(0).integers(0, _ROWS, (64, options.batch))

    with tempfile.TemporaryDirectory() as folder:
        rows = cached(
            pathlib.Path(folder),
            {},
            _ROWS,
            [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves],
            lambda positions: (
                (np.array([at]), [leaf[at % options.batch][None] for leaf in leaves]) for at in positions
            ),
            "benchmark",
        )

        def read(at: np.ndarray) -> Any:
            features = jax.tree.unflatten(structure, rows(at))
            return jax.block_until_ready(spread(dataclasses.replace(batch, features=features), one_device()))

        given = read(np.arange(options.batch))
        steps = {name: Step(model, method, data, options) for name, data in (("computed", batch), ("kept", given))}
        seconds = alternate({name: step.steps for name, step in steps.items()}, options.seconds, options.repeats)
        reading = statistics.median(seconds_of(read, at) for at in numbers)
    size = rows.rows.dtype.itemsize
    return {
        "encoder": encoder,
        "cam": options.cam,
        "computed ms": 1e3 * seconds["computed"],
        "kept ms": 1e3 * seconds["kept"],
        "read ms": 1e3 * reading,
        "ratio": seconds["computed"] / seconds["kept"],
        "at least": seconds["computed"] / (seconds["kept"] + reading),
        "MiB a crop": size / 2**20,
        "GiB of 1000 crops": 1000 * size / 2**30,
    }


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", type=functools.partial(str.split, sep=","), default="mobilenet_v1_100,deit_small")
    parser.add_argument("--cam", choices=[*CAMS], default="layercam", help="that seeds are drawn from")
    parser.add_argument("--dtype", default="float32", help="of the computation")
    parser.add_argument("--batch", type=int, default=8, help="images of a step")
    parser.add_argument("--size", type=int, default=128, help="side of the images")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median is taken")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing for each step that is timed")
    parser.set_defaults(accumulate=1, remat=False)
    return parser.parse_args()


def main() -> None:
    """Print a line for every encoder."""
    options = parse()
    titles = TITLES.split("|")
    print(f"| {' | '.join(titles)} |\n|{'|'.join('-' * (len(title) + 1) + ':' for title in titles)}|", flush=True)
    for encoder in options.encoders:
        print(row(measure(encoder, options), TITLES), flush=True)


if __name__ == "__main__":
    main()
