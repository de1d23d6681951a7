"""Runs that are ended at random moments and started again end like one that is not, to the last bit.

    python -m tests.training.kill --kills=30

compares parameters, optimiser, place in the data, figures of the results and the metric log (without times) of each
such run with those of an uninterrupted one, and says how often an unfinished checkpoint was left behind. Every second
time the run is asked to stop (SIGTERM) instead of being killed (SIGKILL).
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

from fcam_jax.errors import REQUEUE
from tests.helpers.program import QUICKLY_COMPILED

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SETTINGS = {
    "log_steps": 4,
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 44,
    "data.synthetic.val": 8,
    "data.synthetic.test": 8,
    "model.decoder_widths": "(8,8,4,4)",
    "fcam.pictures_epochs": 0,
    "train.checkpoint_steps": 2,
    "validation.threshold_step": 0.1,
    "evaluation.batch_size": 8,
    "evaluation.threshold_step": 0.05,
    "evaluation.bootstrap": 10,
    "evaluation.pictures": 1,
    "evaluation.examples": 1,
}
# Seconds after the first sign of life within which most signals come; others come at any moment from the start on.
SOON, ANY = 1.0, 10.0
TIMES = ("steps_per_second", "data_wait")


def command(folder, epochs):
    """The call of the program to work in a folder."""
    settings = SETTINGS | {"classifier.epochs": epochs, "fcam.epochs": epochs}
    options = [f"--config.{name}={value}" for name, value in settings.items()]
    return [sys.executable, "-m", "fcam_jax.main", "--config=configs/synthetic.py", f"--workdir={folder}", *options]


def environment():
    """That of a call, on one device."""
    return os.environ | {"XLA_FLAGS": QUICKLY_COMPILED, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def start(folder, epochs):
    """The program at work in a folder."""
    return subprocess.Popen(
        command(folder, epochs),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for the end of a call, which must be a good one."""
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "left out" not in errors, errors


def trace(folder):
    """Changes with every step that is logged and with every checkpoint."""
    return [
        (str(path), path.stat().st_size if path.is_file() else 0)
        for pattern in ("*/metrics.jsonl", "*/checkpoints/*/*")
        for path in sorted(folder.glob(pattern))
    ]


def end_once(folder, epochs, chance, number):
    """Start a run and end it by a signal at a random moment; its exit status."""
    process, before = start(folder, epochs), trace(folder)
    if chance.random() < 0.8:
        while process.poll() is None and trace(folder) == before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, SOON))
    else:
        time.sleep(chance.uniform(0, ANY))
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    assert not any(bad in errors for bad in ("left out", "error:", "Traceback")), errors
    # It may have been done; or asked to stop before Python had begun.
    assert process.returncode in (0, -number, REQUEUE), (process.returncode, errors)
    return process.returncode


def arrays(folder):
    """All arrays of a checkpoint's item."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(folder).item_metadata.tree
        plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=plain))


def checkpoints(folder):
    """Facts and arrays of the newest checkpoints of all kinds, by name."""
    found = {}
    for kind, item in (("latest", "state"), ("best", "model")):
        for stage in ("classifier", "fcam"):
            newest = max((folder / stage / "checkpoints" / kind).glob("[0-9]*"), key=lambda path: int(path.name))
            found[f"{stage} {kind} facts"] = json.loads((newest / "manifest.json").read_text())["facts"]
            for path, array in jax.tree_util.tree_leaves_with_path(arrays(newest / item)):
                found[f"{stage} {kind} {jax.tree_util.keystr(path)}"] = (str(array.dtype), array.tobytes())
    return found


def record(folder):
    """Everything that must not depend on how often a run was ended, by name."""
    found = checkpoints(folder)
    for stage in ("classifier", "fcam"):
        rows = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
        found[f"{stage} log"] = [{name: row[name] for name in row if name not in TIMES} for row in rows]
    # The files of the program may change while the tests run.
    changing = {"evaluation_seconds": 0, "program": {}}
    found["results"] = json.loads((folder / "results.json").read_text()) | changing
    return found


def compare(work, uninterrupted, kills, epochs, seed):
    """End runs so often; returns lines on what differs from an uninterrupted run, and what was counted."""
    chance, counts = random.Random(seed), {"kills": 0, "stops": 0, "runs": 0, "unfinished": 0}
    whole, different = record(uninterrupted), []
    while counts["kills"] + counts["stops"] < kills:
        folder = work / f"ended{counts['runs']}"
        while (done := counts["kills"] + counts["stops"]) < kills:
            status = end_once(folder, epochs, chance, signal.SIGTERM if done % 2 else signal.SIGKILL)
            if status == 0:
                break
            counts["kills" if status == -signal.SIGKILL else "stops"] += 1
            counts["unfinished"] += bool(list(folder.glob("*/checkpoints/*/*.orbax-checkpoint-tmp*")))
        finish(start(folder, epochs))
        counts["runs"] += 1
        killed = record(folder)
        names = sorted(whole.keys() | killed.keys())
        different += [f"{folder.name}: {name}" for name in names if whole.get(name) != killed.get(name)]
    return different, counts | {"compared": len(whole)}


def main():
    """Compare, and end with status 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.training.kill", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=10, help="of each stage, of 6 steps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        whole = pathlib.Path(work) / "whole"
        finish(start(whole, options.epochs))
        different, counts = compare(pathlib.Path(work), whole, options.kills, options.epochs, options.seed)
    print("\n".join(different) or "no difference")
    print(f"{counts} in {time.monotonic() - started:.0f} s")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
