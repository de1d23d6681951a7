"""How far beside an even grid the cells of a trained encoder's top map lie, measured on images without labels.

Run from the repository's root: ``python -m benchmarks.offset --encoder=mobilenet_v1_075 --weights=FILE --data=CUB``.

The CAM of the predicted class of an image, and that of the mirrored image for the same class, mirrored back, show the
same where both are placed rightly. So cells are moved by every offset, right or down in pixels, the one map and the
other against it, and the offset of the highest correlation (mean of the images', between the outer cells of both) is
printed, down and across. Beside it are what the encoder says of itself (`Encoder.offset`), what its padding alone would
say, and the correlation at the measured offset, at the encoder's and at 0.
"""

import argparse
from typing import Any

import numpy as np
from flax import nnx

from fcam_jax.data.folder import Folder
from fcam_jax.data.source import DataSet
from fcam_jax.data.synthetic import Synthetic
from fcam_jax.data.transforms import resize
from fcam_jax.models import create_model
from fcam_jax.models.encoder import Encoder, offset_of

STEPS = 16  # offsets that are tried in a cell
AXES = {"down": 1, "across": 2}


def correlation(maps: np.ndarray, mirrored: np.ndarray, stride: int, side: int, offset: float) -> float:
    """Mean of the images' correlations of maps [b, n, c] with those of mirrored images, along the last axis.

    Cell i lies `offset` pixels after `(i + 1/2) stride - 1/2`, in images of so many pixels.
    """
    centres = stride * (np.arange(maps.shape[-1]) + 0.5) - 0.5 + offset
    turned = side - 1 - centres[::-1]
    first, last = max(centres[0], turned[0]), min(centres[-1], turned[-1])
    places = np.arange(first, last, stride / STEPS)

    def seen(values: np.ndarray, at: np.ndarray) -> np.ndarray:
        weights = np.stack([np.interp(places, at, cell) for cell in np.eye(len(at))])
        found = (values @ weights).reshape(len(values), -1)
        found = found - found.mean(axis=1, keepdims=True)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return float((seen(maps, centres) * seen(mirrored[..., ::-1], turned)).sum(axis=1).mean())


def best_offset(maps: np.ndarray, mirrored: np.ndarray, stride: int, side: int) -> float:
    """The offset of the highest correlation, of those up to a cell to either side."""
    offsets = np.arange(-STEPS, STEPS + 1) * stride / STEPS
    return float(max(offsets, key=lambda offset: correlation(maps, mirrored, stride, side, offset)))


def padding_alone(encoder: Encoder, side: int) -> float:
    """The offset if no trained kernel's weight lay beside its middle."""
    return offset_of(side, [layer._replace(shift=0.0) for layers in encoder.strided for layer in layers])


def cams(model: Any, images: np.ndarray, batch: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """CAMs of the predicted classes [b, h, w], and those of images that are mirrored along each axis."""

    @nnx.jit
    def of_batch(model: Any, images: Any) -> Any:
        stages, scores = model(images, train=False)
        labels = scores.argmax(axis=1)
        others = (model(images[:, ::-1], train=False)[0], model(images[:, :, ::-1], train=False)[0])
        return [model.activation(model.map_of(one[-1]), labels) for one in (stages, *others)]

    found = [of_batch(model, images[start : start + batch]) for start in range(0, len(images), batch)]
    plain, *others = (np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*found, strict=True))
    return plain, dict(zip(AXES, others, strict=True))


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="its name")
    parser.add_argument("--weights", required=True, help="with a layer of classes: a file, a folder or a name")
    parser.add_argument("--data", help="folder of a data set; without it the embedded data")
    parser.add_argument("--split", default="val", help="of the data")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th image")
    parser.add_argument("--final_stride", type=int, help="by default that of the weights")
    parser.add_argument("--size", type=int, default=224, help="side to which images are resized")
    parser.add_argument("--batch", type=int, default=25, help="images of a forward pass")
    return parser.parse_args()


def main() -> None:
    """Print a line for each axis."""
    options = parse()
    model = create_model(options.encoder, options.weights, final_stride=options.final_stride)
    data: DataSet = Folder(root=options.data) if options.data else Synthetic(size=options.size)
    source = data.open(options.split)
    images = np.stack([resize(source[at].image, options.size) for at in range(0, len(source), options.every)])
    maps, mirrored = cams(model, images, options.batch)
    stride, side = model.encoder.strides[-1], options.size
    says, alone = model.encoder.offset(side), padding_alone(model.encoder, side)
    print(
        f"{len(images)} images of {side} pixels, final stride {stride}; encoder {says:.2f}, padding alone {alone:.2f}"
    )
    for name, axis in AXES.items():
        one, other = (np.moveaxis(values, axis, -1) for values in (maps, mirrored[name]))
        best = best_offset(one, other, stride, side)
        at = {offset: correlation(one, other, stride, side, offset) for offset in (best, says, 0.0)}
        print(f"{name}: {best:.2f}; correlation {at[best]:.3f}, {at[says]:.3f} by the encoder, {at[0.0]:.3f} at 0")


if __name__ == "__main__":
    main()
