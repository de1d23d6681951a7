"""A split as rows of `manifest.jsonl`, which `manifest.py` reads back to the same records."""

import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool

from fcam_jax.data.layouts.inspection import Inspected
from fcam_jax.data.layouts.metadata import Metadata
from fcam_jax.data.layouts.regions import run_lengths
from fcam_jax.errors import InputError


def prefix(out: pathlib.Path, images: pathlib.Path) -> str:
    """What leads from a manifest's folder to the folder of images, with a slash at its end.

    Raises:
      InputError: the images are not below the manifest's folder.
    """
    way = os.path.relpath(images.absolute(), out.absolute().parent).replace(os.sep, "/")
    if way == ".." or way.startswith("../"):
        raise InputError(f"--out={out}: must lie in {images.absolute()} or in a folder above it, as paths start there")
    return "" if way == "." else f"{way}/"


def rows(
    split: str, metadata: Metadata, usable: Bool[np.ndarray, " n"], inspected: list[Inspected], folder: str
) -> Iterator[dict[str, Any]]:
    """A row for each usable image of a split.

    Args:
      split: its name.
      metadata: of the split.
      usable: which images are written.
      inspected: what each image file is.
      folder: leads from the manifest's folder to that of the images; see `prefix`.
    """
    for index in np.flatnonzero(usable).tolist():
        image_id, label = metadata.image_ids[index], int(metadata.labels[index])
        width, height = inspected[index].size
        path = folder + (metadata.paths or metadata.image_ids)[index]
        row: dict[str, Any] = {"path": path, "label": label, "split": split, "width": width, "height": height}
        if inspected[index].checksum:
            row["sha256"] = inspected[index].checksum
        if image_id != path:
            row["image_id"] = image_id
        if metadata.class_names is not None:
            row["class_name"] = metadata.class_names[label]
        if metadata.boxes is not None and len(metadata.boxes[index]):
            row["boxes"] = metadata.boxes[index].tolist()
        yield row | _masks(metadata, index, folder)


def write(out: pathlib.Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write a manifest, all of it or nothing.

    Raises:
      InputError: it cannot be written.
    """
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        part.replace(out)
    except OSError as error:
        raise InputError(f"--out={out}: cannot be written: {error.strerror or error}") from error


def _masks(metadata: Metadata, index: int, folder: str) -> dict[str, Any]:
    """Columns `mask` and `ignore`; regions become run lengths."""
    masks: list[Any] = []
    ignore: Any = None
    if metadata.masks is not None:
        masks += [folder + name for name in metadata.masks[index].instances]
        undecided_file = metadata.masks[index].ignore
        ignore = folder + undecided_file if undecided_file else None
    if metadata.regions is not None:
        masks += [run_lengths(region.mask()) for region in metadata.regions[index].instances]
        undecided = [region.mask() for region in metadata.regions[index].ignore]
        ignore = run_lengths(np.any(undecided, axis=0)) if undecided else ignore
    return ({"mask": masks} if masks else {}) | ({"ignore": ignore} if ignore else {})
