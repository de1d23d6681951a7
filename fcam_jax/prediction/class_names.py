"""What the classes are called: by a file of the user's, or by the folders of the run's data set."""

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.data.metadata import read_metadata
from fcam_jax.errors import InputError
from fcam_jax.report.record import class_name

# A class without a name is None.
ClassNames = Sequence[str | None]


def names_from_file(path: pathlib.Path, num_classes: int) -> list[str | None]:
    """The lines of a text file, one for each class from 0 on; an empty line is a class without a name.

    Raises:
      InputError: the file cannot be read, or has another number of lines.
    """
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--class_names={path}: cannot be read as text: {error}") from error
    if len(names) != num_classes:
        raise InputError(
            f"--class_names={path}: has {len(names)} lines, the network {num_classes} classes; it needs a line for each"
        )
    return [name.strip() or None for name in names]


def names_from_data(data: Mapping[str, Any]) -> list[str | None]:
    """Names of the classes by the folders of the validation images, as in ``001.Albatross/1.jpg``.

    A class whose images lie in several folders has no name, nor has any where the data set is not there.

    Args:
      data: the part `data` of a recorded configuration.
    """
    folders: dict[int, set[str | None]] = collections.defaultdict(set)
    if data["source"] == "folder":
        try:
            metadata = read_metadata(pathlib.Path(data["root"], "metadata", "val"), data["num_classes"], False)
        except InputError:
            return [None] * data["num_classes"]
        for image_id, label in zip(metadata.image_ids, metadata.labels.tolist(), strict=True):
            folders[label].add(class_name(image_id))
    return [min(folders[i], key=str) if len(folders[i]) == 1 else None for i in range(data["num_classes"])]
