"""Maps, boxes and classes of images in a program or notebook: `load` a network, call it on images, `show` what it says.

The network, its batches and the way back to an image's size are those of the command `fcam predict`.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fcam_jax.component import path_of
from fcam_jax.data.transforms import resize
from fcam_jax.errors import InputError
from fcam_jax.models.import_weights import advising
from fcam_jax.models.weights_by_name import is_name
from fcam_jax.runs.class_names import class_title
from fcam_jax.runs.prediction.doubts import doubt, tell
from fcam_jax.runs.prediction.images import images_of, names_of
from fcam_jax.runs.prediction.network import (
    OF_WEIGHTS,
    ByCam,
    Network,
    Predictor,
    imported_network,
    trained_network,
)
from fcam_jax.runs.prediction.pictures import Picture
from fcam_jax.runs.prediction.pictures import show as show
from fcam_jax.runs.prediction.restored import Restored, Threshold, restored


@dataclasses.dataclass(frozen=True)
class Predictions(Sequence[Restored]):
    """What a network says about images; every list has an entry for each image, in their order."""

    found: tuple[Restored, ...]
    images: tuple[np.ndarray, ...]  # RGB in [0, 255], of any sizes
    network: Network
    threshold: Threshold  # where the maps were cut

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, place: Any) -> Any:
        return self.found[place]

    @property
    def maps(self) -> list[Float[np.ndarray, "h w"]]:
        """Maps in [0, 1], each of its image's size."""
        return [one.score_map for one in self.found]

    @property
    def masks(self) -> list[Bool[np.ndarray, "h w"]]:
        """True where a map is above the threshold."""
        return [one.mask for one in self.found]

    @property
    def boxes(self) -> list[Int[np.ndarray, "n 4"]]:
        """Boxes ``x0, y0, x1, y1`` around all regions above the threshold, the largest first.

        Corners are the evaluation's: ``x1, y1`` lie one past the last pixel, or on it at the image's edge.
        """
        return [one.boxes for one in self.found]

    @property
    def labels(self) -> list[int]:
        """The classes of the maps."""
        return [one.label for one in self.found]

    @property
    def classes(self) -> list[str]:
        """What these are called: by name, or as ``"class 3"``."""
        return [class_title(self.network.class_names, one.label) for one in self.found]

    @property
    def logits(self) -> Float[np.ndarray, "b k"]:
        """Class scores before softmax."""
        return np.stack([one.logits for one in self.found])

    @property
    def probabilities(self) -> Float[np.ndarray, "b k"]:
        """Class scores after softmax, or after a sigmoid where there is one class or the network was loaded so."""
        return np.stack([one.probabilities for one in self.found])

    def cut(self, threshold: float | None) -> "Predictions":
        """The same maps, cut at another share of each map's maximum, or where None at the validated one: the network
        is not run again. Raises InputError: it lies outside of [0, 1).
        """
        cut = self.network.threshold_at(threshold)
        return dataclasses.replace(self, found=tuple(one.cut(cut) for one in self.found), threshold=cut)

    def show(self, path: str | os.PathLike[str] | None = None) -> "Picture":
        """A picture of all images with their maps and largest boxes; see `show`."""
        titles = [f"{name}  {one.probabilities[one.label]:.1%}" for name, one in zip(self.classes, self, strict=True)]
        boxes = [one.boxes[0] if len(one.boxes) else None for one in self.found]
        return show(list(self.images), self.maps, boxes, title=titles, path=path)

    def __repr__(self) -> str:
        return f"Predictions of {len(self)} images by {self.network.title}: {', '.join(self.classes[:8])}"


class Loaded:
    """A network that is called on images; `network` has its weights and what is known of it."""

    def __init__(self, network: Network, batch_size: int):
        self.network = network
        self._batch_size = batch_size
        self._ready: dict[str, tuple[Network, Predictor]] = {}

    def __call__(
        self,
        images: Any,
        *,
        label: int | str | Sequence[int | str] | None = None,
        cam: str | ByCam | None = None,
        threshold: float | None = None,
        batch_size: int | None = None,
    ) -> Predictions:
        """Maps, boxes and classes of images.

        Args:
          images: one or a sequence of: paths of files, PIL images, arrays (height, width, 3) or (height, width) of
            whole numbers in [0, 255] or of floats in [0, 1]; of any sizes.
          label: the class of the maps, by number or name, for all images or for each; by default the predicted one.
          cam: the name of a CAM instead of the network's own maps, or with stages and settings a `ByCam`.
          threshold: where maps are cut, as a share of each map's maximum; by default the validated one.
          batch_size: images at a time; a new number costs a compilation.

        Raises:
          InputError: an image, class, CAM or threshold cannot be used.
        """
        given = images_of(images, self.network.window)
        network, predictor = self._by(cam, self._batch_size if batch_size is None else _counted(batch_size))
        cut = network.threshold_at(threshold)
        one_each: Any = label if np.ndim(label) == 1 else [label] * len(given)  # type: ignore[arg-type]
        labels = [network.label_of(one) for one in one_each]
        if len(labels) != len(given):
            raise InputError(f"label has {len(labels)} classes for {len(given)} images")
        found = []
        for first in range(0, len(given), predictor.batch_size):
            some = given[first : first + predictor.batch_size]
            pixels = np.stack([resize(image, network.size) for image in some])
            batch = predictor(pixels, np.array(labels[first : first + len(some)]))
            found += [restored(batch, i, (image.shape[0], image.shape[1]), cut) for i, image in enumerate(some)]
        named = zip(names_of(images), found, given, strict=True)
        tell([doubt(name, one, (image.shape[0], image.shape[1])) for name, one, image in named])
        return Predictions(tuple(found), tuple(given), network, cut)

    def _by(self, cam: str | ByCam | None, batch_size: int) -> tuple[Network, Predictor]:
        key = f"{cam} {batch_size}"
        if key not in self._ready:
            by_cam = _by_cam(cam)
            network = self.network if by_cam is None else self.network.by_cam(by_cam)
            self._ready[key] = network, network.predictor(batch_size)
        return self._ready[key]

    @property
    def class_names(self) -> Sequence[str | None]:
        """What the classes are called, None where that is not known."""
        return self.network.class_names

    def __repr__(self) -> str:
        one = self.network
        return f"{one.title} of {len(one.class_names)} classes, {one.size} x {one.size} pixels, {one.threshold}"


def load(
    path: str | os.PathLike[str],
    encoder: str | None = None,
    *,
    cam: str | ByCam | None = None,
    mirrored: bool = False,
    batch_size: int = 8,
    **of_weights: Any,
) -> Loaded:
    """A trained network, to be called on images.

    Args:
      path: folder of a run (its last trained stage), of a stage or of a checkpoint in it; or, with `encoder`, a
        classifier's weights, by path or by name, such as "torchvision:resnet50".
      encoder: the network whose weights are in the file.
      cam: the CAM that yields the maps; by default F-CAM's or the classifier's own, and "cam" for a file.
      mirrored: whether maps are means of those of the image and its mirror image, in twice the time.
      batch_size: images at a time.
      of_weights: for a file: `size` of its images (224); `final_stride`, by default as in `create_model`;
        `probability`, "sigmoid" where an image may have several classes, else "softmax"; `num_classes`, to be checked.

    Raises:
      InputError: there is no such network, or the CAM is not known.
    """
    there, by_cam, count = path_of(path, "path"), _by_cam(cam), _counted(batch_size)
    if not isinstance(mirrored, bool):
        raise InputError(f"mirrored is {mirrored!r:.100}; it must be True or False")
    for name in of_weights.keys() - set(OF_WEIGHTS):
        there_are = ", ".join(("cam", "mirrored", "batch_size", *OF_WEIGHTS))
        raise InputError(f"{name!r:.100} is no argument of load; there: {there_are}")
    if encoder is not None:
        with advising(encoder="encoder={!r}"):
            network = imported_network(there, encoder, by_cam or ByCam("cam"), **of_weights)
    elif there.is_file() or is_name(there):
        raise InputError(f"{path} is weights alone: say of which encoder, as in load(path, encoder='resnet50')")
    elif of_weights:
        raise InputError(f"{', '.join(of_weights)}: a run knows its own")
    else:
        network = trained_network(there, by_cam)
    return Loaded(network.mirrored() if mirrored else network, count)


def _by_cam(given: Any) -> ByCam | None:
    if not isinstance(given, str | ByCam | None):
        raise InputError(f"cam is {given!r:.100}; it must be the name of a CAM, or a ByCam")
    return ByCam(given) if isinstance(given, str) else given


def _counted(batch_size: Any) -> int:
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r:.100}; it must be a whole number from 1")
    return int(batch_size)
