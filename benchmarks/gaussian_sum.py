"""Time the forms of the dense CRF's Gaussian sum, and compare them with the sum in float64.

Run from the repository's root: ``python -m benchmarks.gaussian_sum --sizes=64,128 --strides=1,4``.

Features are those of a smooth random image, centres one random pixel of each cell of ``stride`` pixels. ``ms`` is the
best of several calls, all forms taking turns; ``Gpairs/s`` counts a point with a centre as a pair; ``error`` is the
largest one of 64 points relative to the sum of its terms' sizes; ``temp MB`` is what the compiled program plans beside
its arguments and its result.
"""

import argparse
import functools
import itertools
import time
from typing import Any

import jax
import numpy as np

from benchmarks import encoders
from fcam_jax.losses.gaussian_sum import FORMS, gaussian_sum

TITLES = "  form|images| size|stride|      ms|Gpairs/s|   error| temp MB|compile s"


def example(images: int, size: int, stride: int, columns: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, centres and values as the dense CRF has them at its usual widths."""
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 2, (images, size, size, 3)), 1), 2)
    colours = (smooth - smooth.min((1, 2), keepdims=True)) / np.ptp(smooth, (1, 2), keepdims=True) * 255 / 15
    places = np.broadcast_to(np.stack(np.mgrid[:size, :size], -1) * (224 / size / 100), (images, size, size, 2))
    points = np.concatenate([places, colours], -1).reshape(images, -1, 5).astype(np.float32)
    corners = np.mgrid[:size:stride, :size:stride].reshape(2, -1)
    rows, across = np.minimum(corners[:, None] + rng.integers(0, stride, (2, images, corners.shape[1])), size - 1)
    centres = np.take_along_axis(points, (rows * size + across)[..., None], 1)
    return points, centres, rng.uniform(0, stride**2, (*centres.shape[:2], columns)).astype(np.float32)


def measure(images: int, size: int, stride: int, forms: list[str], calls: int) -> list[dict[str, Any]]:
    """A line for every form."""
    given = example(images, size, stride)
    some = np.random.default_rng(1).integers(0, size**2, 64)
    points, centres, values = (np.asarray(x, np.float64) for x in (given[0][:, some], *given[1:]))
    wanted = np.stack(
        [np.exp(-np.square(p[:, None] - c).sum(-1) / 2) @ v for p, c, v in zip(points, centres, values, strict=True)]
    )
    arguments = jax.device_put(given)
    compiled, lines = {}, []
    for form in forms:
        start = time.perf_counter()
        compiled[form] = jax.jit(functools.partial(gaussian_sum, form=form)).lower(*arguments).compile()
        lines.append({"form": form, "images": images, "size": size, "stride": stride, "ms": np.inf})
        lines[-1]["compile s"] = time.perf_counter() - start
        lines[-1]["temp MB"] = compiled[form].memory_analysis().temp_size_in_bytes / 1e6
        lines[-1]["error"] = float(np.max(np.abs(np.asarray(compiled[form](*arguments))[:, some] - wanted) / wanted))
    for _, line in itertools.product(range(calls), lines):
        start = time.perf_counter()
        jax.block_until_ready(compiled[line["form"]](*arguments))
        line["ms"] = min(line["ms"], 1e3 * (time.perf_counter() - start))
    return [line | {"Gpairs/s": images * size**2 * centres.shape[1] / line["ms"] / 1e6} for line in lines]


def main() -> None:
    """Print a line for every form, size and stride."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = functools.partial(str.split, sep=",")
    parser.add_argument("--forms", type=names, default=",".join(FORMS))
    parser.add_argument("--sizes", type=names, default="64,128", help="side of the images")
    parser.add_argument("--strides", type=names, default="1,4")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--calls", type=int, default=5)
    options = parser.parse_args()
    titles = TITLES.split("|")
    print(f"| {' | '.join(titles)} |\n|{'|'.join('-' * (len(title) + 1) + ':' for title in titles)}|", flush=True)
    for size, stride in itertools.product(map(int, options.sizes), map(int, options.strides)):
        for line in measure(options.images, size, stride, options.forms, options.calls):
            print(encoders.row(line, TITLES), flush=True)


if __name__ == "__main__":
    main()
