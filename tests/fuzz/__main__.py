"""A long search for input that breaks the program: ``python -m tests.fuzz --minutes=30 [--only=NAME]``.

Every parser of `parsers.PARSERS` is tried in turn, with new seeds in each round. What breaks one is kept in a folder of
its own below --out, as small as it gets: `input` as it is read, and `case.json`, which ``--replay=FOLDER`` tries again.
"""

import argparse
import json
import logging
import multiprocessing
import pathlib
import resource
import shutil
import sys
import tempfile
import time
import traceback
from typing import Any

from fcam_jax.runtime.text import file_name
from tests.fuzz.damage import Damage
from tests.fuzz.guard import BrokenError, check, explore, fresh, make
from tests.fuzz.parsers import PARSERS

LONGEST = 900  # seconds of one parser's part of a round


def main() -> int:
    """Search; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", default="", metavar="NAMES", help=f"of {', '.join(PARSERS)}; with commas between")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; by default the time")
    parser.add_argument("--examples", type=int, default=200, help="inputs of a parser in a round")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("fuzz"), help="folder for what is found")
    parser.add_argument("--replay", type=pathlib.Path, help="a folder that an earlier call has left there")
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay)
    logging.getLogger("fcam_jax").propagate = False  # it is looked at, and not shown
    names = options.only.split(",") if options.only else list(PARSERS)
    seed = int(time.time()) if options.seed is None else options.seed
    found = search(names, options.out.resolve(), seed, options.examples, time.monotonic() + 60 * options.minutes)
    print(f"{len(found)} find(s)" + "".join(f"\n  {folder}" for folder in found))
    return bool(found)


def search(names: list[str], out: pathlib.Path, seed: int, examples: int, end: float) -> list[pathlib.Path]:
    """Rounds over all parsers until the time is over; the folders of what was found."""
    known: dict[str, set[str]] = {name: set() for name in names}
    found: list[pathlib.Path] = []
    count = 0
    while time.monotonic() < end:
        print(
            f"round {seed}: {count:,} inputs, {len(found)} find(s), {(end - time.monotonic()) / 60:.0f} min left",
            flush=True,
        )
        for name in names:
            if time.monotonic() > end:
                break
            with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
                told = in_a_process(name, pathlib.Path(place), examples, seed, frozenset(known[name]))
                count += examples
                if told is None:
                    continue
                kind, text, case = told
                known[name].add(kind)
                folder = out / f"{name}-{file_name(kind)[:80].replace('/', '_')}"
                keep(folder, pathlib.Path(place) / "work", {"parser": name, "seed": seed, "damage": case, "said": text})
                found.append(folder)
                print(f"{name}: {text[:500]}\n  python -m tests.fuzz --replay={folder}", flush=True)
        seed += 1
    return found


def in_a_process(name: str, place: pathlib.Path, examples: int, seed: int, known: frozenset[str]) -> Any:
    """`explore` in a process of its own, which may crash or hang; kind, text and damage of what was found."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(name, place, examples, seed, known, theirs))
    worker.start()
    theirs.close()
    try:
        if ours.poll(LONGEST):
            return ours.recv()
        kind = f"more than {LONGEST} s"
    except EOFError:
        worker.join()
        kind = f"the process ended with {worker.exitcode}"
    finally:
        worker.kill()
        worker.join()
    return kind, f"{kind}; the folder `input` has what was read last", None


def _work(name: str, place: pathlib.Path, examples: int, seed: int, known: frozenset[str], pipe: Any) -> None:
    if sys.platform == "linux":  # a mistake here must not take the machine down
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
    try:
        found = explore(PARSERS[name], place, examples, seed, known)
        if found.damage is None:
            pipe.send(None)
        else:
            kind = found.error.kind if isinstance(found.error, BrokenError) else type(found.error).__name__
            pipe.send((kind, " ".join(str(found.error).split()), found.damage.as_json()))
    except BaseException as error:  # a mistake of these programs, which is told as well
        pipe.send((type(error).__name__, traceback.format_exc(), None))


def keep(folder: pathlib.Path, work: pathlib.Path, case: dict[str, Any]) -> None:
    """Write down what was found."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(case, indent=2) + "\n")
    if work.exists():
        shutil.move(work, folder / "input") if case["damage"] is None else _copy_files(work, folder / "input")


def _copy_files(source: pathlib.Path, target: pathlib.Path) -> None:
    for path in source.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24:
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(source))


def replay(folder: pathlib.Path) -> int:
    """Try a find again; 1 where it still breaks its parser."""
    case = json.loads((folder / "case.json").read_text())
    parser = PARSERS[case["parser"]]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        template, work = pathlib.Path(place, "template"), pathlib.Path(place, "work")
        make(parser, template)
        fresh(template, work)
        try:
            said = check(parser, work, Damage.of_json(case["damage"]).apply(work))
            print(f"the word is kept: {said or 'it is read'}")
        except BrokenError:
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
