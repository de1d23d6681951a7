"""Runs to rows of tables: runs that differ in their seed alone are one configuration, with mean and spread.

$$ mean \\pm s, \\quad s^2 = \\frac{1}{n - 1} \\sum_i (x_i - mean)^2 $$
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.configuration.flat import flat_settings, setting, settings_key
from fcam_jax.runs.report.paper import PaperMethod, by_cam, method, published, stage1_title
from fcam_jax.runs.report.runs import StoredEvaluation, StoredRun

BACKGROUND_FRACTION = "fcam.seeds.background_fraction"

# What tables show of a configuration besides its settings.
_SHOWN = ("classifier.method", "cam.name", "data.name", "data.source", "model.encoder")
_SETTINGS_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure over the seeds of a configuration, beside the paper's."""

    values: tuple[float, ...]  # of the runs, in percent
    published: float | None = None  # the paper's, or None

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the runs; None of a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """What ours is above the paper's."""
        return None if self.published is None else self.mean - self.published


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Runs whose configurations are equal but for the seed."""

    number: int  # from 1, in the order in which the runs were given
    runs: tuple[StoredRun, ...]  # at least one
    # where it differs from the others of its data set, encoder, training of stage 1 and CAM; by key
    settings: dict[str, Any]
    config: dict[str, Any]  # with the seed of the first run
    dataset: str | None  # its name, if it has one
    encoder: str
    cam: str  # empty where the way of stage 1 has a map of its own
    classifier: str | None  # how stage 1 is trained; None where the run is of a version that knew one way

    @property
    def title(self) -> str:
        """A line for people."""
        trained, plain = stage1_title(self.classifier), stage1_title(None)
        data = self.dataset or str(setting(self.config, "data.source"))
        parts = (data, self.encoder, "" if trained == plain else trained, self.cam, settings_text(self.settings))
        return f"{self.number}: {', '.join(filter(None, parts))}"

    def rows(self) -> list[str]:
        """The methods that any of its runs has evaluated, in the runs' order."""
        return list(dict.fromkeys(record.row for run in self.runs for record in run.records))

    def records(self, row: str) -> list[StoredEvaluation]:
        """The records of a method, one a run."""
        return [record for run in self.runs for record in run.records if record.row == row]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table of results: one method of a configuration."""

    configuration: Configuration
    name: str  # the method as the run calls it
    split: str  # the data evaluated
    images: int  # their number
    method: PaperMethod  # the method by the paper's names
    seeds: tuple[Any, ...]  # of the runs that have it
    figures: dict[str, Figure]  # by name


def configurations(runs: Sequence[StoredRun]) -> list[Configuration]:
    """Group runs by all of their configuration but the seed, in the order of their first run."""
    groups: dict[str, list[StoredRun]] = {}
    for run in runs:
        groups.setdefault(settings_key(run.config, "seed"), []).append(run)
    flat = [dict(flat_settings(group[0].config)) for group in groups.values()]
    return [
        Configuration(
            number,
            tuple(group),
            _differing(own, flat),
            group[0].config,
            own.get("data.name") or None,
            str(own.get("model.encoder")),
            str(own.get("cam.name")) if by_cam(own.get("classifier.method")) else "",
            None if (way := own.get("classifier.method")) is None else str(way),
        )
        for number, (group, own) in enumerate(zip(groups.values(), flat, strict=True), 1)
    ]


def table_rows(configuration: Configuration) -> list[Row]:
    """A row for every method of a configuration and split that it was evaluated on; runs may differ in it."""
    splits = [(r.row, r.split) for row in configuration.rows() for r in configuration.records(row)]
    return [_row(configuration, name, split) for name, split in dict.fromkeys(splits)]


def sweeps(found: Sequence[Configuration]) -> list[list[Configuration]]:
    """Sets of two or more configurations that differ in the background fraction alone, by rising fraction."""
    families: dict[str, list[Configuration]] = {}
    for one in found:
        if setting(one.config, BACKGROUND_FRACTION) is not None:
            families.setdefault(settings_key(one.config, "seed", BACKGROUND_FRACTION), []).append(one)
    return [
        sorted(family, key=lambda one: float(setting(one.config, BACKGROUND_FRACTION)))
        for family in families.values()
        if len(family) > 1
    ]


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings in one line by the last two parts of their keys, the first few of many."""
    shown = [f"{'.'.join(key.split('.')[-2:])}={value}" for key, value in list(settings.items())[:_SETTINGS_SHOWN]]
    more = len(settings) - len(shown)
    return " ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _row(of: Configuration, name: str, split: str) -> Row:
    found = [(run, one) for run in of.runs for one in run.records if (one.row, one.split) == (name, split)]
    terms = setting(of.config, "fcam.loss") or {}
    weights = {term: setting(terms, f"{term}.weight") for term in terms}
    paper = method(name, of.cam, weights, of.classifier)
    figures = {
        metric: Figure(
            tuple(record.figures[metric] for _, record in found if metric in record.figures),
            published(of.dataset if split == "test" else None, of.encoder, paper, metric),
        )
        for metric in dict.fromkeys(metric for _, record in found for metric in record.figures)
    }
    return Row(of, name, split, found[0][1].images, paper, tuple(run.seed for run, _ in found), figures)


def _differing(own: Mapping[str, Any], everyone: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings in which a configuration differs from any other that the tables cannot tell from it."""
    alike = [one for one in everyone if all(one.get(key) == own.get(key) for key in _SHOWN)]
    keys = sorted({key for one in alike for key in one} - {"seed", *_SHOWN})
    return {key: own.get(key) for key in keys if any(one.get(key) != own.get(key) for one in alike)}
