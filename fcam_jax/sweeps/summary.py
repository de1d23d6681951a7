"""The figures of a sweep's runs together: every run by its name, and means over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.report.aggregate import Figure, settings_key
from fcam_jax.report.results import aligned
from fcam_jax.sweeps.plan import Planned

METRICS = ("MaxBoxAcc", "PxAP")


def figures(results: Mapping[str, Any]) -> dict[str, float]:
    """Figures of the stages of a run, percent, by the stage's and the metric's names."""
    return {
        f"{facts['stage']} {metric}": results["methods"][row][metric]
        for metric in METRICS
        for row, facts in results["checkpoints"].items()
        if metric in results["methods"][row]
    }


def figures_text(results: Mapping[str, Any]) -> str:
    """The figures of a run in a line, to be appended to one."""
    texts = [f"{name} {value:.1f}" for name, value in figures(results).items()]
    return f": {', '.join(texts)}" if texts else ""


def summary(planned: Sequence[Planned], failed: Mapping[str, str]) -> str:
    """Tables for people: all runs, and means with sample deviations of those that differ in their seed alone.

    Args:
      planned: the runs.
      failed: why a run failed, by its name.
    """
    found = {one.name: figures(results) for one in planned if (results := one.results()) is not None}
    columns = list(dict.fromkeys(column for run in found.values() for column in run))
    lines = [["run", "state", *columns]]
    for one in planned:
        state = "done" if one.name in found else "failed" if one.name in failed else "not done"
        run = found.get(one.name, {})
        lines.append([one.name, state, *(f"{run[column]:.1f}" if column in run else "-" for column in columns)])
    groups: dict[str, list[str]] = {}
    for one in planned:
        if one.name in found:
            groups.setdefault(settings_key(one.config, "seed"), []).append(one.name)
    means = [
        [
            ", ".join(names),
            *(_mean([found[name][column] for name in names if column in found[name]]) for column in columns),
        ]
        for names in groups.values()
        if len(names) > 1
    ]
    text = aligned(lines)
    if means:
        text += "\n\n" + aligned([["mean ± sample standard deviation (seeds)", *columns], *means])
    return text


def _mean(values: Sequence[float]) -> str:
    figure = Figure(tuple(values))
    if not values:
        return "-"
    spread = "" if figure.deviation is None else f" ± {figure.deviation:.1f}"
    return f"{figure.mean:.1f}{spread} ({len(values)})"
