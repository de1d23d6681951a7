"""What becomes of damaged image files: refused, decoded all the same, or decoded to wrong pixels unnoticed.

Run from the repository's root: ``python -m tests.fuzz.images --images=DIR --flips=2500``. JPEGs of the folder are
saved anew in every format, then single bytes are changed and files cut off, at random places. Slow are cases that take
more than a second; crashes are exceptions other than an `InputError` of one line. "Pillow" is the number of wrong
pixels that Pillow alone lets pass in the same cases.
"""

import argparse
import collections
import io
import pathlib
import time

import numpy as np
import PIL.Image

from fcam_jax.data.images import decode_image
from fcam_jax.errors import InputError

# Name of a kind of file to what Pillow's `save` is given for it.
FORMATS = {
    "JPEG baseline": {"format": "JPEG", "quality": 90},
    "JPEG progressive": {"format": "JPEG", "quality": 90, "progressive": True},
    "PNG": {"format": "PNG"},
    "GIF": {"format": "GIF"},
    "BMP": {"format": "BMP"},
    "TIFF plain": {"format": "TIFF"},
    "TIFF deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "TIFF LZW": {"format": "TIFF", "compression": "tiff_lzw"},
    "WebP lossy": {"format": "WEBP"},
    "WebP lossless": {"format": "WEBP", "lossless": True},
    "AVIF": {"format": "AVIF", "speed": 10},
    "JPEG 2000": {"format": "JPEG2000"},
    "PPM": {"format": "PPM"},
    "TGA": {"format": "TGA"},
}
SLOW = 1.0  # seconds


def encoded(image: PIL.Image.Image, name: str) -> bytes:
    """The content of a file of a kind in `FORMATS`."""
    file = io.BytesIO()
    image.save(file, **FORMATS[name])
    return file.getvalue()


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """With one byte changed to another value."""
    place = rng.integers(len(data))
    return data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :]


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """Only the beginning."""
    return data[: rng.integers(len(data))]


def by_pillow(data: bytes) -> np.ndarray | None:
    """Pixels as Pillow alone decodes them; None where it refuses."""
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:  # as many kinds as Pillow has parsers
        return None


def outcome(data: bytes, truth: np.ndarray) -> str:
    """How `decode_image` takes a damaged file: "refused", "right", "wrong" or "crash"."""
    try:
        pixels = decode_image(data, "image")
    except InputError as error:
        return "crash" if "\n" in str(error) else "refused"
    except Exception:
        return "crash"
    return "right" if np.array_equal(pixels, truth) else "wrong"


def count(files: list[bytes], damage, cases: int, rng: np.random.Generator) -> collections.Counter[str]:
    """Outcomes of so many damaged files."""
    truths = [by_pillow(data) for data in files]
    counts: collections.Counter[str] = collections.Counter()
    for case in range(cases):
        truth = truths[case % len(files)]
        data = damage(files[case % len(files)], rng)
        start = time.thread_time()
        counts[outcome(data, truth)] += 1
        counts["slow"] += time.thread_time() - start > SLOW
        plain = by_pillow(data)
        counts["Pillow"] += plain is not None and not np.array_equal(plain, truth)
    return counts


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=pathlib.Path, required=True, help="folder of JPEGs")
    parser.add_argument("--flips", type=int, default=2500, help="cases of each damage in each format")
    parser.add_argument("--sample", type=int, default=50, help="number of images, evenly from the folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    paths = sorted(options.images.rglob("*.jpg"))
    images = [PIL.Image.open(path).convert("RGB") for path in paths[:: max(1, len(paths) // options.sample)]]
    columns = ("refused", "right", "wrong", "Pillow", "crash", "slow")
    print(f"{'format':18}{'damage':10}{'cases':>8}" + "".join(f"{column:>9}" for column in columns))
    for name in FORMATS:
        files = [encoded(image, name) for image in images]
        for damage in (flipped, cut):
            counts = count(files, damage, options.flips, np.random.default_rng(options.seed))
            row = "".join(f"{counts[column]:9}" for column in columns)
            print(f"{name:18}{damage.__name__:10}{options.flips:8}{row}", flush=True)


if __name__ == "__main__":
    main()
