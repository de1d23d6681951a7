"""Whether the maps of a split look as if they were saved in another way than they are read: turned, or inverted."""

import math
from collections.abc import Mapping
from typing import Any

from fcam_jax.evaluation.metric import Metric, Scored

_SIGMAS, _MOST = 3, 0.75


class Plausibility(Metric):
    """Number of images whose map fits the object better with its axes exchanged, or upside down. It has no figure.

    Counts: ``straight`` and ``turned``, images whose mean on the object differs more from that beside it as the map is,
    and with exchanged axes; ``low``, those of the former in which it is the lower one.
    """

    def count(self, image: Scored) -> Mapping[str, Any]:
        inside = image.object
        if not inside.any() or inside.all():
            return {"straight": 0, "turned": 0, "low": 0}
        here, there = (
            float(one[inside].mean() - one[~inside].mean()) if one.shape == inside.shape else 0.0
            for one in (image.score_map, image.score_map.T)
        )
        turned = abs(there) > abs(here)
        return {"straight": abs(here) > abs(there), "turned": turned, "low": here < 0 and not turned}

    def doubts(self) -> list[str]:
        """A line on each thing that is hardly chance."""
        images, straight, turned, low = (int(self.counts[name]) for name in ("images", "straight", "turned", "low"))
        lines = []
        if turned > straight + _SIGMAS * math.sqrt(straight + turned):
            text = "the map fits the object better with x and y exchanged; maps are [height, width]: transpose them"
            lines.append(f"in {turned} of {images} images {text}")
        if low > max(_MOST * images, images / 2 + _SIGMAS * math.sqrt(images) / 2):
            text = "the map is lower on the object than beside it; where high scores are background, give 1 - map"
            lines.append(f"in {low} of {images} images {text}")
        return lines
