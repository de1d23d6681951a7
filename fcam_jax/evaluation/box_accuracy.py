"""Box metrics of the protocol: MaxBoxAcc, MaxBoxAccV2, top-1 and top-5 localization, classification accuracy.

In: per image a score map of its true class, its boxes and the rank of that class among the predictions; out:
percentages, and their curves against the threshold. Choe et al., CVPR 2020, Sec. 4.1 and appendix.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from fcam_jax.errors import InputError
from fcam_jax.evaluation.boxes import best_iou
from fcam_jax.evaluation.metric import Metric, checked_score_map, thresholds
from fcam_jax.types import Annotation

SIGMAS = (30, 50, 70)

# Positions on the first three axes of the counts: contour, IoU, demand on the predicted class.
_LARGEST, _ANY_CONTOUR = 0, 1
_IOU_50 = SIGMAS.index(50)
_GIVEN_CLASS, _TOP1, _TOP5 = 0, 1, 2


class BoxAccuracy(Metric):
    """Share of images whose object is found by a box, at the best threshold for the data set.

    An image is correct at $(\\sigma, \\tau)$ when $\\max IoU(box(\\tau), truth) \\ge \\sigma / 100$. MaxBoxAcc (also
    known as GT-known) is the maximum over $\\tau$ of the share of correct images at $\\sigma = 50$ with the box of the
    largest contour. MaxBoxAccV2 takes the boxes of all contours, and the mean of the maxima at $\\sigma = 30, 50, 70$.
    Top-k localization is MaxBoxAcc with the demand that the true class be among the first k predictions.

    Counts: ``images``; ``ranked``, images with a prediction; ``classified``, images with the true class among the
    first one and five; ``localized``, correct images by contour (largest, any), sigma, demand on the class (none,
    top-1, top-5) and threshold.
    """

    @classmethod
    def empty(cls, step: float = 0.001) -> "BoxAccuracy":
        """The metric of no image."""
        localized = np.zeros((2, len(SIGMAS), 3, len(thresholds(step))), np.int64)
        none = np.zeros((), np.int64)
        return cls(step, {"images": none, "ranked": none, "classified": np.zeros(2, np.int64), "localized": localized})

    def measure(self, score_map: np.ndarray, annotation: Annotation, rank: int | None = None) -> "BoxAccuracy":
        """The metric of one image; see `Metric.measure`."""
        boxes = _checked_boxes(annotation)
        score_map = checked_score_map(score_map, annotation.image_id)
        iou = best_iou(score_map, boxes, thresholds(self.step))
        within = np.array([True, rank is not None and rank < 1, rank is not None and rank < 5])
        reached = np.stack([iou.largest, iou.any_contour])[:, None, None] >= np.array(SIGMAS)[:, None, None] / 100
        counts = {
            "images": np.ones((), np.int64),
            "ranked": np.array(rank is not None, np.int64),
            "classified": within[1:].astype(np.int64),
            "localized": (reached & within[:, None]).astype(np.int64),
        }
        return type(self)(self.step, counts)

    def curves(self) -> dict[str, Float[np.ndarray, " t"]]:
        """Percentage of correct images at every threshold of ``thresholds(step)``, by name.

        Top-1 and top-5 are absent where no image came with a prediction.

        Raises:
          InputError: no image was evaluated.
        """
        images, ranked, localized = self.counts["images"], self.counts["ranked"], self.counts["localized"]
        if images == 0:
            raise InputError("box accuracy of no image: the evaluated split is empty")
        curves = {"MaxBoxAcc": 100 * localized[_LARGEST, _IOU_50, _GIVEN_CLASS] / images}
        for i, sigma in enumerate(SIGMAS):
            curves[f"BoxAccV2_{sigma}"] = 100 * localized[_ANY_CONTOUR, i, _GIVEN_CLASS] / images
        if ranked > 0:
            curves["top1_loc"] = 100 * localized[_LARGEST, _IOU_50, _TOP1] / ranked
            curves["top5_loc"] = 100 * localized[_LARGEST, _IOU_50, _TOP5] / ranked
        return curves

    def compute(self) -> dict[str, float]:
        """Maxima of the curves, their mean MaxBoxAccV2, the best threshold of MaxBoxAcc, classification accuracies.

        Raises:
          InputError: no image was evaluated.
        """
        curves = self.curves()
        result = {name: float(curve.max()) for name, curve in curves.items()}
        result["MaxBoxAcc_threshold"] = float(thresholds(self.step)[curves["MaxBoxAcc"].argmax()])
        result["MaxBoxAccV2"] = float(np.mean([result[f"BoxAccV2_{sigma}"] for sigma in SIGMAS]))
        if self.counts["ranked"] > 0:
            top1, top5 = 100 * self.counts["classified"] / self.counts["ranked"]
            result |= {"top1_cls": float(top1), "top5_cls": float(top5)}
        return result


def class_ranks(
    logits: Num[np.ndarray, "b k"], labels: Int[np.ndarray, " b"], image_ids: Sequence[str]
) -> Int[np.ndarray, " b"]:
    """How many classes stand before the true one in a stable descending sort of the logits; 0 is a top-1 hit.

    Raises:
      InputError: a logit is NaN, or a label is no class of the model; the message names the image.
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


def _checked_boxes(annotation: Annotation) -> Int[np.ndarray, "n 4"]:
    boxes = annotation.boxes
    if boxes is None or len(boxes) == 0:
        raise InputError(f"image {annotation.image_id}: has no ground truth box; box metrics need at least one")
    wrong = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    if wrong.any():
        box = boxes[wrong.argmax()].tolist()
        raise InputError(f"image {annotation.image_id}: box {box} must satisfy x0 <= x1 and y0 <= y1")
    return boxes
