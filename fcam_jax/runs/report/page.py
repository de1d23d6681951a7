"""One HTML file with tables, figures and examples, which needs no network and no other file.

The template and its program are `page.html`, `page.css`, `page_maps.js` and `page.js`. Pixels go to the end of the file
in blocks, so that the page is usable before they are read, and of them the browser unpacks only what is looked at.
Names enter as JSON in which ``<`` is escaped, and a policy in the page's head forbids every program but its own and
every address.
"""

import base64
import hashlib
import importlib.resources
import json
import pathlib
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from fcam_jax.runs.class_names import ClassNames, class_title
from fcam_jax.runs.report.paper import main_rows
from fcam_jax.runs.report.runs import Levels, Pixels, StoredExample
from fcam_jax.runtime.files import fresh_partial

# Examples in a block of pixels: what is read for one is read for its neighbours.
_BLOCK = 16


class PixelBlocks:
    """Collects the pixels of all examples, in the page's order, in a file: memory does not grow with their number."""

    def __init__(self, file: TextIO) -> None:
        """No example yet; the file, which holds what is added, is open for writing and reading."""
        self._file = file
        self._block: list[list[Any]] = []
        self._images: dict[bytes, int] = {}
        self._count = 0

    def add(self, pixels: Pixels) -> None:
        """Add an example; an image that was there before is not stored again."""
        known = self._images.setdefault(hashlib.sha256(pixels.jpeg).digest(), self._count)
        image: str | int = known if known < self._count else _base64(pixels.jpeg)
        mask = None if pixels.mask is None else packed(pixels.mask)
        self._block.append([image, mask, [packed(levels) for levels in pixels.levels]])
        self._count += 1
        if len(self._block) == _BLOCK:
            self._flush()

    def write_to(self, file: TextIO) -> None:
        """Write the script elements that hold the blocks, and an element that marks their end."""
        if self._block:
            self._flush()
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)
        file.write("<template></template>")

    def _flush(self) -> None:
        number = (self._count - 1) // _BLOCK
        self._file.write(f'<script type="application/json" id="pixels-{number}">{_json(self._block)}</script>\n')
        self._block = []


def write_page(path: pathlib.Path, summary: Mapping[str, Any], pixels: PixelBlocks) -> None:
    """Write the page; an older one is replaced as a whole.

    Args:
      path: the HTML file.
      summary: by name: "about", a line on what the page is of; "tables"; "figures", groups with "title" and "figures",
        of these "caption" and "svg"; "runs", see `run_facts`; "unsound", a line for each mark of a training;
        "leftOut", a line for each file that could not be used.
      pixels: those of the runs' examples, in the same order.
    """
    parts = {"style": _resource("page.css"), "script": _resource("page_maps.js") + _resource("page.js")}
    # What a content security policy knows a style or program by.
    known = {name: _base64(hashlib.sha256(text.encode()).digest()) for name, text in parts.items()}
    sources = "; ".join(f"{name}-src 'sha256-{digest}'" for name, digest in known.items())
    parts["policy"] = f"default-src 'none'; img-src data:; {sources}; base-uri 'none'; form-action 'none'"
    parts["summary"] = _json({"block": _BLOCK, **summary})
    partial = fresh_partial(path)
    with partial.open("w", encoding="utf-8", newline="") as file:
        before, after = _resource("page.html").split("{{pixels}}")
        file.write(re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], before))
        pixels.write_to(file)
        file.write(after)
    partial.replace(path)


def run_facts(
    title: str,
    methods: Sequence[str],
    names: ClassNames,
    examples: Sequence[StoredExample],
    sizes: Sequence[tuple[int, ...]],
) -> dict[str, Any]:
    """What the page knows of a run and its examples, which have heights and widths."""
    main = [methods.index(row) for row in main_rows(methods)]
    facts = [
        {
            "id": example.image_id,
            "class": example.class_name,
            "size": size,
            "boxes": example.boxes,
            "masked": example.mask_file is not None,
            "findings": [
                {name: getattr(one, name) for name in ("threshold", "box", "iou", "rank")}
                | {
                    "method": methods.index(one.row),
                    "predicted": None if one.predicted is None else class_title(names, one.predicted),
                }
                for one in example.findings
            ],
        }
        for example, size in zip(examples, sizes, strict=True)
    ]
    return {"title": title, "methods": list(methods), "main": main, "examples": facts}


def packed(levels: Levels) -> str:
    """A map of 8 bits in letters: differences along columns, then along rows, modulo 256, deflated.

    Neighbours are alike in a map, and steps are alike where it was enlarged, so most of what is left are small numbers:
    half of what the map takes as PNG, where no pattern longer than a run is looked for, which would take much longer.
    """
    differences = np.diff(np.diff(levels, axis=0, prepend=np.uint8(0)), axis=1, prepend=np.uint8(0))
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    return _base64(deflate.compress(differences.tobytes()) + deflate.flush())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _json(value: Any) -> str:
    """JSON that ends no element and opens none, whatever its texts hold."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=np.ndarray.tolist)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _resource(name: str) -> str:
    return (importlib.resources.files("fcam_jax.runs.report") / name).read_text(encoding="utf-8")
