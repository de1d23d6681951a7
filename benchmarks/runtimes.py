"""A prediction by this package, by onnxruntime on the exported network, and by PyTorch, on CPUs in one run.

Run from the repository's root, where the extra ``onnx`` and onnxruntime are installed, and for the third PyTorch and
timm: ``taskset -c 0 python -m benchmarks.runtimes [--encoders=resnet50,...] [--json=FILE] [--page=docs/predict.md]``.

Networks have random weights and 224 pixels at the default final stride. JAX and ONNX give class scores and maps, by the
default CAM of the classifier or by F-CAM; PyTorch runs the classifier alone, eagerly: that of
`benchmarks.torch_networks`, or of transformers timm's. Runs of all alternate. Figures are images a second, by the least
of the runs' times: of the processor's on one core, where other work then hardly counts, and of the clock on several.
A ratio is that of the other's figure to JAX's: below 1 JAX is faster.
"""

import argparse
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import onnxruntime

from benchmarks.exported import CLASSES, network
from fcam_jax.models import create_model
from fcam_jax.runs.onnx_model import onnx_model
from fcam_jax.runs.prediction.network import PREDICTED
from fcam_jax.runs.program import Program
from fcam_jax.runtime.files import replace_file
from tools.publication.pages import filled

SIDE = 224
BLOCK = "CPU"  # of the page
CORES = len(os.sched_getaffinity(0))
ENCODERS = ("small", "mobilenet_v1_075", "efficientnet_lite0", "resnet50", "vgg16", "deit_small")
TITLES = "encoder|map|batch|cores|JAX|ONNX|ratio|PyTorch|ratio"


def pytorch(name: str, images: np.ndarray) -> Callable[[], Any] | None:
    """Class scores by PyTorch, where there is such a network."""
    try:
        import timm
        import torch

        from benchmarks.torch_networks import NETWORKS, Classifier
    except ImportError:
        return None
    torch.set_num_threads(CORES)
    given = torch.tensor(images).permute(0, 3, 1, 2).contiguous()
    if name in NETWORKS:
        model = Classifier(name, CLASSES).eval()
    elif name.startswith("deit_"):
        model, given = timm.create_model(f"{name}_patch16_224", num_classes=CLASSES).eval(), given.float() / 255
    else:
        return None

    def scores() -> Any:
        with torch.inference_mode():
            return model(given)

    return scores


def contestants(name: str, fcam: bool, batch: int) -> dict[str, Callable[[], Any]]:
    """What is timed, by its name; each gives its outputs on the host."""
    images = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3)).astype(np.uint8)
    made = network(create_model(name, num_classes=CLASSES), SIDE, fcam)
    predictor, labels = made.predictor(batch), np.full(batch, PREDICTED)
    program = Program(made, ("bytes",))
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = CORES
    model = onnx_model(program, program.inputs(), {}).SerializeToString()
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    found: dict[str, Callable[[], Any]] = {
        "JAX": lambda: predictor(images, labels),
        "ONNX": lambda: session.run(None, {"images": images}),
    }
    return found | ({"PyTorch": run} if not fcam and (run := pytorch(name, images)) else {})


def least(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Seconds of each, the least of at least two runs that alternate, until each has had so many seconds."""
    clock = time.process_time if CORES == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    begun = time.perf_counter()
    for run in runs.values():
        run()
    while len(times["JAX"]) < 2 or time.perf_counter() - begun < seconds * len(runs):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: min(several) for name, several in times.items()}


def row(line: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [f"`{line['encoder']}`", line["map"], *(str(line[key]) for key in ("batch", "cores"))]
    ours = line["batch"] / line["seconds"]["JAX"]
    cells.append(f"{ours:.3g}")
    for name in ("ONNX", "PyTorch"):
        rate = line["batch"] / line["seconds"][name] if name in line["seconds"] else None
        cells += ["", ""] if rate is None else [f"{rate:.3g}", f"{rate / ours:.2f}"]
    return f"| {' | '.join(cells)} |"


def table(lines: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    titles = TITLES.split("|")
    order = sorted(lines, key=lambda line: (ENCODERS.index(line["encoder"]), line["map"], line["cores"], line["batch"]))
    return "\n".join([f"| {' | '.join(titles)} |", f"|---|---|{'--:|' * (len(titles) - 2)}", *map(row, order)])


def main() -> None:
    """Print a row for each encoder, map and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", default=",".join(ENCODERS))
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each contestant, at least")
    parser.add_argument("--json", type=pathlib.Path, help="keep the figures there, and go on with them")
    parser.add_argument("--page", type=pathlib.Path, help=f"a page whose block 'runtimes {BLOCK}' is filled")
    options = parser.parse_args()
    lines = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    for name in options.encoders.split(","):
        for title in ("CAM", "F-CAM"):
            for batch in map(int, options.batches.split(",")):
                line: dict[str, Any] = {"encoder": name, "map": title, "batch": batch, "cores": CORES}
                if any(line.items() <= other.items() for other in lines):
                    continue
                line["seconds"] = least(contestants(name, title == "F-CAM", batch), options.seconds)
                lines.append(line)
                print(row(line), flush=True)
                jax.clear_caches()
                if options.json:
                    options.json.write_text(json.dumps(lines, indent=1) + "\n")
    if options.page:
        page = str(options.page)
        replace_file(options.page, filled(options.page.read_text(), page, "runtimes", [BLOCK], lambda _: table(lines)))


if __name__ == "__main__":
    main()
