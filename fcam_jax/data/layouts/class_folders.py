"""A data set whose classes are folders of images, ``class/1.jpg``, below a folder for each split or all for training.

In: the folder. Out: `Metadata` with labels by the names of the classes in order, and neither boxes nor masks.
"""

import pathlib
import re
from collections.abc import Collection, Sequence

import numpy as np

from fcam_jax.data.layouts import tree
from fcam_jax.data.layouts.metadata import Layout, Metadata, Place, ordered, settle_names
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.errors import InputError
from fcam_jax.runtime.text import listed

# Folders that every program makes; classes are seldom called so.
_NO_CLASSES = set("images imgs img image jpegimages photos pictures masks annotations labels segmentations".split())  # noqa: SIM905

_MASKS = {"masks", "mask", "segmentations", "ground_truth"}
_MASK_OF = re.compile(r"(.+?)[ _.-]*(?:masks?|seg(?:mentation)?|gt|ground_?truth)(?:[_-]?\d+)?\.\w+", re.IGNORECASE)
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".xml", ".xls", ".xlsx")
_NEAR = 20  # sub-folders, beyond which none is looked into for a data set


def split_folders(root: pathlib.Path) -> dict[str, str]:
    """The splits that a folder has, each with its folder; that is ``""`` where all folders are classes for training.
    Raises InputError: two folders are one split, or folders called as splits hold images and no classes.
    """
    meant = {name: split for name in tree.subfolders(root) if (split := tree.split_of(name))}
    named: dict[str, str] = {}
    for name, split in meant.items():
        if _classes(root / name, tree.SUFFIXES + tree.UNREAD):
            if split in named:
                raise InputError(f"{root}: {named[split]} and {name} are both folders of split {split}; keep one")
            named[split] = name
    if named or not (found := _classes(root, tree.SUFFIXES + tree.UNREAD)):
        return {split: named[split] for split in tree.in_order(named)}
    if set(found) <= set(meant):
        text = "folders called as splits hold images without a folder for each class; a table must give their classes"
        raise InputError(f"{root}: {text} (docs/data/own.md): {listed(sorted(found))}{_unread_tables(root)}")
    return {"train": ""}


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split; `problems` is told of classes that training lacks, and of what is left alone. Raises
    InputError: there are more folders than classes, or one cannot be read, or they are those of no class.
    """
    root = place.images
    folders = split_folders(root)
    place.needs(split, folders)
    classes = {name: _classes(root / folder) for name, folder in folders.items()}
    names = ordered({tree.composed(name) for found in classes.values() for name in found})
    here = root / folders[split]
    _refuse_other_depth(here, classes[split], names, problems)
    _tell_others(root, folders, split, problems)
    trained = {tree.composed(name) for name in classes.get("train", names)}
    walls = _walls(here)
    image_ids: list[str] = []
    labels: list[int] = []
    for folder in _inside(here):
        found = _images(root, pathlib.PurePosixPath(folders[split], folder).as_posix(), walls, problems)
        name = tree.composed(folder)
        if found and name not in trained:
            near = [other for other in trained if other.casefold().strip() == name.casefold().strip()]
            hint = f" (but {near[0]})" if near else ""
            for image_id in found:
                problems.error(root / image_id, f"the training images have no class {name}{hint}", image_id=image_id)
        image_ids += found
        labels += [names.index(name)] * len(found) if found else []
    count, class_names = settle_names(names, num_classes, root, problems)
    for image_id, reason in tree.refused(image_ids).items():
        problems.error(root / image_id, reason, image_id=image_id)
    return Metadata(image_ids, np.array(labels, np.int32), None, num_classes=count, class_names=class_names)


def near(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, where they are few, but for those of images."""
    names = _inside(folder)
    return [folder / name for name in names if not _holds_image(folder / name)] if len(names) <= _NEAR else []


def _images(root: pathlib.Path, folder: str, walls: Collection[tuple[int, int]], problems: Problems) -> list[str]:
    """The images of a class; what else lies there is told, by what the names end in."""
    files = list(tree.files_below(root / folder, walls))
    found = [f"{folder}/{file}" for file in files if file.lower().endswith(tree.SUFFIXES)]
    unread = [file for file in files if file.lower().endswith(tree.UNREAD)]
    others = [f"{folder}/{file}" for file in files if not file.lower().endswith(tree.SUFFIXES + tree.UNREAD)]
    if unread:
        endings = ", ".join(sorted({pathlib.PurePath(file).suffix.lower() for file in unread}))
        text = f"{len(unread)} of {len(unread) + len(found)} pictures cannot be read ({endings})"
        problems.error(root / folder, f"{text}; save them as JPEG or PNG, or remove them", image_id=folder)
    elif not found:
        text = f"no image is there, but {listed(others)}" if others else "it is empty"
        problems.warn(root / folder, f"is no class: {text}")
    stems = {pathlib.PurePath(file).with_suffix("").as_posix() for file in found}
    called = [file for file in found if (of := _MASK_OF.fullmatch(file)) and of[1] in stems]
    if masks := called or [file for file in found if _MASKS & set(file[len(folder) :].lower().split("/")[1:-1])]:
        text = "pictures called as masks of others are taken as photographs; a table must name images and masks"
        problems.warn(root / folder, f"{text}: {listed(masks)}")
    if others and found:
        problems.warn(root / folder, f"files that are no images by their endings: {listed(others)}")
    return found


def _tell_others(root: pathlib.Path, folders: dict[str, str], split: str, problems: Problems) -> None:
    """Warn of what lies beside the folders of splits and of classes."""
    others = [name for name in tree.subfolders(root) if name not in folders.values()]
    if folders[split] and others:
        problems.warn(root, f"folders beside those of the splits (train, val, test) are left alone: {listed(others)}")
        if empty := list(filter(tree.split_of, others)):
            problems.warn(root, f"called as splits, but without images in a folder for each class: {listed(empty)}")
    for folder in dict.fromkeys((root, root / folders[split])):
        if lost := [name for name in sorted(tree.listing(folder)) if not (folder / name).exists() and name[0] != "."]:
            problems.warn(folder, f"links that lead nowhere are left out: {listed(lost)}")
        if images := [name for name in tree.files_in(folder) if name.lower().endswith(tree.SUFFIXES)]:
            problems.warn(folder, f"images that lie in no folder of a class are left alone: {listed(images)}")
        if unread := _unread_tables(folder):
            problems.warn(folder, f"is read by its folders alone{unread}")


def _unread_tables(folder: pathlib.Path) -> str:
    found = [name for name in tree.files_in(folder) if name.lower().endswith(_TABLES)]
    return f"; not read, as no CSV whose first line names path and label: {listed(found)}" if found else ""


def _refuse_other_depth(folder: pathlib.Path, classes: Sequence[str], names: Sequence[str], problems: Problems) -> None:
    """Refuse class folders in which splits or, it seems, the classes lie, and those of no class."""
    below = {name: tree.subfolders(folder / name) for name in classes if not _holds_image(folder / name)}
    within = sorted({one for found in below.values() for one in found})
    of_splits = all(map(tree.split_of, within))
    if names and {name.lower() for name in names} <= _NO_CLASSES and (len(classes) > 1 or of_splits):
        text = f"{listed(classes)}: folders of these names are no classes; a table must give the classes of the images"
        raise problems.stop(folder, f"{text} (docs/data/own.md; programs to label export COCO){_unread_tables(folder)}")
    if len(below) < len(classes) or not within:
        return
    if masks := [f"{name}/{one}" for name, found in below.items() for one in found if one.lower() in _MASKS]:
        text = f"photographs and masks lie in folders of a class ({listed(masks)})"
        raise problems.stop(folder, f"{text}; a table must name images and masks (docs/data/own.md)")
    if of_splits:
        raise problems.stop(folder, f"its classes have folders {listed(within)}; splits must lie above the classes")
    if len(names) == 1:
        deeper = folder / classes[0]
        while len(within) == 1 and not _holds_image(deeper / within[0]):
            deeper /= within[0]
            within = tree.subfolders(deeper)
        if len(within) > 1:
            text = f"all images lie in {deeper.relative_to(folder)}, in folders {listed(within)}"
            raise problems.stop(folder, f"{text}; if these are the classes: --config.data.root={deeper}")
    elif not {name.lower() for name in within} <= _NO_CLASSES:
        text = f"no class holds an image itself, all lie in folders below: {listed(within)}; if these are the classes"
        problems.warn(folder, f"{text}, {listed(classes)} must be called train, val and test, or lie below them")


def _classes(folder: pathlib.Path, endings: tuple[str, ...] = tree.SUFFIXES) -> list[str]:
    """Sub-folders with an image somewhere below them."""
    walls = _walls(folder)
    files = {name: tree.files_below(folder / name, walls) for name in _inside(folder)}
    return [name for name, some in files.items() if any(file.lower().endswith(endings) for file in some)]


def _inside(folder: pathlib.Path) -> list[str]:
    """Sub-folders that are no links back."""
    back = {tree.identity(folder), tree.identity(folder / "..")}
    return [name for name in tree.subfolders(folder) if tree.identity(folder / name) not in back]


def _walls(folder: pathlib.Path) -> set[tuple[int, int]]:
    """The folders that links below a class do not lead into: that of the classes, the one above it, other classes."""
    return {tree.identity(folder / name) for name in ("", "..", *tree.subfolders(folder))}


def _holds_image(folder: pathlib.Path) -> bool:
    """Whether an image lies in a folder itself."""
    return any(name.lower().endswith(tree.SUFFIXES) for name in tree.listing(folder))


LAYOUT = Layout(lambda root: tuple(split_folders(root)), read, sign="class folders of images", last=True)
