"""The metrics by name. Those that are no extras are always measured, where the ground truth allows."""

import math
from collections.abc import Collection, Iterable

from fcam_jax.component import Registry
from fcam_jax.errors import InputError
from fcam_jax.evaluation.activations import Activations
from fcam_jax.evaluation.box_accuracy import BoxAccuracy, MeanBestIoU
from fcam_jax.evaluation.class_accuracy import ClassAccuracy
from fcam_jax.evaluation.metric import Metric
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.pointing_game import PointingGame

_ALL = (BoxAccuracy, PixelPrecision, ClassAccuracy, MeanBestIoU, PointingGame, Activations)
METRICS: Registry[type[Metric]] = Registry("metric", {kind.__name__: kind for kind in _ALL})


def extras() -> list[str]:
    """Names of the metrics beyond the protocol."""
    return [name for name, kind in METRICS.items() if kind.extra]


def named(also: str | Iterable[str], known: Iterable[str]) -> list[str]:
    """The names in a setting "also", which has them with commas between or one by one.

    Raises InputError: a name is none of the known ones.
    """
    names = [name.strip() for name in (also.split(",") if isinstance(also, str) else also) if name.strip()]
    known = sorted(known)
    for name in names:
        if name not in known:
            raise InputError(f"also names {name!r}; known: {', '.join(known)}")
    return names


def kinds(also: str | Iterable[str] = ()) -> tuple[type[Metric], ...]:
    """The metrics that are measured: those that always are, and extras by name; as `named`."""
    names = named(also, extras())
    return tuple(kind for name, kind in METRICS.items() if not kind.extra or name in names)


def measurable(truth: Collection[str], classes: bool) -> list[str]:
    """Names of the figures that images give, by the ground truth of places that they have and whether there are scores
    of their classes.
    """
    kinds = [kind for kind in METRICS.values() if not kind.needs or set(kind.needs) & set(truth)]
    figures = [one.name for kind in kinds if classes or not kind.of_classes for one in kind.figures]
    return [name for name in figures if not _derived(name)]


def selecting() -> list[str]:
    """Names of the figures that choose the best model unasked, the first choice first."""
    places = {one.name: one.selects for kind in METRICS.values() for one in kind.figures}
    return sorted((name for name, place in places.items() if place is not None), key=lambda name: places[name] or 0)


def localizing(names: Collection[str]) -> str:
    """The one of some figures that says best how well maps localize; "" where none does."""
    return _selecting(names, of_classes=False)


def tie_breaker(by: str) -> str:
    """The figure that chooses among models which a figure of places does not tell apart; "" for a figure of classes."""
    of_classes = {one.name for kind in METRICS.values() if kind.of_classes for one in kind.figures}
    return "" if by in of_classes else _selecting(of_classes, of_classes=True)


def _selecting(names: Collection[str], of_classes: bool) -> str:
    kinds = {one.name: kind for kind in METRICS.values() for one in kind.figures}
    return next((name for name in selecting() if name in names and kinds[name].of_classes is of_classes), "")


def mean_of(name: str) -> tuple[str, ...]:
    """The figures whose mean a figure is, see `Figure`."""
    return next((one.mean_of for kind in METRICS.values() for one in kind.figures if one.name == name), ())


def columns(names: Iterable[str]) -> list[str]:
    """Those of some figures that are columns of tables, from left to right, at the best thresholds of a whole, too.

    A figure that no metric here gives comes from a metric that a run's own file registered, or from the device: last.
    """
    place: dict[str, float | None] = {}
    for figure in (figure for kind in METRICS.values() for figure in kind.figures):
        place |= {figure.name: figure.column, figure.at("best"): figure.column}
    columns = {name: place.get(name, None if _derived(name) else math.inf) for name in names}
    return sorted((name for name, column in columns.items() if column is not None), key=lambda name: columns[name] or 0)


def _derived(name: str) -> bool:
    """Whether a name is that of a figure at some threshold, of a threshold, or of a number of images."""
    return "_at_" in name or name.endswith("threshold") or name == "images"
