"""Classification accuracy: the rank of the true class among the predictions, and shares of images by it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from fcam_jax.errors import InputError
from fcam_jax.evaluation.metric import Figure, Metric, Scored


class ClassAccuracy(Metric):
    """Share of images with the true class among the first one and the first five predictions.

    Counts: ``ranked``, images with a prediction; ``classified``, images with the true class among the first one and
    five.
    """

    figures = (Figure("top1_cls", column=60, selects=30), Figure("top5_cls", column=None))
    needs = ()
    of_classes = True
    extra = False

    def count(self, image: Scored) -> Mapping[str, Any]:
        """Counts of one image, whose map plays no part."""
        rank = image.rank
        return {"ranked": rank is not None, "classified": [rank is not None and rank < k for k in (1, 5)]}

    def compute(self) -> dict[str, float]:
        """Top-1 and top-5 classification accuracy in percent; empty without predictions."""
        if self.images and self.counts["ranked"] == 0:
            return {}
        top1, top5 = 100 * self.counts["classified"] / self.counts["ranked"]
        return {"top1_cls": float(top1), "top5_cls": float(top5)}


def class_ranks(
    logits: Num[np.ndarray, "b k"], labels: Int[np.ndarray, " b"], image_ids: Sequence[str]
) -> Int[np.ndarray, " b"]:
    """How many classes stand before the true one in a stable descending sort of the logits; 0 is a top-1 hit.

    Raises InputError: a logit is NaN, or a label is no class of the model; the message names the image.
    """
    classes = logits.shape[1]
    for row, label, image_id in zip(logits, labels, image_ids, strict=True):
        if not 0 <= label < classes:
            raise InputError(f"image {image_id}: label {label} is none of the model's {classes} classes")
        if np.isnan(row).any():
            raise InputError(f"image {image_id}: a class score is NaN")
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(classes) < labels[:, None]
    return ((logits > true) | ((logits == true) & earlier)).sum(axis=1)
