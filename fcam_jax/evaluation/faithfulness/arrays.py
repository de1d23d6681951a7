"""What a caller gives beside the network: images, maps, numbers; checked, and cut into batches of one size."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fcam_jax.component import is_number
from fcam_jax.data.arrays import array_of
from fcam_jax.errors import InputError
from fcam_jax.runtime.progress import progress_bar

Explain = Callable[..., Any]


def images_of(images: Any) -> Any:
    """Images of any range and number of channels. Raises InputError: another shape, or no finite numbers."""
    found = array_of(images, "images")
    if found.ndim != 4:
        one = "; for one image give images[None]" if found.ndim == 3 else ""
        raise InputError(f"images have the shape {found.shape}; it must be (images, height, width, channels){one}")
    return found


def maps_of(maps: Any) -> Any:
    """Maps, perhaps with a last axis of one channel. Raises InputError: another shape, or no finite numbers."""
    found = array_of(maps, "maps")
    found = found[..., 0] if found.ndim == 4 and found.shape[-1] == 1 else found
    if found.ndim != 3:
        one = "; for one map give maps[None]" if found.ndim == 2 else ""
        raise InputError(f"maps have the shape {found.shape}; it must be (images, height, width){one}")
    return found


def check_sizes(maps: Any, images: Any) -> None:
    """Refuse maps that are not of their images' number and size."""
    if maps.shape != images.shape[:3]:
        there, wanted = (" x ".join(map(str, shape)) for shape in (maps.shape, images.shape[:3]))
        raise InputError(f"maps are {there}, images {wanted}: give a map for each image, resized to the image's size")


def explained(explain: Explain, *given: Any) -> Float[Array, "b h w"]:
    """The maps that a caller's function makes of images, float32; or what has them as its `maps`.

    Raises InputError: they are no maps, or not one for each image.
    """
    found = explain(*given)
    maps = maps_of(getattr(found, "maps", found))
    count = len(given[-1])  # labels
    if len(maps) != count:
        raise InputError(f"explain returns {len(maps)} maps of {count} images; it must return one for each")
    return jnp.asarray(maps, jnp.float32)


def labels_like(labels: Any, images: Any) -> np.ndarray:
    """A label for each image. Raises InputError: there is another number of them, or they are no whole numbers."""
    given = np.asarray(array_of(labels, "labels"))
    if given.shape != (len(images),) or given.dtype.kind not in "iu":
        raise InputError(f"labels are {given.dtype} of the shape {given.shape}; they must be {len(images)} integers")
    return given


def batches(count: int, batch_size: int, title: str) -> Iterator[np.ndarray]:
    """Positions of a batch's images, counted by a bar. All batches have one size: the last image is repeated."""
    whole("batch_size", batch_size)
    size = min(batch_size, count)
    with progress_bar(f"{title} of {count} image(s)", count, "image") as bar:
        for start in range(0, count, size):
            yield np.minimum(np.arange(start, start + size), count - 1)
            bar.update(min(size, count - start))


def joined(found: list[Any], count: int) -> Any:
    """The figures of all images, out of those of batches."""
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *found)


def whole(name: str, value: Any) -> None:
    """Refuse what is no whole number from 1."""
    if not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r:.100}; it must be a whole number from 1")


def not_negative(name: str, value: Any) -> None:
    """Refuse what is no number from 0."""
    if not is_number(value) or not 0 <= value < np.inf:
        raise InputError(f"{name} is {value!r:.100}; it must be a number from 0")
