"""Every encoder as an exported program beside this package: size, largest difference, and time of an image.

Run from the repository's root, where the extra ``onnx`` and onnxruntime are installed:
``python -m benchmarks.exported [--encoders=resnet50,...] [--json=exported.json]``.

Networks have random weights and ``--size`` pixels; what is exported is the classifier with its default CAM, and F-CAM,
with uint8 images in and no box. ``parity`` is the largest difference of class scores, as a share of the largest score,
or of maps, from the package's, over ``--batch`` images of noise, and ``labels`` how many of these get another class.
``ms`` are of an image in a batch of ``--batch``, the least of ``--runs`` runs of either in turn.
"""

import argparse
import json
import pathlib
import tempfile
import time
from typing import Any

import jax
import numpy as np
import onnxruntime
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.losses import PixelAlignment
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.models import ENCODERS, create_model
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.runs.prediction.network import CAM_THRESHOLD, FCAM_THRESHOLD, ByCam, Network
from fcam_jax.runs.program import ONNX, STABLEHLO, Program
from fcam_jax.seeds.sampling import SeedSettings

CLASSES = 200


def network(trained: Classifier, size: int, fcam: bool) -> Network:
    """A classifier with its CAM, or F-CAM on it."""
    names = [None] * CLASSES
    if not fcam:
        return Network(trained, ByCam(trained.encoder.default_cam), "CAM", size, CAM_THRESHOLD, names, {})
    body = trained.encoder
    decoder = Decoder(body.channels, body.strides, (), center=body.decoder_center, neck="reassemble", rngs=nnx.Rngs(1))
    method = FCAMMethod(CAMS["cam"](), SeedSettings(), PixelAlignment({}))
    return Network(FCAM(trained, decoder), method, "F-CAM", size, FCAM_THRESHOLD, names, {})


def measured(program: Program, folder: pathlib.Path, batch: int, runs: int) -> dict[str, Any]:
    """The row of a program."""
    side = program.network.size
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
    ours = jax.jit(program.__call__)
    expected = jax.device_get(ours(images))
    row: dict[str, Any] = {}
    hlo = jax.export.deserialize(bytearray(program.write(STABLEHLO, folder)[0].read_bytes()))
    file = program.write(ONNX, folder)[0]
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    found = {
        "stablehlo": jax.device_get(hlo.call(images)),
        "onnx": dict(zip(outputs, session.run(None, {"images": images}), strict=True)),
    }
    row["MB"] = round(file.stat().st_size / 1e6, 1)
    for form, values in found.items():
        scores, maps = (np.abs(values[name] - expected[name]).max() for name in ("scores", "map"))
        row[f"{form} scores"] = float(scores / np.abs(expected["scores"]).max())
        row[f"{form} map"] = float(maps)
        row[f"{form} labels"] = int((values["label"] != expected["label"]).sum())
    times: dict[str, list[float]] = {"onnx ms": [], "jax ms": []}
    for _ in range(runs):
        begun = time.perf_counter()
        session.run(None, {"images": images})
        middle = time.perf_counter()
        jax.block_until_ready(ours(images))
        times["onnx ms"].append(middle - begun)
        times["jax ms"].append(time.perf_counter() - middle)
    return row | {name: round(1e3 * min(values) / batch, 1) for name, values in times.items()}


def main() -> None:
    """Print a row for each encoder, for its CAM and for F-CAM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", default=",".join(name for name in ENCODERS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="file for the rows")
    options = parser.parse_args()
    rows = []
    for name in options.encoders.split(","):
        trained = create_model(name, num_classes=CLASSES)
        for fcam in (False, True):
            row: dict[str, Any] = {"encoder": name, "network": "F-CAM" if fcam else trained.encoder.default_cam}
            with tempfile.TemporaryDirectory() as folder:
                program = Program(network(trained, options.size, fcam), ("bytes",))
                try:
                    row |= measured(program, pathlib.Path(folder), options.batch, options.runs)
                except Exception as error:
                    row["error"] = f"{type(error).__name__}: {error}"
            print(json.dumps(row), flush=True)
            rows.append(row)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
