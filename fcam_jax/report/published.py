"""Figures that the F-CAM paper reports (`published.csv`, from its Tables 1 to 3 and A.1 to A.3), looked up by run.

In: data set, encoder, CAM and method of a run. Out: the published value of the same, if the paper has it.

Reference: Belharbi et al., F-CAM: Full Resolution Class Activation Maps via Guided Parametric Upscaling, WACV 2022.
"""

import csv
import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

# Ours by the paper's.
METRICS = {
    "MaxBoxAcc": "MaxBoxAcc",
    "PxAP": "PxAP",
    "Top-1 localization": "top1_loc",
    "Top-5 localization": "top5_loc",
    "MaxBoxAccV2": "MaxBoxAccV2",
    "Classification": "top1_cls",
}
CAM_ROW, FCAM_ROW, CENTER_ROW = "CAM", "F-CAM", "Center"
_TERMS = ("seeds", "crf", "size")
# What the paper calls the losses of its ablation, by the terms that have a weight.
_ABLATION = {("seeds",): "SR", ("seeds", "crf"): "SR+CRF", _TERMS: "F-CAM"}
_WHOLE_LOSS = "SR+CRF+ASC"


def row_order(row: str) -> tuple[int, str]:
    """Sorts rows: the centre baseline, the CAM, other methods, F-CAM, what is derived from it."""
    places = {CENTER_ROW: 0, CAM_ROW: 1, FCAM_ROW: 3}
    return places.get(row, 4 if row.startswith(FCAM_ROW) else 2), row


def main_rows(rows: Sequence[str]) -> list[str]:
    """The CAM and F-CAM on it, which the paper's figures compare; all rows where neither is there."""
    return [row for row in rows if row in (CAM_ROW, FCAM_ROW)] or list(rows)


@dataclasses.dataclass(frozen=True)
class Method:
    """A method by the paper's names: one of its rows.

    Attributes:
      name: the CAM, or another method.
      plus: what is trained on it, or "".
    """

    name: str
    plus: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A published figure.

    Attributes:
      table: the paper's, e.g. "A.1".
      dataset: data set.
      metric: by our name.
      method: method; the ablation's whole loss is F-CAM.
      title: of the method, as printed.
      encoder: by our name.
      value: percent.
    """

    table: str
    dataset: str
    metric: str
    method: Method
    title: str
    encoder: str
    value: float


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All published figures of metrics that we have, in the order of the paper."""
    text = (importlib.resources.files("fcam_jax.report") / "published.csv").read_text(encoding="utf-8")
    return tuple(_entry(line) for line in csv.DictReader(text.splitlines()) if line["metric"] in METRICS)


def method(row: str, cam: str, loss_weights: Mapping[str, Any]) -> Method:
    """The paper's name of a run's row.

    Args:
      row: "CAM" and "F-CAM" stand for the CAM by itself and with a decoder; other rows for themselves.
      cam: the CAM's name in the configuration.
      loss_weights: of F-CAM, by term; they tell the ablations of Table 3 from the whole.
    """
    if row == CENTER_ROW:
        return Method("Center baseline")
    if row not in (CAM_ROW, FCAM_ROW):
        return Method(row)
    names = {_plain(entry.method.name): entry.method.name for entry in entries()}
    name = names.get(_plain(cam), cam)
    if row == CAM_ROW:
        return Method(name)
    terms = tuple(term for term in _TERMS if loss_weights.get(term))
    return Method(name, _ABLATION.get(terms, "other losses"))


def published(dataset: str | None, encoder: str, of: Method, metric: str) -> float | None:
    """The published value, or None.

    Args:
      dataset: "CUB" or "OpenImages".
      encoder: by our name.
      of: the method, by the paper's names.
      metric: by our name.
    """
    wanted = (dataset, encoder, of, metric)
    found = (e.value for e in entries() if (e.dataset, e.encoder, e.method, e.metric) == wanted)
    return next(found, None)


def _entry(line: Mapping[str, str]) -> Entry:
    name, plus = line["method"], line["plus"]
    return Entry(
        table=line["table"],
        dataset=line["dataset"],
        metric=METRICS[line["metric"]],
        method=Method(name, "F-CAM" if plus == _WHOLE_LOSS else plus),
        title=f"{name} + {plus}" if plus else name,
        encoder=line["encoder"],
        value=float(line["value"]),
    )


def _plain(name: str) -> str:
    """Small letters alone, ``+`` as p: "Smooth-GradCAM++" and "smoothgradcampp" are the same."""
    letters = name.lower().replace("plusplus", "++").replace("+", "p")
    return "".join(letter for letter in letters if letter.isalnum())
