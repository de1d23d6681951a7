"""The figures of a sweep's runs together: every run by its name, and means over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.configuration.flat import settings_key
from fcam_jax.evaluation.metrics import selecting
from fcam_jax.methods.contract import LAST
from fcam_jax.runs.report.aggregate import Figure
from fcam_jax.runs.sweeps.plan import Planned
from fcam_jax.runtime.text import aligned


def figures(results: Mapping[str, Any]) -> dict[str, float]:
    """Figures of the stages of a run, percent, by the stage's and the metric's names."""
    return {
        f"{facts['stage']} {metric}": results["methods"][row][metric]
        for metric in selecting()
        for row, facts in results["checkpoints"].items()
        if metric in results["methods"][row]
    }


def figures_text(results: Mapping[str, Any]) -> str:
    """The figures of a run in a line, to be appended to one."""
    texts = [f"{name} {value:.1f}" for name, value in figures(results).items()]
    return f": {', '.join(texts)}" if texts else ""


def best_validated(planned: Sequence[Planned]) -> dict[str, tuple[str, float]]:
    """The run that validation likes best, and its figure, for every stage and its selection metric ("fcam MaxBoxAcc").

    A search chooses by these, not by figures on test. Stages that validation did not choose a model of take no part.
    """
    best: dict[str, tuple[str, float]] = {}
    for one in planned:
        results, asked = one.results(), one.config["validation"]["selection"]
        for facts in results["checkpoints"].values() if results is not None else ():
            val = facts["val"]
            by = next((name for name in ([asked] if asked else selecting()) if name in val and LAST not in val), None)
            if by is not None:
                key = f"{facts['stage']} {by}"
                if key not in best or val[by] > best[key][1]:
                    best[key] = (one.name, val[by])
    return best


def summary(planned: Sequence[Planned], failed: Mapping[str, str]) -> str:
    """Tables for people: all runs, means with sample deviations of those that differ in their seed alone, and what
    validation likes best. `failed` has why runs failed, by their names.
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
    if len(found) > 1:
        best = [
            [f"highest on val, {key}", f"{value:.1f}", name] for key, (name, value) in best_validated(planned).items()
        ]
        text += "\n\n" + aligned(best) if best else ""
    return text


def _mean(values: Sequence[float]) -> str:
    figure = Figure(tuple(values))
    if not values:
        return "-"
    spread = "" if figure.deviation is None else f" ± {figure.deviation:.1f}"
    return f"{figure.mean:.1f}{spread} ({len(values)})"
