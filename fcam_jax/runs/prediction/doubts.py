"""What makes the predictions of a set of images doubtful as a whole: maps without a place, boxes of the whole image."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from fcam_jax.runs.prediction.restored import Restored
from fcam_jax.runtime.text import printable

logger = logging.getLogger(__name__)

CONSTANT = 0.1  # the difference of a map's maximum and minimum below which it shows no place
WHOLE = 0.95  # the share of the image above which a box is the whole of it


class Doubt(NamedTuple):
    """What is doubtful about an image's prediction."""

    image: str
    constant: bool
    whole: bool


def doubt(image: str, found: Restored, size: tuple[int, int]) -> Doubt:
    """What is doubtful about the prediction of an image of some height and width; its largest box counts."""
    constant = bool(found.score_map.max() - found.score_map.min() < CONSTANT)
    areas = [(x1 - x0 + 1) * (y1 - y0 + 1) for x0, y0, x1, y1 in found.boxes[:1].tolist()]
    return Doubt(image, constant, any(area > WHOLE * size[0] * size[1] for area in areas))


def tell(doubts: Sequence[Doubt]) -> None:
    """Warn in one line where more than half of the images have constant maps, or boxes that are the whole image."""
    signs = {
        f"maps are constant (max - min below {CONSTANT:g})": [one.image for one in doubts if one.constant],
        f"boxes cover over {100 * WHOLE:g} % of the image": [one.image for one in doubts if one.whole],
    }
    told = [
        f"{len(images)} of {len(doubts)} {what}, first {printable(images[0])}"
        for what, images in signs.items()
        if 2 * len(images) > len(doubts)
    ]
    if told:
        logger.warning("%s: see docs/poor_results.md", "; ".join(told))
