"""Score maps that another program has left in a folder, one `.npy` file per image, with the ground truth of a split.

In: the folder, its files named as by the program of Choe et al. (CVPR 2020): `<image_id>.npy`, the id with its
sub-folders and the image's extension; the split's metadata. Out: `Scored` images. Whatever can be said without opening
a map is said when the folder is made.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from fcam_jax.component import at_least, known
from fcam_jax.data.arrays import read_map
from fcam_jax.data.layouts.metadata import UNLOCALIZED, folder_names
from fcam_jax.data.layouts.wsol import read_metadata
from fcam_jax.data.masks import read_mask
from fcam_jax.data.transforms import rescale_boxes, resize_mask
from fcam_jax.errors import InputError
from fcam_jax.evaluation.metric import Scored
from fcam_jax.evaluation.score_map import check_aspects, scaled_map
from fcam_jax.runtime.files import MAP, open_regular, read_text, walk
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.text import listed
from fcam_jax.types import Annotation

_SUFFIX = ".npy"
_ANY_LABEL = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """A folder of score maps, and what is to be measured of it.

    Attributes:
      scoremaps: folder of the maps, <image_id>.npy
      metadata: folder of the split's four text files
      masks: folder that mask paths start from
      predictions: lines image_id,c1,c2,...: predicted classes by number or name, best first
      class_names: text file with a line for each class from 0 on; otherwise the images' folders, where they tell
      out: JSON file for all figures and counts
      per_image: CSV file for a row per image; reads the maps once more
      threshold_step: distance of two thresholds
      size: side of the frame of evaluation in pixels
      minmax: scale maps of the frame's size to [0, 1] too
      unlocalized: "allow": images without a box or mask have no object and count for classification alone; "fail"
      num_classes: labels and predictions must be below it
      at_threshold: also report box accuracy at this threshold
      bootstrap: replicates for 95 % intervals, e.g. 1000
      seed: of the bootstrap
      also: more figures, with commas between
    """

    scoremaps: pathlib.Path
    metadata: pathlib.Path
    masks: pathlib.Path | None = None
    predictions: pathlib.Path | None = None
    class_names: pathlib.Path | None = None
    out: pathlib.Path | None = None
    per_image: pathlib.Path | None = None
    threshold_step: float = 0.001
    size: int = 224
    minmax: bool = False
    unlocalized: str = "fail"
    num_classes: int | None = None
    at_threshold: float | None = None
    bootstrap: int = 0
    seed: int = 0
    also: str = ""

    def __post_init__(self) -> None:
        at_least(self, size=1, bootstrap=0, seed=0)
        known(self, unlocalized=UNLOCALIZED)


class ScoreMapFolder:
    """The score maps of a split with their ground truth; random access from several threads.

    Attributes:
      image_ids: of the split, in the order of its `image_ids.txt`.
      labels: class of each image.
      class_names: what the classes are called, () where that is not known.
      num_classes: their number, where it is known.
      ranks: how many classes were predicted before each image's true one; None until they are known.
      truth: the field of `Annotation` that holds the ground truth, "boxes" or "mask".
      surplus: names of maps that no image of the split has; they are not evaluated.
      has_object: whether each image has a box or a mask.
    """

    ranks: Int[np.ndarray, " n"] | None = None

    def __init__(self, options: FolderOptions):
        """Read the split's metadata, and check that every image has its map and its masks.

        Raises InputError: for whatever is missing or contradicts itself.
        """
        if not options.scoremaps.is_dir():
            raise InputError(f"--scoremaps={options.scoremaps}: no such folder")
        strict = options.unlocalized == "fail"
        self._options, self._split = options, read_metadata(options.metadata, _ANY_LABEL, needs_localization=strict)
        self.image_ids, self.labels = self._split.image_ids, self._split.labels
        self.truth = "mask" if self._split.boxes is None else "boxes"
        self.has_object = self._split.localized()
        self._paths = [options.scoremaps / (image_id + _SUFFIX) for image_id in self.image_ids]
        self.surplus = self._surplus()
        self._check_masks()
        self.class_names, self.num_classes = self._classes()
        if self.num_classes is not None and self.labels.max() >= self.num_classes:
            position = int(self.labels.argmax())
            raise InputError(
                f"{options.metadata / 'class_labels.txt'}: label {self.labels[position]} of {self.image_ids[position]} "
                f"must be below {self.num_classes}, the number of lines of --class_names or --num_classes"
            )

    def aspects(self) -> list[str]:
        """See `check_aspects`; opens every map for its shape alone."""
        if self._split.sizes is None:
            return []
        shapes = list(counted(map(_shape, self._paths), "shapes of the maps", len(self._paths), "map"))
        sizes = [(height, width) for width, height in self._split.sizes.tolist()]
        return check_aspects(shapes, sizes, lambda i: str(self._paths[i]))

    def load(self, index: int) -> Scored:
        """The image at a position of the split.

        Raises InputError: its map or one of its masks cannot be used; the message names the file.
        """
        path, size = self._paths[index], self._options.size
        score_map = scaled_map(read_map(path), (size, size), self._options.minmax, str(path))
        rank = None if self.ranks is None else int(self.ranks[index])
        return Scored(score_map, self._annotation(index, size), rank, index)

    def _annotation(self, index: int, size: int) -> Annotation:
        image_id, label = self.image_ids[index], int(self.labels[index])
        if self._split.boxes is not None and self._split.sizes is not None:
            width, height = self._split.sizes[index].tolist()
            boxes = rescale_boxes(self._split.boxes[index], (width, height), (size, size))
            return Annotation(image_id, label, boxes.astype(np.int64))
        assert self._split.masks is not None and self._options.masks is not None
        masks, folder = self._split.masks[index], self._options.masks
        if not masks.instances:
            return Annotation(image_id, label)
        mask, ignore = np.zeros((2, size, size), bool)
        for union, names in ((mask, masks.instances), (ignore, masks.ignore)):
            for name in names:
                union |= resize_mask(read_mask(folder / str(name)), size)
        return Annotation(image_id, label, mask=mask, ignore=ignore & ~mask)

    def _classes(self) -> tuple[Sequence[str], int | None]:
        """What the classes are called and their number, as far as that is known."""
        names, number = self._options.class_names, self._options.num_classes
        if names is not None:
            found = tuple(name.strip() for name in read_text(names).splitlines())
            return found, len(found)
        folders = folder_names(self.image_ids, self.labels, int(self.labels.max()) + 1) or ()
        if number or not self._options.predictions:
            return () if number else folders, number
        for label, name in enumerate(folders):
            # Folders that are called by numbers which are not their labels' leave open what a number means.
            if name.isdecimal() and name != str(label):
                raise InputError(
                    f"--predictions={self._options.predictions}: class {label} has the folder {name}; say by "
                    "--class_names that classes are given by names, or by --num_classes that by numbers from 0"
                )
        return folders, None

    def _check_masks(self) -> None:
        root, masks = self._options.masks, self._split.masks
        if masks is None:
            return
        if root is None:
            names = self._options.metadata / "localization.txt"
            raise InputError(f"{names} names masks: give the folder of their paths by --masks")
        missing = [name for one in masks for name in one.files() if not (root / name).is_file()]
        if missing:
            raise InputError(f"--masks={root}: {len(missing)} mask(s) are not there: {listed(missing)}")

    def _surplus(self) -> list[str]:
        """Maps that no image has, after a check that every image has its map."""
        root = self._options.scoremaps
        files = (pathlib.Path(folder) / name for folder, names in walk(root, hidden=True) for name in names)
        present = {path.relative_to(root).as_posix() for path in files if path.suffix == _SUFFIX}
        missing = [image_id for image_id in self.image_ids if image_id + _SUFFIX not in present]
        surplus = sorted(present - {image_id + _SUFFIX for image_id in self.image_ids})
        if missing:
            others = f"; {len(surplus)} map(s) of no image: {listed(surplus)}" if surplus else ""
            what = f"{len(missing)} image(s) without a map <image_id>.npy: {listed(missing)}"
            raise InputError(f"--scoremaps={root}: {what}{others}")
        return surplus


def _shape(path: pathlib.Path) -> tuple[int, int]:
    """Height and width of a map; a square where that is not known, as reading it will tell."""
    try:
        with open_regular(path, MAP) as file:
            old = np.lib.format.read_magic(file) == (1, 0)
            read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            height, width = read(file)[0]
    except Exception:  # as in `read_map`, or no matrix
        return (1, 1)
    return height, width
