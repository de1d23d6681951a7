"""A data set in a folder: images below one folder, text files about them below another.

In: the folders, in the format of Choe et al. (CVPR 2020) with boxes (CUB, ILSVRC) or masks (OpenImages). Out: records.
All that can be checked without decoding an image is checked when the source is made.
"""

import os
import pathlib

import numpy as np
from jaxtyping import Bool

from fcam_jax.data.identity import fingerprint
from fcam_jax.data.images import read_image, read_mask
from fcam_jax.data.metadata import MaskFiles, listed, read_metadata
from fcam_jax.data.source import Record
from fcam_jax.errors import InputError


class FolderSource:
    """The records of one split of a data set in a folder.

    Attributes:
      num_classes: labels are in [0, num_classes).
      fingerprint: checksum of the image ids and labels in their order.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str | os.PathLike[str],
        num_classes: int,
        images: str | os.PathLike[str] | None = None,
        metadata: str | os.PathLike[str] | None = None,
    ):
        """Read and check the split's metadata, and that its files are there.

        Args:
          split: name of the split's folder of text files; every image needs a box or mask unless it is "train".
          root: the data set's folder.
          num_classes: number of classes.
          images: folder that image ids start from; by default `images` below the root.
          metadata: folder that holds a folder for each split; by default `metadata` below the root.

        Raises:
          InputError: for whatever is missing or contradicts itself, with the file's name.
        """
        self.num_classes = num_classes
        root = pathlib.Path(root)
        self._images = pathlib.Path(images) if images else root / "images"
        folder = (pathlib.Path(metadata) if metadata else root / "metadata") / split
        for needed in (root, self._images, folder):
            if not needed.is_dir():
                raise InputError(f"{needed}: no such folder (data.root must hold images/ and metadata/{split}/)")
        self._metadata = read_metadata(folder, num_classes, needs_localization=split != "train")
        self._check_files()
        self.class_names: tuple[str, ...] | None = None
        self.localized = self._metadata.boxes is not None or self._metadata.masks is not None
        self.left_out: tuple[str, ...] = ()
        self.fingerprint = fingerprint(self._metadata.image_ids, self._metadata.labels)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._metadata.image_ids)

    def __getitem__(self, index: int) -> Record:
        """The record at a position, in the order of `image_ids.txt`.

        Raises:
          InputError: when a file cannot be decoded, or the image's size is not the one in the metadata.
        """
        metadata = self._metadata
        path = self._images / metadata.image_ids[index]
        image = read_image(path)
        height, width = image.shape[:2]
        if metadata.sizes is not None and (width, height) != tuple(metadata.sizes[index]):
            stated = " x ".join(map(str, metadata.sizes[index]))
            raise InputError(f"{path}: has {width} x {height} pixels, but {stated} according to image_sizes.txt")
        boxes = metadata.boxes[index] if metadata.boxes is not None else None
        mask, ignore = self._read_masks(metadata.masks[index]) if metadata.masks is not None else (None, None)
        return Record(image, int(metadata.labels[index]), metadata.image_ids[index], boxes, mask, ignore)

    def _read_masks(
        self, files: MaskFiles
    ) -> tuple[Bool[np.ndarray, "mask_h mask_w"] | None, Bool[np.ndarray, "ignore_h ignore_w"] | None]:
        """The union of an image's masks, and its ignore mask."""
        mask = None
        for name in files.instances:
            instance = read_mask(self._images / name)
            if mask is not None and mask.shape != instance.shape:
                raise InputError(f"{self._images / name}: its size is not that of the other masks of its image")
            mask = instance if mask is None else mask | instance
        return mask, read_mask(self._images / files.ignore) if files.ignore else None

    def _check_files(self) -> None:
        """Folders are listed once each: asking for every file takes minutes for a million images on a network disk."""
        names = list(self._metadata.image_ids)
        for files in self._metadata.masks or ():
            names += [*files.instances, *([files.ignore] if files.ignore else [])]
        present: dict[str, set[str]] = {}
        missing = []
        for name in names:
            folder, _, file = name.rpartition("/")
            if folder not in present:
                path = self._images / folder
                present[folder] = {entry.name for entry in os.scandir(path)} if path.is_dir() else set()
            if file not in present[folder]:
                missing.append(name)
        if missing:
            raise InputError(f"{self._images}: {len(missing)} file(s) of the metadata are not there: {listed(missing)}")
