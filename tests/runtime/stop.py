"""Programs that are asked to stop at moments spread over their whole life: each says so in a line, or is done.

    python -m tests.runtime.stop --moments=100

asks trainings, evaluations, reports and predictions, each a process of its own, by SIGTERM, SIGUSR1 or Ctrl-C, and says
how they have ended; the runs of some go on afterwards and are compared with one that was never asked.
"""

import argparse
import collections
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from fcam_jax.cli import together
from fcam_jax.errors import REQUEUE
from tests.training.kill import ROOT, command, environment, record

EARLY = 0.2  # seconds within which Python itself may not have begun
AGAIN = {"predict": "the same command goes on where this one stopped"}


def call(words, number=None, moment=0.0):
    """Call the program and ask it to stop after so many seconds; its status, its errors, and the seconds it took."""
    started = time.monotonic()
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if number is not None:
        time.sleep(moment)
        process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    return process.returncode, errors, time.monotonic() - started


def outcome(status, errors, number, moment, again):
    """In a word how a program that was asked to stop has ended; what is wrong with it, where something is."""
    lines = errors.splitlines()
    wrong = [line for line in lines if "error" in line.lower() or "Traceback" in line or "Exception" in line]
    if status == 0 and not wrong:
        return "done"
    ended = (1, f"interrupted; {again}") if number == signal.SIGINT else (REQUEUE, f"asked to stop; {again}")
    if (status, *lines[-1:]) == ended and not wrong:
        return "asked to stop"
    if moment < EARLY and status in (-number, 1) and (not lines or number == signal.SIGINT):
        return "before Python had begun"
    return f"WRONG: {signal.Signals(number).name} after {moment:.2f} s: status {status}\n{errors}"


def spread(work, whole, seconds, moments, seed, compared):
    """Ask programs to stop so often; the outcomes, and what differs in every `compared`-th run once it has gone on.

    `whole` is the folder of a training that was never asked, which took so many seconds.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background and its children are deaf to it
    chance, outcomes, different = random.Random(seed), collections.Counter(), []
    wanted = record(whole)
    kinds = {
        "train": lambda folder: command(folder, 1),
        "eval": lambda folder: [*command(whole, 1), "--mode=eval"],
        "report": lambda folder: [*command(whole, 1)[:3], "--mode=report", f"--workdir={whole}", f"--out={folder}"],
        "predict": lambda folder: [
            *(sys.executable, "-m", "fcam_jax", "predict", f"--checkpoint={whole}"),
            *(f"--images={whole / 'pictures'}", f"--out={folder}"),
        ],
    }
    names = [("train", "train", "eval", "report", "train", "predict")[place % 6] for place in range(moments)]
    life = {name: call(kinds[name](work / f"{name}-life"))[2] for name in dict.fromkeys(names) if name != "train"}
    life["train"] = seconds
    for place, name in enumerate(names):
        moment = life[name] * ((place + chance.random()) / moments) ** 2  # half of them in the first quarter
        number = chance.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
        folder = work / f"asked{place}"
        status, errors, _ = call(kinds[name](folder), number, moment)
        found = outcome(status, errors, number, moment, AGAIN.get(name, together.AGAIN))
        outcomes[name, found] += 1
        if name == "train" and place % compared == 0:
            status, errors, _ = call(command(folder, 1))
            there = record(folder) if status == 0 else {"status": errors}
            keys = sorted(key for key in wanted.keys() | there.keys() if wanted.get(key) != there.get(key))
            different += [f"{folder.name}: {key}" for key in keys]
            outcomes["compared", "the same" if not keys else "different"] += 1
    return outcomes, different, life


def main():
    """Ask, and end with status 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.runtime.stop", description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compared", type=int, default=10, help="every so many-th run goes on and is compared")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        whole = pathlib.Path(work) / "whole"
        status, errors, seconds = call(command(whole, 1))
        assert status == 0, errors
        how = options.moments, options.seed, options.compared
        outcomes, different, life = spread(pathlib.Path(work), whole, seconds, *how)
    print("seconds of a life:", {name: round(seconds, 1) for name, seconds in life.items()})
    for (name, found), count in sorted(outcomes.items()):
        print(f"{count:4} {name}: {found}")
    print("\n".join(different) or "no difference")
    sys.exit(bool(different) or any("WRONG" in found for _, found in outcomes))


if __name__ == "__main__":
    main()
