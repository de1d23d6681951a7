"""A page of a few images of each split with their boxes and outlines of masks: to see that all is as it should be."""

import base64
import html
import io
import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import Bool

from fcam_jax.data.published.datasets import WsolDataset
from fcam_jax.data.source import Record
from fcam_jax.data.tfds_source import TfdsSource
from fcam_jax.runtime.files import replace_file

_IMAGES = 8  # of each split
_SIDE = 240  # pixels of the longer side
_BOX, _MASK, _IGNORE = (230, 60, 40), (40, 200, 90), (60, 120, 240)
_STYLE = "body{font:14px sans-serif;margin:2em}figure{display:inline-block;margin:0 1em 1em 0;vertical-align:top}"


def write(path: pathlib.Path, dataset: WsolDataset, data_dir: pathlib.Path, splits: Sequence[str]) -> None:
    """Write the page, one file that needs no other, of the splits that have been prepared. Raises InputError: the
    prepared data cannot be read. OSError: the page cannot be written.
    """
    title = f"{dataset.name}: boxes red, masks green, undecided blue"
    parts = [f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"]
    for split in splits:
        source = TfdsSource(name=dataset.name, split=split, data_dir=data_dir, num_classes=dataset.num_classes)
        places = np.unique(np.linspace(0, len(source) - 1, _IMAGES).round().astype(int)).tolist()
        parts += [f"<h2>{split}, {len(source)} images</h2>", *(_figure(source[place]) for place in places)]
    replace_file(path, "\n".join(parts))


def _figure(record: Record) -> str:
    file = io.BytesIO()
    drawn(record).save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    caption = f"{html.escape(record.image_id.rpartition('/')[2])}<br>class {record.label}"
    return f'<figure><img src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def drawn(record: Record) -> PIL.Image.Image:
    """The image of a record, small, with its boxes and the outlines of its masks."""
    image = PIL.Image.fromarray(record.image)
    scale = _SIDE / max(image.size)
    small = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    for mask, colour in ((record.ignore, _IGNORE), (record.mask, _MASK)):
        if mask is not None:
            at_size = PIL.Image.fromarray(mask).resize(small.size, PIL.Image.Resampling.NEAREST)
            small.paste(colour, None, PIL.Image.fromarray(_outline(np.asarray(at_size))))
    draw = PIL.ImageDraw.Draw(small)
    for box in record.boxes if record.boxes is not None else ():
        draw.rectangle((box * scale).round().tolist(), outline=_BOX, width=2)
    return small


def _outline(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside
