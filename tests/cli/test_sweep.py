"""Sweeps as they are called: with a program that only pretends to train, and once with the real one."""

import json
import os
import pathlib
import shlex
import signal

import pytest
from program import ROOT, SMALL, program

from fcam_jax.cli import command, sweep
from fcam_jax.configuration import configuration
from fcam_jax.errors import REQUEUE, InputError, Preempted
from fcam_jax.runs.folder import TAKEN_FROM, config_hash
from fcam_jax.runs.sweeps import job
from fcam_jax.runtime import preemption

RUNS = """
from fcam_jax.runs.sweeps.sweep_file import SweepRun

def get_runs(args):
    return [
        SweepRun(f"{cam}-s{seed}", "configs/synthetic.py", {"cam.name": cam, "seed": seed},
            classifier_of=f"cam-s{seed}" if args == "shared" and cam != "cam" else None)
        for cam in ("layercam", "cam") for seed in (0, 1, 2)
    ]
"""
NAMES = ["layercam-s0", "layercam-s1", "layercam-s2", "cam-s0", "cam-s1", "cam-s2"]


@pytest.fixture
def swept(tmp_path, monkeypatch, capsys):
    """Sweeps the runs above with more options; yields exit status and what is printed."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "runs.py"
    path.write_text(RUNS)

    def call(*options, args="", overrides=()):
        words = [f"--sweep={path}:{args}", f"--workdir={tmp_path / 'w'}", *options, *overrides]
        options = command.parsed("fcam sweep", "", sweep.options, words)
        if options.words:
            sweep.run(options)
        status = job.carry_out_sweep(options, options.overrides)
        return status, capsys.readouterr().out.splitlines()

    return call


@pytest.fixture
def pretended(monkeypatch):
    """Runs take no time: a checkpoint and results are written. Yields names of runs called, bad ones, and reports."""
    called, bad, reports = [], set(), []

    def execute(command, log):
        given = dict(word.removeprefix("--").split("=", 1) for word in command[3:])
        overrides = {key.removeprefix("config."): value for key, value in given.items() if key.startswith("config.")}
        config = configuration(given["config"], overrides).to_dict()
        folder = pathlib.Path(given["workdir"])
        called.append(folder.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if folder.name in bad:
            log.write_text("begun\nerror: no luck\n\n")
            return 1
        checkpoint = folder / "classifier" / "checkpoints" / "best" / "9" / "model"
        if not checkpoint.exists():
            checkpoint.parent.mkdir(parents=True)
            checkpoint.write_text(folder.name)
        higher = 10 if config["cam"]["name"] == "layercam" else 0
        results = {
            "config_hash": config_hash(config),
            "checkpoints": {
                "CAM": {"stage": "classifier", "val": {"MaxBoxAcc": 40.0 + config["seed"]}},
                "F-CAM": {"stage": "fcam", "val": {}},
            },
            "methods": {
                "Center": {"MaxBoxAcc": 1.0},
                "CAM": {"MaxBoxAcc": 50.0 + higher, "PxAP": 30.0},
                "F-CAM": {"MaxBoxAcc": 70.0 + higher + 2 * config["seed"], "PxAP": 40.0},
            },
        }
        (folder / "results.json").write_text(json.dumps(results))
        return 0

    def write_report(folders, out):
        reports.append([folder.name for folder in folders])
        return out / "index.html"

    monkeypatch.setattr(job, "execute", execute)
    monkeypatch.setattr(job, "write_report", write_report)
    return called, bad, reports


def words(lines):
    return [line.split() for line in lines]


@pytest.mark.slow
def test_a_sweep_runs_what_is_not_done_and_goes_on_after_a_failure(swept, pretended, tmp_path):
    called, bad, reports = pretended
    bad.add("layercam-s1")
    status, lines = swept()
    assert (status, called, reports) == (1, NAMES, [[name for name in NAMES if name not in bad]])
    assert lines[0].startswith("[1/6] layercam-s0 done in 0.0 min: classifier MaxBoxAcc 60.0, fcam MaxBoxAcc 80.0, ")
    assert lines[1] == f"[2/6] layercam-s1 failed: no luck ({tmp_path / 'w' / 'layercam-s1' / 'log.txt'})"
    assert ["layercam-s1", "failed", "-", "-", "-", "-"] in words(lines)

    bad.clear()
    called.clear()
    status, lines = swept()
    assert (status, called, reports[1]) == (0, ["layercam-s1"], NAMES)
    assert lines[0].startswith("[1/6] layercam-s0 was done: classifier MaxBoxAcc 60.0")
    assert lines[-1] == str(tmp_path / "w" / "report" / "index.html")
    assert ["cam-s2", "done", "50.0", "74.0", "30.0", "40.0"] in words(lines)
    # 80, 82, 84: mean 82, squared distances 4 + 0 + 4 = 8, over 2.
    (means,) = [line for line in lines if line.startswith("layercam-s0, layercam-s1, layercam-s2 ")]
    # Not the highest on test, which is layercam-s2's F-CAM; the earlier of two equals.
    (best,) = [line.split() for line in lines if line.startswith("highest on val")]
    assert best[-2:] == ["42.0", "layercam-s2"]
    assert "60.0 ± 0.0 (3)" in means and "82.0 ± 2.0 (3)" in means

    called.clear()
    status, _ = swept(overrides=["--config.fcam.epochs=8"])
    assert called == NAMES  # they are other runs; the real program refuses them


def test_an_interrupted_sweep_goes_on(swept, pretended, monkeypatch):
    called, *_ = pretended
    execute = job.execute

    def interrupted(command, log):
        if len(called) == 2:
            raise KeyboardInterrupt
        return execute(command, log)

    monkeypatch.setattr(job, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        swept()
    monkeypatch.setattr(job, "execute", execute)
    assert swept()[0] == 0
    assert called == NAMES


def test_a_run_that_was_asked_to_stop_ends_the_sweep_with_its_status(swept, pretended, monkeypatch, tmp_path, capsys):
    called, *_ = pretended
    monkeypatch.setattr(job, "execute", lambda command, log: called.append(command) or REQUEUE)
    with pytest.raises(Preempted):
        swept()
    assert len(called) == 1
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
    try:
        with pytest.raises(SystemExit) as ended:
            command.main(["sweep", f"--sweep={tmp_path / 'runs.py'}", f"--workdir={tmp_path / 'w'}"])
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            preemption.stop_if_requested()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == 75
    assert capsys.readouterr().err == "asked to stop; the same command goes on where this one stopped\n"


def test_some_runs_of_a_sweep_write_no_report(swept, pretended):
    called, _, reports = pretended
    status, lines = swept("--only=cam-*")
    assert (status, called, reports) == (0, NAMES[3:], [])
    assert not any("layercam" in line for line in lines)


def test_a_dry_run_says_what_is_to_do(swept, pretended, tmp_path):
    called, *_ = pretended
    swept("--only=cam-s0", args="shared")
    called.clear()
    _, lines = swept("--dry-run", args="shared")
    assert lines[:2] == ["cam-s0: done", "cam-s1: to do"]
    assert lines[3] == "layercam-s0: to do, with the classifier of cam-s0"
    assert called == [] and [path.name for path in (tmp_path / "w").iterdir()] == ["cam-s0"]


@pytest.mark.slow
def test_printed_commands_are_those_of_what_is_not_done(swept, pretended, tmp_path):
    called, *_ = pretended
    swept("--only=layercam-s*")
    swept("--only=cam-s[12]")
    root = "--config.data.root=my data; ls"
    _, lines = swept("--print")
    (line,) = lines
    assert shlex.split(line)[1:] == [
        "-m",
        "fcam_jax.main",
        "--config=configs/synthetic.py",
        f"--workdir={tmp_path / 'w' / 'cam-s0'}",
        "--config.cam.name=cam",
        "--config.seed=0",
    ]
    called.clear()
    _, lines = swept("--print", "--only=*-s1", args="shared", overrides=[root])
    (first, mark), (second, other_mark) = (line.split("  # ") for line in lines)
    assert (mark, other_mark) == ("needed by layercam-s1", "needs cam-s1")
    assert shlex.split(first)[-1] == root
    assert shlex.split(second)[1:] == [
        *("-m", "fcam_jax", "sweep", f"--sweep={tmp_path / 'runs.py'}:shared", f"--workdir={tmp_path / 'w'}"),
        *("--only=layercam-s1", root),
    ]
    assert called == []
    swept("--only=cam-s1", args="shared", overrides=[root])
    (line,) = swept("--print", "--only=*-s1", args="shared", overrides=[root])[1]
    assert line == second  # it needs to wait no longer


def test_classifiers_are_shared_where_the_sweep_says_so(swept, pretended, tmp_path):
    called, bad, _ = pretended
    bad.add("cam-s1")
    status, lines = swept(args="shared")
    assert status == 2 and called == [*NAMES[3:], "layercam-s0", "layercam-s2"]
    assert "[5/6] layercam-s1 failed: it takes the classifier of cam-s1, which is not done" in lines
    stages = [tmp_path / "w" / name / "classifier" for name in ("cam-s0", "layercam-s0")]
    checkpoints = [stage / "checkpoints" / "best" / "9" / "model" for stage in stages]
    assert checkpoints[1].read_text() == "cam-s0" and checkpoints[0].samefile(checkpoints[1])
    assert json.loads((stages[1] / TAKEN_FROM).read_text()) == {"taken_from": "cam-s0", "run": "", "val": {}}

    called.clear()
    status, lines = swept("--only=layercam-s0")  # with a classifier of its own it is another run
    assert (status, called) == (1, [])
    assert lines[0].endswith(
        f"failed: {stages[1]} is that of cam-s0, the sweep wants its own; delete {stages[1].parent} "
        "or use another --workdir"
    )


def test_a_file_system_without_links_gets_copies(swept, pretended, tmp_path, monkeypatch):
    def link(source, target):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", link)
    assert swept("--only=*-s0", args="shared")[0] == 0
    checkpoint = pathlib.Path("classifier", "checkpoints", "best", "9", "model")
    own, taken = (tmp_path / "w" / name / checkpoint for name in ("cam-s0", "layercam-s0"))
    assert taken.read_text() == own.read_text() and not taken.samefile(own)


def test_only_values_of_the_configuration_are_passed_on(swept):
    with pytest.raises(InputError, match=r"^'eval': a sweep passes --config.key=value to its runs"):
        swept(overrides=["eval"])


def test_a_mistake_gets_one_line(tmp_path):
    with pytest.raises(SystemExit) as ended:
        command.main(["sweep", "--sweep=configs/sweeps/none.py", f"--workdir={tmp_path}"])
    assert ended.value.code.startswith("error: --sweep: no such sweep file: 'configs/sweeps/none.py'; ")
    assert "\n" not in ended.value.code


@pytest.mark.slow
@pytest.mark.long
def test_two_real_runs_share_a_classifier(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "two.py"
    path.write_text(
        "from fcam_jax.runs.sweeps.sweep_file import SweepRun\n"
        "def get_runs(args):\n"
        f"    small = {SMALL!r}\n"
        "    return [SweepRun('b', args, small | {'cam.name': 'layercam'}, 'a'), SweepRun('a', args, small)]\n"
    )
    options = f"--sweep={path}:configs/synthetic.py", f"--workdir={tmp_path / 'w'}"
    few = {"bootstrap": 10, "examples": 2, "pictures": 1, "threshold_step": 0.05}
    overrides = [f"--config.evaluation.{key}={value}" for key, value in few.items()]
    done = program("fcam_jax", "sweep", *options, "--", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0].split(" in ")[0] for line in lines[:2]] == ["[1/2] a done", "[2/2] b done"]
    assert pathlib.Path(lines[-1]) == tmp_path / "w" / "report" / "index.html"

    a, b = (tmp_path / "w" / name for name in "ab")
    own, taken = (json.loads((folder / "results.json").read_text())["checkpoints"]["CAM"] for folder in (a, b))
    assert own["val"] and taken == own | {"taken_from": "a", "val": {}, "threshold_by": "default"}
    assert "classifier: that of a is taken" in (b / "log.txt").read_text()
    figures = [json.loads((folder / "results.json").read_text())["methods"] for folder in (a, b)]
    assert figures[0]["CAM"]["top1_cls"] == figures[1]["CAM"]["top1_cls"]
    assert f"fcam MaxBoxAcc {figures[1]['F-CAM']['MaxBoxAcc']:.1f}" in lines[1]

    assert command.main(["sweep", *options, "--print", *overrides]) == 0
    assert capsys.readouterr().out == ""
