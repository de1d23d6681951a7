"""What is chosen of the data, whatever their source, and the chosen source out of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fcam_jax.component import at_least, defaults_of, known
from fcam_jax.data import SOURCES
from fcam_jax.data.layouts.problems import ON_ERROR
from fcam_jax.data.source import DataSet
from fcam_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The part `data` of a configuration; a source takes those that it has fields for.

    Attributes:
      name: by which the report finds published figures: "CUB" or "OpenImages".
      source: where images come from: "folder", "tfds" or "synthetic".
      root: folder: the folder that holds the data; tfds: the one it was prepared in.
      layout: folder: "wsol", "classes", "manifest", "coco", "cub", "voc" or "yolo"; empty: by what is there.
      tfds: tfds: name of the prepared data set, such as "cub_wsol".
      num_classes: 0: as many as the data has.
      classes: file with a class's name on each line, or names with commas between: their order, and all of them,
        also those without images; empty: the data's.
      on_error: an image or line that cannot be used: "fail", or "skip" it, count and list it.
      upright: folder: turn images as their EXIF orientation says; boxes are then of upright images.
      fraction: share of the training images of every class that is trained on, in (0, 1].
      augment: of "jitter,grayscale,blur,solarize", in the order given; crops and flips are always made.
      batch_size: images of a training batch, over all devices.
      resize: training: images are resized to a square of this side in pixels,
      size: and cropped to this one.
      test_size: val, test and prediction: images are resized straight to a square of this side; 0: size.
      cache_gigabytes: resized images of train and val are kept in memory where they fit into this.
    """

    name: str = ""
    source: str = "folder"
    root: str = ""
    layout: str = ""
    tfds: str = ""
    num_classes: int = 200
    classes: str = ""
    on_error: str = "fail"
    upright: bool = False
    fraction: float = 1.0
    augment: str = ""
    batch_size: int = 32
    resize: int = 256
    size: int = 224
    test_size: int = 0
    cache_gigabytes: float = 2.0

    def __post_init__(self) -> None:
        at_least(self, batch_size=1, resize=1, size=1, test_size=0, num_classes=0, cache_gigabytes=0)
        known(self, on_error=ON_ERROR, source=SOURCES)
        if not 0 < self.fraction <= 1:
            raise InputError(f"fraction is {self.fraction}; it must lie in (0, 1]")

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The names in `augment`."""
        return tuple(name.strip() for name in self.augment.split(",") if name.strip())

    def data_set(self, own: Mapping[str, Any]) -> DataSet:
        """The chosen source.

        Args:
          own: its settings that are not among these, which stand in the configuration under its name.

        Raises:
          InputError: a setting cannot be used; the message starts with its key below `data`.
        """
        component = SOURCES[self.source]
        shared = {name: getattr(self, name) for name in defaults_of(component) if hasattr(self, name)}
        try:
            return component(**shared, **own)
        except InputError as error:
            raise InputError(str(error) if str(error).split()[0] in shared else f"{self.source}.{error}") from None


def tested_side(data: Any) -> int:
    """Side in pixels of the images of val, test and prediction, of the part `data` of a configuration or a record."""
    side: int = data.get("test_size") or data["size"]
    return side
