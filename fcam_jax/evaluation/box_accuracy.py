"""Box metrics of the protocol: MaxBoxAcc, MaxBoxAccV2, top-1 and top-5 localization, classification accuracy.

In: per image a score map of its true class, its boxes and the rank of that class among the predictions; out:
percentages, and their curves against the threshold. Choe et al., CVPR 2020, Sec. 4.1 and appendix.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from fcam_jax.errors import InputError
from fcam_jax.evaluation.boxes import best_iou
from fcam_jax.evaluation.metric import Metric, thresholds
from fcam_jax.types import Annotation

SIGMAS = (30, 50, 70)

# Positions on the first three axes of the counts: contour, IoU, demand on the predicted class.
_LARGEST, _ANY_CONTOUR = 0, 1
_IOU_50 = SIGMAS.index(50)
_GIVEN_CLASS, _TOP1, _TOP5 = 0, 1, 2

# IoUs are summed as whole multiples of this, so that their sum does not depend on the order of the images.
_IOU_UNIT = 2.0**-32


class BoxAccuracy(Metric):
    """Share of images whose object is found by a box, at the best threshold for the data set.

    An image is correct at $(\\sigma, \\tau)$ when $\\max IoU(box(\\tau), truth) \\ge \\sigma / 100$. MaxBoxAcc (also
    known as GT-known) is the maximum over $\\tau$ of the share of correct images at $\\sigma = 50$ with the box of the
    largest contour. MaxBoxAccV2 takes the boxes of all contours, and the mean of the maxima at $\\sigma = 30, 50, 70$.
    Top-k localization is MaxBoxAcc with the demand that the true class be among the first k predictions.

    Counts: ``images``; ``ranked``, images with a prediction; ``classified``, images with the true class among the
    first one and five; ``localized``, correct images by contour (largest, any), sigma, demand on the class (none,
    top-1, top-5) and threshold; ``overlap``, the sum of the largest contour's IoUs by threshold, in units of 2^-32.
    """

    @classmethod
    def empty(cls, step: float = 0.001) -> "BoxAccuracy":
        """The metric of no image."""
        taus = len(thresholds(step))
        counts = {
            "images": np.zeros((), np.int64),
            "ranked": np.zeros((), np.int64),
            "classified": np.zeros(2, np.int64),
            "localized": np.zeros((2, len(SIGMAS), 3, taus), np.int64),
            "overlap": np.zeros(taus, np.int64),
        }
        return cls(step, counts)

    @staticmethod
    def measurable(annotation: Annotation) -> bool:
        """Whether the image comes from a data set with boxes."""
        return annotation.boxes is not None

    def measure_checked(
        self, score_map: Float[np.ndarray, "h w"], annotation: Annotation, rank: int | None = None
    ) -> "BoxAccuracy":
        """The metric of one image; see `Metric.measure_checked`."""
        boxes = _checked_boxes(annotation)
        iou = best_iou(score_map, boxes, thresholds(self.step))
        within = np.array([True, rank is not None and rank < 1, rank is not None and rank < 5])
        reached = np.stack([iou.largest, iou.any_contour])[:, None, None] >= np.array(SIGMAS)[:, None, None] / 100
        counts = {
            "images": np.ones((), np.int64),
            "ranked": np.array(rank is not None, np.int64),
            "classified": within[1:].astype(np.int64),
            "localized": (reached & within[:, None]).astype(np.int64),
            "overlap": np.rint(iou.largest / _IOU_UNIT).astype(np.int64),
        }
        return type(self)(self.step, counts)

    def correct(self) -> dict[str, Int[np.ndarray, " t"]]:
        """Number of correct images at every threshold of ``thresholds(step)``, by name.

        Top-1 and top-5 are absent where no image came with a prediction.
        """
        localized = self.counts["localized"]
        correct = {"MaxBoxAcc": localized[_LARGEST, _IOU_50, _GIVEN_CLASS]}
        for i, sigma in enumerate(SIGMAS):
            correct[f"BoxAccV2_{sigma}"] = localized[_ANY_CONTOUR, i, _GIVEN_CLASS]
        if self.counts["ranked"] > 0:
            correct["top1_loc"] = localized[_LARGEST, _IOU_50, _TOP1]
            correct["top5_loc"] = localized[_LARGEST, _IOU_50, _TOP5]
        return correct

    def curves(self) -> dict[str, Float[np.ndarray, " t"]]:
        """Percentage of correct images at every threshold; names as in `correct`.

        Raises:
          InputError: no image was evaluated.
        """
        images, ranked = self.counts["images"], self.counts["ranked"]
        if images == 0:
            raise InputError("box accuracy of no image: the evaluated split is empty")
        return {
            name: 100 * correct / (ranked if name.startswith("top") else images)
            for name, correct in self.correct().items()
        }

    def best(self) -> dict[str, int]:
        """Position of each curve's best threshold, the lowest of equally good ones."""
        return {name: int(correct.argmax()) for name, correct in self.correct().items()}

    def at(self, positions: Mapping[str, int], label: str) -> dict[str, float]:
        """Accuracies at given thresholds instead of the best ones, and the mean of BoxAccV2's three.

        Args:
          positions: the threshold's position for each curve.
          label: says in the figures' names which thresholds these are, as in ``BoxAcc_at_0.35``.

        Raises:
          InputError: no image was evaluated.
        """
        values = {name: float(curve[positions[name]]) for name, curve in self.curves().items()}
        values["BoxAccV2"] = float(np.mean([values[f"BoxAccV2_{sigma}"] for sigma in SIGMAS]))
        return {f"{name.removeprefix('Max')}_at_{label}": value for name, value in values.items()}

    def classification(self) -> dict[str, float]:
        """Top-1 and top-5 classification accuracy in percent; empty without predictions."""
        if self.counts["ranked"] == 0:
            return {}
        top1, top5 = 100 * self.counts["classified"] / self.counts["ranked"]
        return {"top1_cls": float(top1), "top5_cls": float(top5)}

    def mean_best_iou(self) -> float:
        """Mean over the images of the largest contour's best IoU, in percent, at the best threshold of MaxBoxAcc.

        Raises:
          InputError: no image was evaluated.
        """
        if self.counts["images"] == 0:
            raise InputError("mean IoU of no image: the evaluated split is empty")
        return float(100 * _IOU_UNIT * self.counts["overlap"][self.best()["MaxBoxAcc"]] / self.counts["images"])

    def compute(self) -> dict[str, float]:
        """Maxima of the curves, their mean MaxBoxAccV2, the best threshold of MaxBoxAcc, classification accuracies.

        Raises:
          InputError: no image was evaluated.
        """
        result = {name: float(curve.max()) for name, curve in self.curves().items()}
        result["MaxBoxAcc_threshold"] = float(thresholds(self.step)[self.best()["MaxBoxAcc"]])
        result["MaxBoxAccV2"] = float(np.mean([result[f"BoxAccV2_{sigma}"] for sigma in SIGMAS]))
        return result | self.classification()


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
