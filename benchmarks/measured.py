"""What `benchmarks/on_gpu.sh` measured, in tables; training steps beside what was estimated of them.

Run from the repository's root: ``python -m benchmarks.measured OUT [--estimates=FILE]``. The estimates are lines of
``python -m benchmarks.scaling --gpu=NAME --json=FILE``, for the same device and step: the least time of the compiled
kernels (``least ms``), and shares. ``reached %`` is least over measured time: 100 is a step
whose kernels reach the stated bandwidths and rates, and that waits for nothing.
"""

import argparse
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.encoders import row

STEPS = (
    "     stage|             encoder|   dtype|batch|images/s|step ms|least ms|reached %|CRF %|estimated CRF %|seeds %|"
    "estimated seeds %|peak GB|planned GB|data ms|torch images/s|ratio"
)
CRF = "                    form|size|   ms|x exact|   MB| KS %|bias %|spread %"
CAMS = "   encoder|             cam|batch|      ms|torchcam|grad-cam|  torch|forwards"
SAME = ("stage", "encoder", "dtype", "size", "accumulate", "remat")
MEASURED = ("train.json", "losses.json", "cams.json", "run.log")
WAITS = re.compile(r"(\w+): epoch (\d+) of \d+, .*waiting for data ([\d.]+) %")


def estimated(line: Mapping[str, Any], device: str, estimates: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A measured step with the estimate of the same one, where there is one for the device that it was measured on."""
    same = {name: line[name] for name in SAME} | {"images": line["batch"], "devices": 1, "kernel": "auto"}
    for one in estimates:
        if one["target"] not in device.lower() or "least ms" not in one:
            continue
        if all(one[name] == value for name, value in same.items()):
            shares = {f"estimated {name}": one[name] for name in ("CRF %", "seeds %")}
            return {**line, **shares, "least ms": one["least ms"], "reached %": 100 * one["least ms"] / line["step ms"]}
    return dict(line)


def waits(log: str) -> list[tuple[str, int, float]]:
    """Stage, epoch and percent of its time that a run waited for data, after its first epoch of each stage."""
    return [(stage, int(epoch), float(percent)) for stage, epoch, percent in WAITS.findall(log) if int(epoch)]


def table(titles: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Print lines of a table."""
    names = titles.split("|")
    print(f"\n| {' | '.join(names)} |\n|{'|'.join('-' * (len(name) + 1) + ':' for name in names)}|")
    for line in lines:
        print(row(line, titles))


def main() -> None:
    """Print what is there; what a part has not measured is left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="folder of the measurements")
    parser.add_argument("--estimates", type=pathlib.Path, help="of the same accelerator")
    options = parser.parse_args()
    estimates = []
    if options.estimates is not None and not options.estimates.is_file():
        parser.error(f"--estimates={options.estimates}: no such file; benchmarks.scaling --json writes one")
    try:
        if options.estimates is not None:
            estimates = [json.loads(text) for text in options.estimates.read_text().splitlines()]
    except ValueError as error:
        parser.error(f"--estimates={options.estimates} is no file of benchmarks.scaling: {error}")
    if not any((options.out / name).is_file() for name in MEASURED):
        parser.error(f"{options.out} holds none of {', '.join(MEASURED)}: benchmarks/on_gpu.sh writes them")

    def there(name: str) -> Any:
        path = options.out / name
        try:
            return json.loads(path.read_text()) if path.is_file() else None
        except ValueError as error:
            parser.error(f"{path} is damaged: {error}; measure it again")

    if steps := there("train.json"):
        print(f"{steps['machine']}, matrix products, TFLOP/s: {steps['products']}")
        table(STEPS, [estimated(line, steps["machine"]["device"], estimates) for line in steps["lines"]])
    if forms := there("losses.json"):
        table(CRF, forms)
    if cams := there("cams.json"):
        table(CAMS, cams)
    log = options.out / "run.log"
    for stage, epoch, percent in waits(log.read_text()) if log.is_file() else ():
        print(f"{stage}, epoch {epoch}: {percent} % of its time waited for data")


if __name__ == "__main__":
    main()
