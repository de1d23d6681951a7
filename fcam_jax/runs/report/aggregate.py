"""Runs to rows of tables: runs that differ in their seed alone are one configuration, with mean and spread.

$$ mean \\pm s, \\quad s^2 = \\frac{1}{n - 1} \\sum_i (x_i - mean)^2 $$
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.configuration.flat import flat_settings, setting, settings_key
from fcam_jax.runs.report.paper import PaperMethod, method, published, stage1_title
from fcam_jax.runs.report.runs import StoredEvaluation, StoredRun

BACKGROUND_FRACTION = "fcam.seeds.background_fraction"

_SHOWN = {"seed", "data.name", "data.source", "model.encoder", "classifier.method", "cam.name"}
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

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, with the seed of the first run."""
        return self.runs[0].config

    @property
    def dataset(self) -> str | None:
        """The name of the data set, if it has one."""
        return setting(self.config, "data.name") or None

    @property
    def encoder(self) -> str:
        """The name of the encoder."""
        return str(setting(self.config, "model.encoder"))

    @property
    def cam(self) -> str:
        """The name of the CAM."""
        return str(setting(self.config, "cam.name"))

    @property
    def classifier(self) -> str | None:
        """How stage 1 is trained; None where the run is of a version that knew one way."""
        name = setting(self.config, "classifier.method")
        return None if name is None else str(name)

    @property
    def title(self) -> str:
        """A line for people."""
        data = self.dataset or setting(self.config, "data.source")
        trained = stage1_title(self.classifier)
        parts = [str(data), self.encoder, self.cam, settings_text(self.settings)]
        if trained != stage1_title(None):
            parts.insert(2, trained)
        return f"{self.number}: {', '.join(part for part in parts if part)}"

    def rows(self) -> list[str]:
        """The methods that any of its runs has evaluated, in the runs' order."""
        return list(dict.fromkeys(record.row for run in self.runs for record in run.records))

    def records(self, row: str) -> list[StoredEvaluation]:
        """The records of a method, one a run."""
        return [record for run in self.runs for record in run.records if record.row == row]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table of results: one method of a configuration."""

    configuration: Configuration  # its runs
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
        Configuration(number, tuple(group), _differing(flat[number - 1], flat))
        for number, group in enumerate(groups.values(), 1)
    ]


def table_rows(configuration: Configuration) -> list[Row]:
    """A row for every method of a configuration."""
    return [_row(configuration, name, split) for name, split in _evaluations(configuration)]


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


def _evaluations(configuration: Configuration) -> list[tuple[str, str]]:
    """Methods with the split that they were evaluated on; runs may differ in it."""
    return list(dict.fromkeys((r.row, r.split) for row in configuration.rows() for r in configuration.records(row)))


def _row(configuration: Configuration, name: str, split: str) -> Row:
    with_record = [
        (run, record)
        for run in configuration.runs
        for record in run.records
        if (record.row, record.split) == (name, split)
    ]
    records = [record for _, record in with_record]
    weights = setting(configuration.config, "fcam.loss") or {}
    terms = {term: setting(weights, f"{term}.weight") for term in weights}
    of = method(name, configuration.cam, terms, configuration.classifier)
    dataset = configuration.dataset if split == "test" else None
    metrics = dict.fromkeys(metric for record in records for metric in record.figures)
    figures = {
        metric: Figure(
            tuple(record.figures[metric] for record in records if metric in record.figures),
            published(dataset, configuration.encoder, of, metric),
        )
        for metric in metrics
    }
    seeds = tuple(run.seed for run, _ in with_record)
    return Row(configuration, name, split, records[0].images, of, seeds, figures)


def _differing(own: Mapping[str, Any], everyone: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings in which a configuration differs from any other that the tables cannot tell from it."""

    def shown(one: Mapping[str, Any]) -> list[Any]:
        return [one.get(key) for key in sorted(_SHOWN - {"seed"})]

    alike = [one for one in everyone if shown(one) == shown(own)]
    keys = sorted({key for one in alike for key in one} - _SHOWN)
    return {key: own.get(key) for key in keys if any(one.get(key) != own.get(key) for one in alike)}
