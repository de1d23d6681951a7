"""Figures that the F-CAM paper reports (`paper.csv`, from its Tables 1 to 3 and A.1 to A.3), looked up by run.

Those of `systems.csv` are what the authors of other methods report, with boxes and thresholds of their own. Its last
column says where: in their paper, on their program's page, or as another paper quotes them.

Reference: Belharbi et al., F-CAM: Full Resolution Class Activation Maps via Guided Parametric Upscaling, WACV 2022.
"""

import csv
import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.cams import CAMS
from fcam_jax.methods import METHODS
from fcam_jax.methods.classifier import Plain

# Ours by the paper's.
METRICS = {
    "MaxBoxAcc": "MaxBoxAcc",
    "PxAP": "PxAP",
    "Top-1 localization": "top1_loc",
    "Top-5 localization": "top5_loc",
    "MaxBoxAccV2": "MaxBoxAccV2",
    "Classification": "top1_cls",
}
FCAM_ROW, CENTER_ROW, DECISION_ROW = "F-CAM", "Center", "F-CAM, no threshold"
# What a run calls the maps of what stage 1 trained, by the way of its training.
STAGE1_ROWS = tuple(training.title for training in METHODS.values())
# What the paper calls the losses of its ablation, by the terms that have a weight.
_ABLATION = {
    frozenset({"seeds"}): "SR",
    frozenset({"seeds", "crf"}): "SR+CRF",
    frozenset({"seeds", "crf", "size"}): "F-CAM",
}
_WHOLE_LOSS = "SR+CRF+ASC"


@dataclasses.dataclass(frozen=True)
class PaperMethod:
    """A method by the paper's names: one of its rows."""

    name: str  # the CAM, or another method
    plus: str = ""  # what is trained on it, or ""


@dataclasses.dataclass(frozen=True)
class PaperFigure:
    """A published figure."""

    table: str  # the paper's, e.g. "A.1"; empty for what the authors of a method report
    dataset: str
    metric: str  # by our name
    method: PaperMethod  # the ablation's whole loss is F-CAM
    title: str  # of the method, as printed
    encoder: str  # by our name
    value: float  # percent


def row_order(row: str) -> tuple[int, str]:
    """Sorts rows: the centre baseline, what stage 1 trained, other methods, F-CAM, what is derived from it."""
    places = {CENTER_ROW: 0, FCAM_ROW: 3} | dict.fromkeys(STAGE1_ROWS, 1)
    return places.get(row, 4 if row.startswith(FCAM_ROW) else 2), row


def main_rows(rows: Sequence[str]) -> list[str]:
    """What stage 1 trained and F-CAM on it, which the paper's figures compare; all rows where neither is there."""
    return [row for row in rows if row in (*STAGE1_ROWS, FCAM_ROW)] or list(rows)


@functools.cache
def entries() -> tuple[PaperFigure, ...]:
    """All published figures of metrics that we have, in the order of the paper, and then those of other authors."""
    lines = [line for name in ("paper.csv", "systems.csv") for line in csv.DictReader(_text(name).splitlines())]
    return tuple(
        PaperFigure(
            line.get("table", ""),
            line["dataset"],
            METRICS[line["metric"]],
            PaperMethod(line["method"], "F-CAM" if line.get("plus") == _WHOLE_LOSS else line.get("plus", "")),
            " + ".join(filter(None, (line["method"], line.get("plus")))),
            line["encoder"],
            float(line["value"]),
        )
        for line in lines
        if line["metric"] in METRICS
    )


def _text(name: str) -> str:
    return (importlib.resources.files("fcam_jax.runs.report") / name).read_text(encoding="utf-8")


def stage1_title(classifier: str | None) -> str:
    """What the tables call a way to train stage 1; None, in configurations of other versions, is the plain one."""
    if classifier is None:
        return Plain.title
    return METHODS[classifier].title if classifier in METHODS else classifier


def by_cam(classifier: str | None) -> bool:
    """Whether the CAM of the configuration has a part in what a way to train stage 1 shows."""
    way = None if classifier is None else METHODS.get(classifier)
    return way is None or way.by_cam


def method(row: str, cam: str, loss_weights: Mapping[str, Any], classifier: str | None = None) -> PaperMethod:
    """The paper's name of a run's row, by the names of CAM and classifier in the configuration.

    The row of stage 1 and "F-CAM" stand for what was trained by itself and with a decoder; other rows for themselves.
    The loss's weights tell the ablations of Table 3 from the whole. Of ways to train the classifier the paper has CAM
    alone, and none of them under F-CAM.
    """
    if row == CENTER_ROW:
        return PaperMethod("Center baseline")
    title, way = stage1_title(classifier), Plain if classifier is None else METHODS.get(classifier)
    if row not in (title, FCAM_ROW):
        return PaperMethod(row)
    if way is not None and way.plain:
        shown = CAMS[cam].title if cam in CAMS else cam
        name = {_plain(entry.method.name): entry.method.name for entry in entries()}.get(_plain(shown), shown)
    else:
        name = title if cam == "cam" or not by_cam(classifier) else f"{title}, {cam}"
    if row == title:
        return PaperMethod(name)
    terms = frozenset(term for term, weight in loss_weights.items() if weight)
    return PaperMethod(name, _ABLATION.get(terms, "other losses"))


def published(dataset: str | None, encoder: str, of: PaperMethod, metric: str) -> float | None:
    """The published value on "CUB", "OpenImages" or "ILSVRC" with an encoder and of a metric by our names, or None.

    It is that of the F-CAM paper, or else what the authors of the method report.
    """
    wanted = (dataset, encoder, of, metric)
    found = (e.value for e in entries() if (e.dataset, e.encoder, e.method, e.metric) == wanted)
    return next(found, None)


def _plain(name: str) -> str:
    """Small letters alone, ``+`` as p: "Smooth-GradCAM++" and "smoothgradcampp" are the same."""
    letters = name.lower().replace("plusplus", "++").replace("+", "p")
    return "".join(filter(str.isalnum, letters))
