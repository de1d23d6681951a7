"""A sweep as one job: what is not done of it is run, each run in a process of its own; tables and a report end it."""

import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.configuration.flat import settings_key
from fcam_jax.errors import REQUEUE, InputError, Preempted
from fcam_jax.evaluation.metrics import selecting
from fcam_jax.methods.contract import LAST
from fcam_jax.runs.classifiers import check_origin, take_classifier
from fcam_jax.runs.report.aggregate import Figure
from fcam_jax.runs.report.report import write_report
from fcam_jax.runs.report.tables import figure_cell
from fcam_jax.runs.sweeps.sweep_file import REPORT, Planned, matching, plan, read_runs
from fcam_jax.runtime import preemption
from fcam_jax.runtime.text import aligned

LOG = "log.txt"

# Seconds that a run has to stop in when it is interrupted.
GRACE = 60
ASK = 0.1  # seconds between two looks at it


def carry_out_sweep(options: Any, overrides: Mapping[str, str]) -> int:
    """Run what is not done of a sweep, one run after the other, and report on all of it; or say what there is to do.

    Options are those of `fcam sweep`, overrides values of the configuration of every run. Returns how many have failed.

    Raises:
      InputError: the sweep cannot be planned.
    """
    planned = plan(read_runs(options.sweep), options.workdir, overrides)
    chosen = planned if options.only is None else matching(planned, options.only)
    if options.print or options.dry_run:
        for line in _commands(chosen, options, overrides) if options.print else map(_state, chosen):
            print(line)
        return 0
    failed = {}
    for number, one in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {one.name} ", end="", flush=True)
        try:
            print(_carry_out(one), flush=True)
        except InputError as error:
            failed[one.name] = str(error)
            print(f"failed: {error}", flush=True)
    print(f"\n{summary(chosen, failed)}")
    done = [one.folder for one in chosen if one.results() is not None]
    if options.only is None and done:  # jobs of a cluster, one run each, would write the report over each other's
        print(f"\n{write_report(done, options.workdir / REPORT)}")
    return len(failed)


def execute(command: Sequence[str], log: pathlib.Path) -> int:
    """The exit status of a command, its output appended to a file; it is stopped when this process is interrupted."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        # In a session of its own, so that Ctrl-C reaches it once and from here, wherever the signal came from.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        while child.poll() is None:
            try:
                preemption.stop_if_alone()
                time.sleep(ASK)
            except (KeyboardInterrupt, Preempted) as request:
                _stop(child, isinstance(request, Preempted))
                raise
        return child.returncode


def summary(planned: Sequence[Planned], failed: Mapping[str, str]) -> str:
    """Tables for people: all runs, means with sample deviations of those that differ in their seed alone, and what
    validation likes best. `failed` has why runs failed, by their names.
    """
    found = {one.name: _figures(results) for one in planned if (results := one.results()) is not None}
    columns = list(dict.fromkeys(column for run in found.values() for column in run))
    lines = [["run", "state", *columns]]
    groups: dict[str, list[str]] = {}
    for one in planned:
        state = "done" if one.name in found else "failed" if one.name in failed else "not done"
        run = found.get(one.name, {})
        lines.append([one.name, state, *(figure_cell(run.get(column)).text for column in columns)])
        if one.name in found:
            groups.setdefault(settings_key(one.config, "seed"), []).append(one.name)
    means = [["mean ± sample standard deviation (seeds)", *columns]]
    for names in groups.values():
        if len(names) > 1:
            values = [tuple(found[name][column] for name in names if column in found[name]) for column in columns]
            means.append([", ".join(names), *(figure_cell(Figure(of) if of else None).text for of in values)])
    best = [[f"highest on val, {key}", f"{value:.1f}", name] for key, (name, value) in _best_validated(planned).items()]
    tables = [lines, means if len(means) > 1 else [], best if len(found) > 1 else []]
    return "\n\n".join(aligned(table) for table in tables if table)


def _carry_out(one: Planned) -> str:
    """Train and evaluate a run that is not done; the outcome for people, or an `InputError` with its last line."""
    if (results := one.results()) is not None:
        return f"was done{_figures_text(results)}"
    check_origin(one.folder, one.run.classifier_of)
    if one.source is not None:
        if one.source.results() is None:
            raise InputError(f"it takes the classifier of {one.source.name}, which is not done")
        one.folder.mkdir(parents=True, exist_ok=True)
        take_classifier(one.source.folder, one.folder, same_cam=one.source.config["cam"] == one.config["cam"])
    started, log = time.monotonic(), one.folder / LOG
    status = execute(one.command, log)
    if status == REQUEUE:
        raise Preempted
    results = one.results()
    if status != 0 or results is None:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise InputError(f"{(lines or ['it has printed nothing'])[-1].removeprefix('error: ')} ({log})")
    return f"done in {(time.monotonic() - started) / 60:.1f} min{_figures_text(results)}"


def _stop(child: subprocess.Popen[bytes], preempted: bool) -> None:
    # A shell's background jobs ignore the keyboard's signal, and so do their children.
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    child.send_signal(signal.SIGTERM if preempted or deaf else signal.SIGINT)
    if not deaf:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait for it
    try:
        child.wait(GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()


def _state(one: Planned) -> str:
    taken = "" if one.source is None else f", with the classifier of {one.source.name}"
    return f"{one.name}: {'done' if one.results() is not None else f'to do{taken}'}"


def _commands(planned: Sequence[Planned], options: Any, overrides: Mapping[str, str]) -> list[str]:
    """A line of shell for every run that is not done; a comment marks those that others wait for, and these others."""
    to_do = [one for one in planned if one.results() is None]
    passed_on = [f"--config.{key}={value}" for key, value in overrides.items()]
    lines = []
    for one in to_do:
        command: Sequence[str] = one.command
        mark, takers = "", [other.name for other in to_do if other.source is one]
        if one.source is not None:
            own = (f"--sweep={options.sweep}", f"--workdir={options.workdir}", f"--only={one.name}")
            # This program hands over the classifier before it calls the other.
            command = (sys.executable, "-m", "fcam_jax", "sweep", *own, *passed_on)
            mark = "" if one.source.results() is not None else f"  # needs {one.source.name}"
        elif takers:
            mark = f"  # needed by {', '.join(takers)}"
        lines.append(shlex.join(command) + mark)
    return lines


def _figures(results: Mapping[str, Any]) -> dict[str, float]:
    """Figures of the stages of a run, percent, by the stage's and the metric's names."""
    return {
        f"{facts['stage']} {metric}": results["methods"][row][metric]
        for metric in selecting()
        for row, facts in results["checkpoints"].items()
        if metric in results["methods"][row]
    }


def _figures_text(results: Mapping[str, Any]) -> str:
    """The figures of a run in a line, to be appended to one."""
    texts = [f"{name} {value:.1f}" for name, value in _figures(results).items()]
    return f": {', '.join(texts)}" if texts else ""


def _best_validated(planned: Sequence[Planned]) -> dict[str, tuple[str, float]]:
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
