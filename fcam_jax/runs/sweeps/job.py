"""A sweep as one job: what is not done of it is run, and all of it ends in tables and a report."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.errors import InputError
from fcam_jax.runs.report.report import write_report
from fcam_jax.runs.sweeps.plan import Planned, matching, plan
from fcam_jax.runs.sweeps.runner import carry_out
from fcam_jax.runs.sweeps.summary import figures_text, summary
from fcam_jax.runs.sweeps.sweep_file import REPORT, read_runs


def carry_out_sweep(options: Any, overrides: Mapping[str, str]) -> int:
    """Run what is not done of a sweep, one run after the other, and report on all of it; or say what there is to do.

    Args:
      options: "sweep", "workdir", "only", "print" and "dry_run", as `fcam sweep` has them.
      overrides: values of the configuration of every run, by key.

    Returns:
      The number of runs that have failed.

    Raises:
      InputError: the sweep cannot be planned.
    """
    planned = plan(read_runs(options.sweep), options.workdir, overrides)
    chosen = planned if options.only is None else matching(planned, options.only)
    if options.print:
        for line in _commands(chosen, options, overrides):
            print(line)
        return 0
    if options.dry_run:
        for one in chosen:
            print(f"{one.name}: {_state(one)}")
        return 0
    failed = _carry_out_all(chosen)
    print(f"\n{summary(chosen, failed)}")
    done = [one.folder for one in chosen if one.results() is not None]
    if options.only is None and done:  # jobs of a cluster, one run each, would write the report over each other's
        print(f"\n{write_report(done, options.workdir / REPORT)}")
    return len(failed)


def _carry_out_all(planned: Sequence[Planned]) -> dict[str, str]:
    """Run what is not done, with a line on each run; returns why runs have failed, by name."""
    failed: dict[str, str] = {}
    for number, one in enumerate(planned, 1):
        print(f"[{number}/{len(planned)}] {one.name} ", end="", flush=True)
        results = one.results()
        if results is not None:
            print(f"was done{figures_text(results)}", flush=True)
            continue
        try:
            print(carry_out(one), flush=True)
        except InputError as error:
            failed[one.name] = str(error)
            print(f"failed: {error}", flush=True)
    return failed


def _state(one: Planned) -> str:
    if one.results() is not None:
        return "done"
    return "to do" if one.source is None else f"to do, with the classifier of {one.source.name}"


def _commands(planned: Sequence[Planned], options: Any, overrides: Mapping[str, str]) -> list[str]:
    """A line of shell for every run that is not done; a comment marks those that others wait for, and these others."""
    to_do = [one for one in planned if one.results() is None]
    takers: dict[str, list[str]] = {}
    for one in to_do:
        if one.source is not None:
            takers.setdefault(one.source.name, []).append(one.name)
    lines = []
    passed_on = [f"--config.{key}={value}" for key, value in overrides.items()]
    for one in to_do:
        command: Sequence[str] = one.command
        mark = ""
        if one.source is not None:
            own = (f"--sweep={options.sweep}", f"--workdir={options.workdir}", f"--only={one.name}")
            # This program hands over the classifier before it calls the other.
            command = (sys.executable, "-m", "fcam_jax", "sweep", *own, *passed_on)
            mark = "" if one.source.results() is not None else f"  # needs {one.source.name}"
        elif one.name in takers:
            mark = f"  # needed by {', '.join(takers[one.name])}"
        lines.append(shlex.join(command) + mark)
    return lines
