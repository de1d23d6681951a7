"""Time the way of an image from its file into a batch against the usual loop of PyTorch programs.

Run from the repository's root: ``python -m benchmarks.data [--images=DIR]``. The loop is what torchvision's transforms
do on Pillow's images, written out here: open, convert, resize, crop, flip, to float channels-first in [0, 1],
normalise, stack; with PyTorch's tensors where it is installed, else with NumPy's arrays. Ours ends with uint8: it is
the network that scales and normalises, on the device. The table therefore also has the loop as far as uint8.

Both sides take turns in one thread and are measured by processor time, which does not grow while other work has the
processor: images/s are those of one core. Images are the folder's JPEGs, or generated textures of 500 x 375 pixels; the
first batch must be the same on both sides. Takes a minute.
"""

import argparse
import concurrent.futures
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import PIL.Image

from fcam_jax.data import transforms
from fcam_jax.data.images import decode_image, read_image
from fcam_jax.data.loaded import LoadedImages, Memory
from fcam_jax.data.pipeline import TrainingStream
from fcam_jax.data.source import Record
from fcam_jax.types import Image

try:
    import torch
except ImportError:
    torch = None

RESIZED, SIDE, BATCH = 256, 224, 32
BILINEAR, FLIP = PIL.Image.Resampling.BILINEAR, PIL.Image.Transpose.FLIP_LEFT_RIGHT
MEAN, DEVIATION = (
    np.array(values, np.float32)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
)

Way = Callable[[Sequence[pathlib.Path]], object]


class Files:
    """A source of image files without classes."""

    num_classes, class_names, localized, left_out, fingerprint = 1, None, False, (), "benchmark"

    def __init__(self, paths: Sequence[pathlib.Path]):
        self._paths = paths

    def __len__(self) -> int:
        """Number of images."""
        return len(self._paths)

    def __getitem__(self, index: int) -> Record:
        """A decoded image."""
        return Record(read_image(self._paths[index]), 0, str(index))


def generate(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """JPEGs of 500 x 375 pixels, quality 90: noise at all scales, the coarser the stronger, as in photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = np.full((375, 500, 3), 128.0)
        for cells in (2, 4, 8, 16, 32, 64, 128, 256):
            noise = rng.standard_normal((cells, cells, 1)) + 0.3 * rng.standard_normal((cells, cells, 3))
            pixels += 60 / cells**0.5 * cv2.resize(noise, (500, 375), interpolation=cv2.INTER_CUBIC)
        PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{i:03}.jpg", quality=90)
    return sorted(folder.glob("*.jpg"))


def opened(path: pathlib.Path) -> PIL.Image.Image:
    """A decoded image as the usual loop has it."""
    with path.open("rb") as file:
        return PIL.Image.open(file).convert("RGB")


def cropped(image: PIL.Image.Image, crop: transforms.Crop) -> PIL.Image.Image:
    """Cut out and perhaps mirrored by Pillow."""
    image = image.crop((crop.left, crop.top, crop.left + SIDE, crop.top + SIDE))
    return image.transpose(FLIP) if crop.mirrored else image


def to_float(image: PIL.Image.Image) -> Any:
    """Channels first, in [0, 1]."""
    pixels = np.array(image, np.uint8)
    if torch is not None:
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def normalised(values: Any) -> Any:
    """By mean and deviation of each channel, in a copy, as torchvision does it."""
    if torch is not None:
        return values.clone().sub_(torch.from_numpy(MEAN)).div_(torch.from_numpy(DEVIATION))
    values = values - MEAN
    values /= DEVIATION
    return values


def stacked(values: Sequence[Any]) -> Any:
    """A batch."""
    return np.stack(values) if torch is None or isinstance(values[0], np.ndarray) else torch.stack(values)


def random_crops(paths: Sequence[pathlib.Path]) -> list[transforms.Crop]:
    """The same for both sides."""
    rng = np.random.default_rng(0)
    return [transforms.random_crop(RESIZED, RESIZED, SIDE, rng) for _ in paths]


def loop_training(paths: Sequence[pathlib.Path]) -> Any:
    """A training batch by the usual loop."""
    images = (opened(path).resize((RESIZED, RESIZED), BILINEAR) for path in paths)
    return stacked([normalised(to_float(cropped(*pair))) for pair in zip(images, random_crops(paths), strict=True)])


def loop_training_bytes(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """The same without floating-point numbers: uint8, channels last."""
    images = (opened(path).resize((RESIZED, RESIZED), BILINEAR) for path in paths)
    return np.stack([np.asarray(cropped(*pair)) for pair in zip(images, random_crops(paths), strict=True)])


def loop_evaluation(paths: Sequence[pathlib.Path]) -> Any:
    """A batch of whole images by the usual loop."""
    return stacked([normalised(to_float(opened(path).resize((SIDE, SIDE), BILINEAR))) for path in paths])


def loop_evaluation_bytes(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """The same without floating-point numbers."""
    return np.stack([np.asarray(opened(path).resize((SIDE, SIDE), BILINEAR)) for path in paths])


def training_image(path: pathlib.Path, crop: transforms.Crop) -> Image:
    """Our way to a training image."""
    return transforms.cut_out(transforms.resize(read_image(path), RESIZED), SIDE, crop)


def our_training(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """A training batch by the functions that the pipeline calls."""
    return np.stack([training_image(*pair) for pair in zip(paths, random_crops(paths), strict=True)])


def our_evaluation(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """A batch of whole images, likewise."""
    return np.stack([transforms.resize(read_image(path), SIDE) for path in paths])


def milliseconds(call: Callable[[], object]) -> float:
    """Processor time of a call, of all threads."""
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def compare(name: str, loop: Way, ours: Way, batches: Sequence[Sequence[pathlib.Path]], rounds: int) -> None:
    """Print minimum and median of the images/s per core of two ways over the rounds, and of their ratio."""
    times = np.array(
        [[sum(milliseconds(lambda: way(batch)) for batch in batches) for way in (loop, ours)] for _ in range(rounds)]  # noqa: B023
    )
    speeds = 1e3 * sum(map(len, batches)) / times
    columns = [*speeds.T, speeds[:, 1] / speeds[:, 0]]
    print(
        f"{name:34}"
        + "".join(f"{np.min(c):10.{d}f}{np.median(c):8.{d}f}" for c, d in zip(columns, (0, 0, 2), strict=True))
    )


def print_stages(paths: Sequence[pathlib.Path], rounds: int) -> None:
    """Print the milliseconds of an image in every stage of a training batch, on both sides, minimum of the rounds."""
    crops, sides = random_crops(paths), [SIDE] * len(paths)
    files = [path.read_bytes() for path in paths]
    decoded = [decode_image(data, "image") for data in files]
    resized = [transforms.resize(image, RESIZED) for image in decoded]
    cut = list(map(transforms.cut_out, resized, sides, crops))
    pillow = [opened(path) for path in paths]
    small = [image.resize((RESIZED, RESIZED), BILINEAR) for image in pillow]
    parts = list(itertools.starmap(cropped, zip(small, crops, strict=True)))
    floats = [to_float(part) for part in parts]
    stages: list[tuple[str, Callable[[], object]]] = [
        ("here: read", lambda: [path.read_bytes() for path in paths]),
        ("decode", lambda: [decode_image(data, "image") for data in files]),
        ("resize", lambda: [transforms.resize(image, RESIZED) for image in decoded]),
        ("crop, flip", lambda: [transforms.cut_out(*pair) for pair in zip(resized, sides, crops, strict=True)]),
        ("stack", lambda: np.stack(cut)),
        ("loop: read, decode", lambda: [opened(path) for path in paths]),
        ("resize", lambda: [image.resize((RESIZED, RESIZED), BILINEAR) for image in pillow]),
        ("crop, flip", lambda: [cropped(*pair) for pair in zip(small, crops, strict=True)]),
        ("to float", lambda: [to_float(part) for part in parts]),
        ("normalise", lambda: [normalised(values) for values in floats]),
        ("stack", lambda: stacked(floats)),
    ]
    cells = [f"{name} {min(milliseconds(call) for _ in range(rounds)) / len(paths):.3f}" for name, call in stages]
    print("ms an image  " + ", ".join(cells[:5]) + "\n             " + ", ".join(cells[5:]))


def print_threads(paths: Sequence[pathlib.Path], rounds: int) -> None:
    """Print images in a second of the clock that one and two threads prepare for training."""
    crops = random_crops(paths)
    for threads in (1, 2):
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            times = []
            for _ in range(rounds):
                start = time.perf_counter()
                list(pool.map(training_image, paths, crops))
                times.append(time.perf_counter() - start)
        best, median = (len(paths) / statistic(times) for statistic in (np.min, np.median))
        print(f"{threads} thread(s), by the clock: best {best:.0f}, median {median:.0f} images/s")


def print_epochs(paths: Sequence[pathlib.Path], epochs: int) -> None:
    """Print images/s of `TrainingStream`, with and without its cache: by the clock and per core."""
    for name, memory in (("not cached", 0), ("cached", 1 << 40)):
        images = LoadedImages(Files(paths), RESIZED, memory=Memory(memory))
        batches = TrainingStream(images, batch_size=BATCH, crop=SIDE, seed=0)
        speeds = []
        for _ in range(epochs):
            start, busy = time.perf_counter(), time.process_time()
            for _ in range(len(paths) // BATCH):
                next(batches)
            count = len(paths) // BATCH * BATCH
            speeds.append((count / (time.perf_counter() - start), count / (time.process_time() - busy)))
        cells = ", ".join(f"{clock:.0f} ({core:.0f})" for clock, core in speeds)
        print(f"TrainingStream, {name}, epoch by epoch, by the clock (per core): {cells} images/s")


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=pathlib.Path, help="folder of JPEGs instead of generated ones")
    parser.add_argument("--count", type=int, default=256, help="how many of them, evenly from the folder")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if torch is not None:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = (
            sorted(options.images.rglob("*.jpg")) if options.images else generate(pathlib.Path(folder), options.count)
        )
        paths = paths[:: max(1, len(paths) // options.count)][: options.count // BATCH * BATCH]
        batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
        assert np.array_equal(our_training(batches[0]), loop_training_bytes(batches[0]))
        assert np.array_equal(our_evaluation(batches[0]), loop_evaluation_bytes(batches[0]))
        print(f"{len(paths)} images, floats of the loop by {'NumPy' if torch is None else 'PyTorch'}")
        print(
            f"{'images/s a core, min. and median':34}" + "".join(f"{title:>18}" for title in ("loop", "here", "ratio"))
        )
        compare("training, to normalised floats", loop_training, our_training, batches, options.rounds)
        compare("training, to uint8", loop_training_bytes, our_training, batches, options.rounds)
        compare("evaluation, to normalised floats", loop_evaluation, our_evaluation, batches, options.rounds)
        compare("evaluation, to uint8", loop_evaluation_bytes, our_evaluation, batches, options.rounds)
        print_stages(paths[: 4 * BATCH], options.rounds)
        print_threads(paths, options.rounds)
        print_epochs(paths, 4)


if __name__ == "__main__":
    main()
