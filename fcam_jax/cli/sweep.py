"""Many runs as one job: those that are not done are run, one after the other; all of them end in tables and a report.

    python -m fcam_jax.cli.sweep --sweep=configs/sweeps/NAME.py[:args] --workdir=DIR \\
        [--only=PATTERN] [--print | --dry-run] [-- --config.key=value ...]

`docs/sweeps.md` says how to write a sweep and how to run one on a cluster.
"""

import argparse
import pathlib
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from fcam_jax.errors import REQUEUE, InputError, Preempted
from fcam_jax.runs.report.report import write_report
from fcam_jax.runs.sweeps.plan import Planned, matching, plan
from fcam_jax.runs.sweeps.runner import carry_out
from fcam_jax.runs.sweeps.summary import figures_text, summary
from fcam_jax.runs.sweeps.sweep_file import REPORT, read_runs


def run(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Do what the options say.

    Args:
      options: of the sweep.
      overrides: options of every run.

    Returns:
      The number of runs that have failed.

    Raises:
      InputError: the sweep cannot be planned.
    """
    planned = plan(read_runs(options.sweep), options.workdir, _values(overrides))
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


def _commands(planned: Sequence[Planned], options: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """A line of shell for every run that is not done; a comment marks those that others wait for, and these others."""
    to_do = [one for one in planned if one.results() is None]
    takers: dict[str, list[str]] = {}
    for one in to_do:
        if one.source is not None:
            takers.setdefault(one.source.name, []).append(one.name)
    lines = []
    for one in to_do:
        command: Sequence[str] = one.command
        mark = ""
        if one.source is not None:
            own = (f"--sweep={options.sweep}", f"--workdir={options.workdir}", f"--only={one.name}")
            # This program hands over the classifier before it calls the other.
            command = (sys.executable, "-m", "fcam_jax.cli.sweep", *own, *(["--", *overrides] if overrides else []))
            mark = "" if one.source.results() is not None else f"  # needs {one.source.name}"
        elif one.name in takers:
            mark = f"  # needed by {', '.join(takers[one.name])}"
        lines.append(shlex.join(command) + mark)
    return lines


def _values(overrides: Sequence[str]) -> Mapping[str, str]:
    """The values of options --config.key=value, by key."""
    values = {}
    for option in overrides:
        match = re.fullmatch(r"--config\.([\w.]+)=(.*)", option)
        if match is None:
            raise InputError(f"{option!r} after --: a sweep passes --config.key=value to its runs, and nothing else")
        values[match[1]] = match[2]
    return values


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fcam_jax.cli.sweep",
        description=main.__doc__,
        epilog="Options of every run follow after --, as in -- --config.data.root=CUB.",
        allow_abbrev=False,
    )
    parser.add_argument("--sweep", required=True, help="sweep file, with its argument after a colon")
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the runs' folders")
    parser.add_argument("--only", metavar="PATTERN", help="runs whose names match, as in 'layercam-*'")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--print", action="store_true", help="a command a line for what is not done; run nothing")
    instead.add_argument("--dry-run", action="store_true", help="say what is done and what is to do; run nothing")
    return parser


def _preempted(number: int, frame: FrameType | None) -> None:
    raise Preempted


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not done of a sweep, one run after the other, and report on all of it."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    options = _parser().parse_args(words[:end])
    # The run that is going on is to be stopped before this process.
    for number, handler in {
        signal.SIGTERM: _preempted,
        signal.SIGUSR1: _preempted,
        signal.SIGHUP: signal.default_int_handler,
    }.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        sys.exit(1 if run(options, words[end + 1 :]) else 0)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot be read or written: {error}")
    except Preempted:
        print("\nasked to stop; the same command goes on where this one stopped", file=sys.stderr)
        sys.exit(REQUEUE)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command goes on where this one stopped")


if __name__ == "__main__":
    main()
