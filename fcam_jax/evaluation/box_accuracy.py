"""Box metrics: MaxBoxAcc, MaxBoxAccV2, top-1 and top-5 localization of the protocol, and the mean IoU beside them.

In: per image a score map of its true class, its boxes and the rank of that class among the predictions; out:
percentages, and their curves against the threshold. Choe et al., CVPR 2020, Sec. 4.1 and appendix.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fcam_jax.errors import InputError
from fcam_jax.evaluation.boxes import BestIou, best_iou, box_iou, largest_box
from fcam_jax.evaluation.metric import UNIT, Figure, Metric, Scored, thresholds

SIGMAS = (30, 50, 70)
DEFAULT_THRESHOLD = 0.5  # where no threshold is better than another

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

    Counts: ``ranked``, images with a prediction; ``localized``, correct images by contour (largest, any), sigma, demand
    on the class (none, top-1, top-5) and threshold.
    """

    figures = (
        Figure("MaxBoxAcc", column=10, selects=10),
        *(Figure(f"BoxAccV2_{sigma}", column=None) for sigma in SIGMAS),
        Figure("top1_loc", column=40),
        Figure("top5_loc", column=50),
        Figure("MaxBoxAcc_threshold", column=None),
        Figure("MaxBoxAccV2", column=20, mean_of=tuple(f"BoxAccV2_{sigma}" for sigma in SIGMAS)),
    )
    needs = ("boxes",)
    extra = False

    def count(self, image: Scored) -> Mapping[str, Any]:
        iou, rank = overlap(image, self.step), image.rank
        within = np.array([True, rank is not None and rank < 1, rank is not None and rank < 5])
        reached = np.stack([iou.largest, iou.any_contour])[:, None, None] >= np.array(SIGMAS)[:, None, None] / 100
        return {"ranked": rank is not None, "localized": reached & within[:, None]}

    def correct(self) -> dict[str, Int[np.ndarray, " t"]]:
        """Number of correct images at every threshold of ``thresholds(step)``, by name.

        Top-1 and top-5 are absent where no image came with a prediction.
        """
        largest, any_contour = self.counts["localized"][[_LARGEST, _ANY_CONTOUR]]
        correct = {"MaxBoxAcc": largest[_IOU_50, _GIVEN_CLASS]}
        correct |= {f"BoxAccV2_{sigma}": any_contour[i, _GIVEN_CLASS] for i, sigma in enumerate(SIGMAS)}
        if self.counts["ranked"] > 0:
            correct |= {"top1_loc": largest[_IOU_50, _TOP1], "top5_loc": largest[_IOU_50, _TOP5]}
        return correct

    def curves(self) -> dict[str, Float[np.ndarray, " t"]]:
        """Percentage of correct images at every threshold; names as in `correct`."""
        images, ranked = self.images, self.counts["ranked"]
        return {
            name: 100 * correct / (ranked if name.startswith("top") else images)
            for name, correct in self.correct().items()
        }

    def best(self) -> dict[str, int]:
        """Position of each curve's best threshold, the lowest of equally good ones."""
        return {name: int(correct.argmax()) for name, correct in self.correct().items()}

    def at(self, positions: Mapping[str, int], label: str) -> dict[str, float]:
        """Accuracies at given thresholds, and the mean of BoxAccV2's three."""
        values = {name: float(curve[positions[name]]) for name, curve in self.curves().items()}
        return {Figure(name).at(label): value for name, value in _with_v2(values).items()}

    def compute(self) -> dict[str, float]:
        """Maxima of the curves, their mean MaxBoxAccV2, the best threshold of MaxBoxAcc unless all are as bad."""
        result = {name: float(curve.max()) for name, curve in self.curves().items()}
        if result["MaxBoxAcc"] > 0:  # without a hit the best one would be 0, and every box the whole image
            result["MaxBoxAcc_threshold"] = float(thresholds(self.step)[self.best()["MaxBoxAcc"]])
        return _with_v2(result)

    def of_part(self, best: Mapping[str, int]) -> dict[str, float]:
        """Accuracies at the thresholds that are best for the whole."""
        return self.at(best, "best")

    def row(self, image: Scored, tau: float | None) -> dict[str, Any]:
        """The box of the largest contour at the threshold, its best IoU, and whether that reaches 50 %."""
        assert tau is not None and image.annotation.boxes is not None
        box = largest_box(image.score_map, tau)
        iou = float(box_iou(box[None], image.annotation.boxes).max())
        corners = dict(zip(("x0", "y0", "x1", "y1"), box.tolist(), strict=True))
        return {"threshold": round(tau, 10), "iou": iou, **corners, "correct": int(iou >= 0.5)}


class MeanBestIoU(Metric):
    """Mean over the images of the largest contour's best IoU, in percent, at the best threshold of MaxBoxAcc.

    Counts, by threshold: ``localized``, images with an IoU of at least 50 %; ``overlap``, sums of IoUs in units of
    2^-32.
    """

    figures = (Figure("MeanBestIoU"),)
    needs = ("boxes",)

    def count(self, image: Scored) -> Mapping[str, Any]:
        iou = overlap(image, self.step).largest
        return {"localized": iou >= 0.5, "overlap": np.rint(iou / UNIT)}

    def best(self) -> dict[str, int]:
        """Position of the best threshold of MaxBoxAcc."""
        return {"MeanBestIoU": int(self.counts["localized"].argmax())}

    def compute(self) -> dict[str, float]:
        """The mean IoU."""
        return {"MeanBestIoU": self._mean(self.best())}

    def of_part(self, best: Mapping[str, int]) -> dict[str, float]:
        """The part's mean IoU at the threshold that is best for the whole."""
        return {self.figures[0].at("best"): self._mean(best)}

    def _mean(self, best: Mapping[str, int]) -> float:
        return float(100 * UNIT * self.counts["overlap"][best["MeanBestIoU"]] / self.images)


def chose_none(figures: Mapping[str, Any]) -> bool:
    """Whether recorded figures are of boxes, and no threshold above 0, where every box is the whole image, was best."""
    return ("MaxBoxAcc" in figures or "MaxBoxAcc_threshold" in figures) and not threshold_of(figures)


def threshold_of(figures: Mapping[str, Any]) -> float | None:
    """The best threshold among recorded figures; None where there is none in [0, 1), or no box hit at any."""
    tau = figures.get("MaxBoxAcc_threshold")
    usable = isinstance(tau, float | int) and 0 <= tau < 1 and figures.get("MaxBoxAcc", 1) != 0
    return float(tau) if usable and tau is not None else None


def overlap(image: Scored, step: float) -> BestIou:
    """Best IoU of the map's boxes with the true ones at every threshold.

    Raises InputError: the image has no box, or one that is none.
    """
    boxes, name = image.annotation.boxes, f"image {image.annotation.image_id}"
    if boxes is None or len(boxes) == 0:
        raise InputError(f"{name}: has no ground truth box; box metrics need at least one")
    for box in boxes[(boxes[:, 2:] < boxes[:, :2]).any(axis=1)].tolist():
        raise InputError(f"{name}: box {box} must satisfy x0 <= x1 and y0 <= y1")
    return image.once((overlap, step), lambda: best_iou(image.score_map, boxes, thresholds(step)))


def _with_v2(values: dict[str, float]) -> dict[str, float]:
    return values | {"MaxBoxAccV2": float(np.mean([values[f"BoxAccV2_{sigma}"] for sigma in SIGMAS]))}
