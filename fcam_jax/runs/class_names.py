"""What the classes are called: by a file of the user's, or by what a run has written down of its data set."""

import pathlib
from collections.abc import Sequence

from fcam_jax.data.classes import ClassNames as ClassNames
from fcam_jax.data.classes import imagenet_classes
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import read_text, replace_file
from fcam_jax.runtime.text import printable

CLASS_NAMES = "class_names.txt"  # in a run's folder, or beside exported weights: a line for each class


def save_names(folder: pathlib.Path, names: Sequence[str | None] | None) -> None:
    """Write down what the classes of a run's data set are called, if that is known."""
    if names is not None and any(names):
        replace_file(folder / CLASS_NAMES, "".join(f"{printable(name or '')}\n" for name in names))


def names_from_file(path: pathlib.Path, num_classes: int | None = None) -> list[str | None]:
    """The lines of a text file, one for each class from 0 on; an empty line is a class without a name.

    Raises:
      InputError: the file cannot be read, or has another number of lines where that is known.
    """
    names = read_text(path).splitlines()
    if num_classes is not None and len(names) != num_classes:
        raise InputError(f"{path}: has {len(names)} lines, the network {num_classes} classes; it needs a line for each")
    return [name.strip() or None for name in names]


def names_of_run(run: pathlib.Path, num_classes: int | None = None) -> list[str | None]:
    """The names that a run has written down of its data set, none where that has none; raises as `names_from_file`."""
    path = run / CLASS_NAMES
    return names_from_file(path, num_classes) if path.is_file() else [None] * (num_classes or 0)


def names_of_weights(weights: pathlib.Path, num_classes: int) -> list[str | None]:
    """What the classes of a weight file or folder are called: by the names beside it, as an export leaves them, else,
    of 1000, ImageNet's; raises as `names_from_file`.
    """
    folder = weights if weights.is_dir() else weights.parent
    imagenet = imagenet_classes()
    if not (folder / CLASS_NAMES).is_file() and num_classes == len(imagenet):
        return [*imagenet]
    return names_of_run(folder, num_classes)


def names_given(setting: str) -> list[str] | None:
    """The classes that `data.classes` lists, in a file or with commas between; None where it is empty.

    Raises:
      InputError: the file cannot be read; a class has no name, or two have the same.
    """
    if not setting.strip():
        return None
    path = pathlib.Path(setting)
    of_file = path.is_file() or "/" in setting or path.suffix == ".txt"
    given = names_from_file(path) if of_file else setting.split(",")
    names = [(name or "").strip() for name in given]
    if "" in names:
        raise InputError(f"data.classes: {'line' if of_file else 'name'} {names.index('') + 1} is empty")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"data.classes has {printable(twice[0])!r} twice")
    return names


def class_title(names: ClassNames | None, label: int) -> str:
    """What pictures and tables call a class: its name, or its number where it has none."""
    name = names[label] if names is not None and 0 <= label < len(names) else None
    return name or f"class {label}"
