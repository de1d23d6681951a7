"""Score maps that another program has left in a folder, one `.npy` file per image, with the ground truth of a split.

In: the folder, its files named as by the program of Choe et al. (CVPR 2020): `<image_id>.npy`, the id with its
sub-folders and the image's extension; the split's metadata. Out: `Sample`s. Whatever can be said without opening a map
is said when the folder is made.
"""

import os
import pathlib

import numpy as np
from jaxtyping import Int

from fcam_jax.data.annotations import rescale_boxes, resize_mask
from fcam_jax.data.images import read_mask
from fcam_jax.data.layouts.wsol import read_metadata
from fcam_jax.errors import InputError
from fcam_jax.evaluation.findings import Sample
from fcam_jax.evaluation.score_map import scaled_map
from fcam_jax.runtime.text import listed
from fcam_jax.types import Annotation

_SUFFIX = ".npy"
_ANY_LABEL = np.iinfo(np.int32).max


class ScoreMapFolder:
    """The score maps of a split with their ground truth; random access from several threads.

    Attributes:
      image_ids: of the split, in the order of its `image_ids.txt`.
      labels: class of each image.
      ranks: how many classes were predicted before each image's true one; None until they are known.
      truth: the field of `Annotation` that holds the ground truth, "boxes" or "mask".
      surplus: names of maps that no image of the split has; they are not evaluated.
    """

    image_ids: list[str]
    labels: Int[np.ndarray, " n"]
    ranks: Int[np.ndarray, " n"] | None
    truth: str
    surplus: list[str]

    def __init__(
        self,
        *,
        maps: pathlib.Path,
        metadata: pathlib.Path,
        masks: pathlib.Path | None = None,
        size: int = 224,
        minmax: bool = False,
        num_classes: int | None = None,
    ):
        """Read the split's metadata, and check that every image has its map and its masks.

        Args:
          maps: folder of the score maps.
          metadata: folder of the split's four text files.
          masks: folder that the masks' paths start from.
          size: side of the frame of evaluation, in pixels.
          minmax: scale maps of that size to [0, 1] too, as maps of another size are.
          num_classes: labels must be below it; None for any label.

        Raises:
          InputError: for whatever is missing or contradicts itself.
        """
        if size < 1:
            raise InputError(f"--size={size}: the frame of evaluation must have at least one pixel")
        if not maps.is_dir():
            raise InputError(f"--scoremaps={maps}: no such folder")
        split = read_metadata(metadata, _ANY_LABEL, needs_localization=True)
        self.image_ids, self.labels, self.ranks = split.image_ids, split.labels, None
        self.truth = "mask" if split.boxes is None else "boxes"
        self.surplus = _match(maps, self.image_ids)
        self._split, self._maps, self._masks, self._size, self._minmax = split, maps, masks, size, minmax
        if num_classes is not None and self.labels.max() >= num_classes:
            position = int(self.labels.argmax())
            raise InputError(
                f"{metadata / 'class_labels.txt'}: label {self.labels[position]} of {self.image_ids[position]} "
                f"must be below --num_classes={num_classes}"
            )
        self._check_masks(metadata)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """The image at a position of the split.

        Raises:
          InputError: its map or one of its masks cannot be used; the message names the file.
        """
        path = self._maps / (self.image_ids[index] + _SUFFIX)
        score_map = scaled_map(read_map(path), (self._size, self._size), self._minmax, str(path))
        return Sample(index, score_map, self._annotation(index), None if self.ranks is None else int(self.ranks[index]))

    def _annotation(self, index: int) -> Annotation:
        image_id, label, size = self.image_ids[index], int(self.labels[index]), self._size
        if self._split.boxes is not None and self._split.sizes is not None:
            width, height = self._split.sizes[index].tolist()
            boxes = rescale_boxes(self._split.boxes[index], (width, height), (size, size))
            return Annotation(image_id, label, boxes.astype(np.int64))
        assert self._masks is not None and self._split.masks is not None
        masks, folder = self._split.masks[index], self._masks
        mask = np.any([resize_mask(read_mask(folder / str(name)), size) for name in masks.instances], axis=0)
        undecided = [resize_mask(read_mask(folder / str(name)), size) for name in masks.ignore]
        ignore = np.any(undecided, axis=0) & ~mask if undecided else None
        return Annotation(image_id, label, mask=mask, ignore=ignore)

    def _check_masks(self, metadata: pathlib.Path) -> None:
        if self._split.masks is None:
            return
        if self._masks is None:
            raise InputError(f"{metadata / 'localization.txt'} names masks: give the folder of their paths by --masks")
        names = [name for masks in self._split.masks for name in masks.files()]
        missing = [name for name in names if not (self._masks / name).is_file()]
        if missing:
            raise InputError(f"--masks={self._masks}: {len(missing)} mask(s) are not there: {listed(missing)}")


def read_map(path: pathlib.Path) -> np.ndarray:
    """The array in a `.npy` file; nothing in it is executed.

    Raises:
      InputError: the file holds no whole array of numbers.
    """
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever its parser stumbles over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as an array saved by numpy.save: {reason}") from error


def _match(maps: pathlib.Path, image_ids: list[str]) -> list[str]:
    """Maps that no image has, after a check that every image has its map."""
    present = {
        (pathlib.Path(folder) / name).relative_to(maps).as_posix()
        for folder, _, names in os.walk(maps, followlinks=True)
        for name in names
        if name.endswith(_SUFFIX)
    }
    missing = [image_id for image_id in image_ids if image_id + _SUFFIX not in present]
    surplus = sorted(present - {image_id + _SUFFIX for image_id in image_ids})
    if missing:
        others = f"; {len(surplus)} map(s) of no image: {listed(surplus)}" if surplus else ""
        raise InputError(
            f"--scoremaps={maps}: {len(missing)} image(s) without a map <image_id>.npy: {listed(missing)}{others}"
        )
    return surplus
