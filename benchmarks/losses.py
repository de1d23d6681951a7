"""Time, memory and error of every form of the dense CRF loss.

Run from the repository's root: ``python -m benchmarks.losses [--images=DIR] [--sizes=64,224] [--json=FILE]``.
The images are photographs of a folder, or of the embedded data set; the maps S are soft ellipses with some noise.

A line is a form at a size. ``ms`` is the time of value and gradient for an image of a batch, the median of repeats in
which all forms take turns; ``x exact`` how many times as fast that is as the sum of all pairs; ``MB`` what the compiled
function needs beside its arguments and results, for an image. Errors are against the sum of all pairs in float64, at
random pixels of every image: of K S, ``KS`` in percent of its norm, the median over images and draws, and the highest
of the images' medians; ``1 - cosine`` of the gradient, the highest of the images' means; of the loss, ``bias``, that of
the mean over draws, and ``spread``, the standard deviation over draws, in percent: the median and the highest over
images. The lines ``cells`` draw landmarks from square cells, without regard to brightness.
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
from typing import Any

import jax
import jax.numpy as jnp
import numba
import numpy as np
from jaxtyping import Array, Float, UInt8

from benchmarks.encoders import row
from fcam_jax.data.images import read_image
from fcam_jax.data.synthetic import render
from fcam_jax.data.transforms import resize
from fcam_jax.losses.crf_energy import BLOCK, crf_energy, landmarks, pixel_features
from fcam_jax.losses.gaussian_sum import FORMS as KERNELS
from fcam_jax.losses.gaussian_sum import gaussian_sum
from fcam_jax.runs.prediction.images import find_images

SIGMA_XY, SIGMA_RGB = 100.0, 15.0  # the former in pixels at a side of 224
TITLES = "size|form|landmarks|ms|x exact|MB|KS %|max KS %|1 - cosine|bias %|max bias %|spread %|max spread %"

Maps = Float[np.ndarray, "b h w 2"]
Images = UInt8[np.ndarray, "b h w 3"]


def pictures(folder: pathlib.Path | None, count: int, size: int) -> tuple[Images, Maps]:
    """Images and a soft map of each, the same at every size but for their resolution.

    Args:
      folder: of photographs; None for the embedded data set.
      count: images.
      size: side in pixels.
    """
    rng = np.random.default_rng(0)
    if folder is None:
        images = [render(np.random.default_rng((0, i)), i % 8, size).image for i in range(count)]
    else:
        files = find_images([str(folder)], ()).files
        chosen = rng.choice(len(files), min(count, len(files)), replace=False)
        images = [resize(read_image(files[i].path), size) for i in chosen]
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    maps = []
    for _ in images:
        (cy, cx), (ry, rx) = rng.uniform(0.35, 0.65, 2), rng.uniform(0.15, 0.35, 2)
        inside = 1 - np.hypot((y - cy) / ry, (x - cx) / rx)
        foreground = 1 / (1 + np.exp(-12 * inside + rng.normal(0, 0.1, (size, size))))
        maps.append(np.stack([1 - foreground, foreground], axis=-1))
    return np.stack(images), np.stack(maps).astype(np.float32)


@numba.njit(cache=True)
def all_pairs(points, centres, values):
    """The sum of Gaussians in float64, one pair after the other."""
    result = np.zeros((len(points), values.shape[1]))
    for i in range(len(points)):
        for j in range(len(centres)):
            square = 0.0
            for axis in range(points.shape[1]):
                square += (points[i, axis] - centres[j, axis]) ** 2
            weight = math.exp(-square / 2)
            for k in range(values.shape[1]):
                result[i, k] += weight * values[j, k]
    return result


def exact_at(images: Images, maps: Maps, pixels: np.ndarray) -> np.ndarray:
    """K S in float64 at some pixels of each image, [b, p, 2]."""
    size = images.shape[1]
    places = np.stack(np.mgrid[:size, :size], axis=-1) / (SIGMA_XY * size / 224)
    found = []
    for image, probs, chosen in zip(images, maps, pixels, strict=True):
        features = np.concatenate([places, image.astype(np.float64) / SIGMA_RGB], axis=-1).reshape(-1, 5)
        found.append(all_pairs(features[chosen], features, probs.reshape(-1, 2).astype(np.float64)))
    return np.stack(found)


def errors(
    images: Images,
    maps: Maps,
    *,
    stride: int,
    block: int = BLOCK,
    kernel: str = "auto",
    draws: int = 200,
    count: int = 1024,
) -> dict[str, Any]:
    """Errors of K S and of the loss by landmarks (stride 0: exact), over images and draws.

    Args:
      images: RGB.
      maps: S.
      stride: root of the pixels that a landmark stands for, or 0.
      block: see `landmarks`.
      kernel: by which the sum is computed.
      draws: of landmarks.
      count: random pixels of each image at which K S is compared, and over which the loss is summed up.
    """
    size = images.shape[1]
    rng = np.random.default_rng(1)
    pixels = np.stack([rng.choice(size * size, min(count, size * size), replace=False) for _ in images])
    truth = exact_at(images, maps, pixels)
    flat = jnp.asarray(maps.reshape(len(maps), -1, 2))
    colours = jnp.asarray(images, jnp.float32)
    features = pixel_features(colours, SIGMA_XY * size / 224, SIGMA_RGB)
    points, here = (jnp.take_along_axis(a, jnp.asarray(pixels)[..., None], axis=1) for a in (features, flat))

    # Arguments, not constants: the compiler would compute with constants, which takes it minutes.
    @jax.jit
    def estimate(key: Array, points: Array, features: Array, flat: Array, colours: Array) -> Float[Array, "b p 2"]:
        if stride == 0:
            return gaussian_sum(points, features, flat, form=kernel)
        where, weights = landmarks(jax.random.split(key, len(colours)), colours, stride, block)
        centres, values = (jnp.take_along_axis(a, where[..., None], axis=1) for a in (features, flat))
        return gaussian_sum(points, centres, values * weights[:, None], form=kernel)

    keys = jax.random.split(jax.random.key(2), draws if stride else 1)
    found = np.stack(
        [np.asarray(estimate(key, points, features, flat, colours), np.float64) for key in keys]
    )  # draws, images, pixels, regions
    norm = functools.partial(np.linalg.norm, axis=(2, 3))
    relative = 100 * norm(found - truth) / norm(truth[None])
    cosine = (found * truth).sum((2, 3)) / (norm(found) * norm(truth[None]))
    weight = np.asarray(here, np.float64)
    loss = 100 * ((found * weight).sum((2, 3)) / (truth * weight).sum((1, 2)) - 1)
    bias, spread = np.abs(loss.mean(axis=0)), loss.std(axis=0)
    return {
        "KS %": float(np.median(relative)),
        "max KS %": float(np.median(relative, axis=0).max()),
        "1 - cosine": float(1 - cosine.mean(axis=0).min()),
        "bias %": float(np.median(bias)),
        "max bias %": float(bias.max()),
        "spread %": float(np.median(spread)),
        "max spread %": float(spread.max()),
    }


class Timed:
    """Value and gradient of a form, compiled for a batch."""

    def __init__(self, images: Images, maps: Maps, **how: Any):
        sigma_xy = SIGMA_XY * images.shape[1] / 224

        def loss(probs: Array, images: Array, keys: Array) -> Array:
            return crf_energy(probs, images, keys, sigma_xy=sigma_xy, sigma_rgb=SIGMA_RGB, **how).sum()

        keys = jax.random.split(jax.random.key(0), len(images))
        self.arguments = jnp.asarray(maps), jnp.asarray(images, jnp.float32), keys
        self.compiled = jax.jit(jax.value_and_grad(loss)).lower(*self.arguments).compile()
        self.count = len(images)

    def __call__(self) -> float:
        """Milliseconds an image."""
        start = time.perf_counter()
        jax.block_until_ready(self.compiled(*self.arguments))
        return 1e3 * (time.perf_counter() - start) / self.count

    @property
    def megabytes(self) -> float:
        """Temporary memory of an image."""
        return self.compiled.memory_analysis().temp_size_in_bytes / self.count / 1e6


def lines(size: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of all forms at a size."""
    images, maps = pictures(options.images, max(options.count, options.batch), size)
    forms: dict[str, dict[str, Any]] = {"exact": {"form": "exact"}} if size <= options.exact_up_to else {}
    forms |= {f"landmarks, stride {stride}": {"form": "landmarks", "stride": stride} for stride in options.strides}
    forms = {
        name if kernel == "auto" else f"{name}, {kernel}": how | {"kernel": kernel}
        for name, how in forms.items()
        for kernel in options.kernels
    }
    timed = {name: Timed(images[: options.batch], maps[: options.batch], **how) for name, how in forms.items()}
    runs: dict[str, list[float]] = {name: [] for name in timed}
    for _, (name, run) in itertools.product(range(options.repeats + 1), timed.items()):
        runs[name].append(run())
    milliseconds = {name: statistics.median(found[1:]) for name, found in runs.items()}
    images, maps = images[: options.count], maps[: options.count]
    exact = min((time for name, time in milliseconds.items() if name.startswith("exact")), default=None)
    found = []
    for name, how in forms.items():
        stride = how.get("stride", 0)
        error = functools.partial(errors, images, maps, stride=stride, kernel=how["kernel"], draws=options.draws)
        line = {
            "size": size,
            "form": name,
            "landmarks": size * size if not stride else count_landmarks(images, stride, BLOCK),
            "ms": milliseconds[name],
            "x exact": exact / milliseconds[name] if exact else None,
            "MB": timed[name].megabytes,
        }
        found.append(line | error())
        if stride == options.cells:
            cells = {"size": size, "form": f"cells, stride {stride}", "landmarks": count_landmarks(images, stride, 1)}
            found.append(cells | error(block=1))
    return found


def count_landmarks(images: Images, stride: int, block: int) -> int:
    """Landmarks of an image."""
    keys = jax.random.split(jax.random.key(0), len(images))
    return landmarks(keys, jnp.asarray(images, jnp.float32), stride, block)[0].shape[1]


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    numbers: Callable[[str], list[int]] = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--images", type=pathlib.Path, metavar="DIR", help="photographs; default: the embedded data")
    parser.add_argument("--count", type=int, default=12, help="images")
    parser.add_argument("--sizes", type=numbers, default="64,128,224,448", help="sides of the images")
    parser.add_argument("--strides", type=numbers, default="2,4,8")
    parser.add_argument("--kernels", type=lambda text: text.split(","), default="auto", help=f"of {', '.join(KERNELS)}")
    parser.add_argument("--cells", type=int, default=4, help="stride at which square cells are compared, too; 0: none")
    parser.add_argument("--exact-up-to", type=int, default=224, metavar="SIZE", help="largest side for all pairs")
    parser.add_argument("--batch", type=int, default=2, help="images of the batch that is timed")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs, of which the median is taken")
    parser.add_argument("--draws", type=int, default=200, help="draws of landmarks for the errors")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures there too")
    return parser.parse_args()


def main() -> None:
    """Print a line for every size and form."""
    options = parse()
    device, cores = jax.devices()[0].device_kind, len(os.sched_getaffinity(0))
    print(f"jax {jax.__version__}, device {device}, cores {cores}, images {options.images or 'embedded'}")
    print(row({title: title for title in TITLES.split("|")}, TITLES))
    everything = []
    for size in options.sizes:
        for line in lines(size, options):
            everything.append(line)
            print(row(line, TITLES), flush=True)
        if options.json:
            options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
