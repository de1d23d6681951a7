"""What a score map must be to be evaluated, and how one of another size becomes one of the frame of evaluation."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Float

from fcam_jax.errors import InputError


def checked_score_map(score_map: np.ndarray, image_id: str) -> Float[np.ndarray, "h w"]:
    """The score map in float64, after a check that it can be evaluated.

    Raises InputError: it is not a non-empty matrix of floating-point numbers in [0, 1].
    """
    name = f"image {image_id}: score map"
    score_map, low, high = _matrix(score_map, name)
    if low < 0 or high > 1:
        raise InputError(f"{name} lies in [{low:.6g}, {high:.6g}], must lie in [0, 1]")
    return score_map


def scaled_map(stored: np.ndarray, size: tuple[int, int], minmax: bool, name: str) -> Float[np.ndarray, "h w"]:
    """A map of another program as it is evaluated.

    A constant map becomes 0. A map of another size is resized and then scaled,

    $$ (M - \\min M) / \\max(M - \\min M), \\quad M = bicubic(stored), $$

    as the protocol does with a low-resolution CAM. A map of the right size is taken as it is: what the protocol's
    program leaves in its files went through this already, and some methods' maps are meant not to.

    Args:
      stored: the map, called `name` in messages.
      size: height and width of the frame of evaluation, in pixels.
      minmax: scale maps of the right size too.

    Raises:
      InputError: the array is no matrix of finite floating-point numbers, or of the right size and beyond [0, 1].

    Reference: Choe et al., CVPR 2020, released program, which resizes by OpenCV in float64.
    Differs from: `cams.score_maps`, which computes in float32 and is compiled anew for each size.
    """
    score_map, low, high = _matrix(stored, f"{name}:")
    as_it_is = score_map.shape == size and not minmax
    if as_it_is and not 0 <= low <= high <= 1:
        text = f"lies in [{low:.6g}, {high:.6g}], must lie in [0, 1], being of the frame's size"
        raise InputError(f"{name}: {text}; divide 8-bit levels by 255, of other scores minmax makes each map's own")
    if low == high:
        return np.zeros(size)
    if as_it_is:
        return score_map
    if score_map.shape != size:
        score_map = np.asarray(cv2.resize(score_map, size[::-1], interpolation=cv2.INTER_CUBIC))
    score_map = score_map - score_map.min()
    high = score_map.max()
    return score_map / high if high > 0 else score_map


def check_aspects(
    shapes: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]], name: Callable[[int], str]
) -> list[str]:
    """Lines on maps whose aspect is not their image's; those of a network's square input fit all.

    `shapes` and `sizes` are height and width of maps and images, 0 where that is not known; `name` is that of a map by
    its position. Raises InputError: most of those that tell have the aspect of the image turned.
    """
    telling = [i for i, (h, w) in enumerate(shapes) if h != w and all(sizes[i])]
    wrong = [i for i in telling if not _fits(shapes[i], sizes[i])]
    turned = [i for i in wrong if _fits(shapes[i][::-1], sizes[i])]
    others = [i for i in wrong if i not in turned]
    if len({shapes[i] for i in telling}) == 1 and len(turned) < len(telling):
        return []  # all are of one network's oblong input
    lines = []
    for places, what in (
        (turned, "have the aspect of the image turned; they are (height, width): transpose them"),
        (others, "have another aspect than their image; they are stretched to it, as maps of the whole image are"),
    ):
        if places:
            (h, w), (height, width) = shapes[places[0]], sizes[places[0]]
            first = f"{name(places[0])}: {h} high, {w} wide, the image {height} high, {width} wide"
            lines.append(f"{len(places)} of {len(shapes)} maps {what} ({first})")
    if 2 * len(turned) > len(telling):
        raise InputError(lines[0])
    return lines


def _fits(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a map may be of an image, its sides rounded in any way."""
    (h, w), (height, width) = shape, size
    return (h - 1) * width <= (w + 1) * height and (w - 1) * height <= (h + 1) * width


def _matrix(score_map: np.ndarray, name: str) -> tuple[Float[np.ndarray, "h w"], float, float]:
    """The map in float64, its least and its largest value."""
    if not np.issubdtype(score_map.dtype, np.floating):
        raise InputError(f"{name} holds {score_map.dtype}, must be floating point in [0, 1]; divide levels by 255")
    if score_map.ndim != 2 or score_map.size == 0:
        raise InputError(f"{name} has shape {score_map.shape}, must be (height, width)")
    low, high = float(score_map.min()), float(score_map.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name} holds NaN or infinity")
    return np.ascontiguousarray(score_map, np.float64), low, high
