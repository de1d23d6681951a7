"""Every encoder as an exported program beside this package: how far it is from it, and the size of its file.

Run from the repository's root, where the extra ``onnx`` and onnxruntime are installed:
``python -m benchmarks.exported [--encoders=resnet50,...] [--json=exported.json] [--page=docs/models.md]``.

Networks have random weights and ``--size`` pixels at the default final stride; what is exported is the classifier with
its default CAM, and F-CAM, with uint8 images in and a box. Each is written once with an open batch, and run by
onnxruntime on ``--batch`` images of noise at once and on the first alone. ``scores`` is the largest difference from
this package, as a share of the largest score, ``map`` that of maps, and ``half's map`` the same with weights in half
precision. StableHLO is compared for ``--stablehlo`` alone, as it costs a second compilation. A decoder whose maps are
all 0 and 1 gets smaller weights in its last layer first.
"""

import argparse
import json
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.losses import PixelAlignment
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.models import ENCODERS, create_model
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.runs.onnx_model import halved
from fcam_jax.runs.prediction.network import CAM_THRESHOLD, FCAM_THRESHOLD, ByCam, Network
from fcam_jax.runs.program import ONNX, STABLEHLO, Program
from fcam_jax.runtime.files import replace_file
from fcam_jax.seeds.sampling import SeedSettings
from tools.publication.pages import filled

CLASSES = 200
BLOCKS = ("beside timm", "programs")  # of the page
OF_STABLEHLO = (
    "small", "resnet18", "resnet50", "vgg16", "inceptionv3", "mobilenet_v1_100", "mobilenet_v2", "convnext_tiny",
    "deit_tiny", "dinov2_vits14_reg",
)  # fmt: skip
TITLES = "encoder|its CAM|MB|half's MB|scores|map|half's map"


def network(trained: Classifier, size: int, fcam: bool) -> Network:
    """A classifier with its CAM, or F-CAM on it."""
    names = [None] * CLASSES
    if not fcam:
        return Network(trained, ByCam(trained.encoder.default_cam), "CAM", size, CAM_THRESHOLD, names, {})
    body = trained.encoder
    decoder = Decoder(body.channels, body.strides, (), center=body.decoder_center, neck="reassemble", rngs=nnx.Rngs(1))
    method = FCAMMethod(CAMS["cam"](), SeedSettings(), PixelAlignment({}))
    return Network(FCAM(trained, decoder), method, "F-CAM", size, FCAM_THRESHOLD, names, {})


def onnx_session(model: bytes) -> Callable[[np.ndarray], dict[str, Any]]:
    """The outputs of a model by name."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def apart(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """How far outputs are from what is expected; of that the first images count."""
    whole = np.abs(expected["scores"]).max()
    expected = {name: values[: len(found["map"])] for name, values in expected.items()}
    return {
        "scores": float(np.abs(found["scores"] - expected["scores"]).max() / whole),
        "map": float(np.abs(found["map"] - expected["map"]).max()),
        "labels": int((found["label"] == expected["label"]).sum()),
        "boxes": int((found["box"] == expected["box"]).all(axis=1).sum()),
    }


def softened(model: FCAM, images: np.ndarray) -> None:
    """Divide the decoder's last layer by its largest score; in deep networks a softmax of them is 0 and 1 alone."""
    scores = nnx.jit(lambda model, images: model(images, train=False)[2])(model, images)
    kernel = model.decoder.head.kernel
    kernel.set_value(kernel[...] / jnp.abs(scores).max())


def measured(program: Program, folder: pathlib.Path, batch: int, stablehlo: bool) -> dict[str, Any]:
    """The figures of a program."""
    side = program.network.size
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
    expected = jax.device_get(jax.jit(program.__call__)(images))
    if isinstance(program.network.model, FCAM) and (np.abs(expected["map"] - 0.5) > 0.5 - 1e-6).all():
        softened(program.network.model, images[:1])
        expected = jax.device_get(jax.jit(lambda images: program(images))(images))
    whole = program.write(ONNX, folder)[0].read_bytes()
    half = halved(onnx.load_from_string(whole)).SerializeToString()
    session = onnx_session(whole)
    found = {
        "images": batch,
        "MB": len(whole) / 1e6,
        "half MB": len(half) / 1e6,
        "onnx": [apart(session(images[:count]), expected) for count in (batch, 1)],
        "half": apart(onnx_session(half)(images), expected),
    }
    if stablehlo:
        hlo = jax.export.deserialize(bytearray(program.write(STABLEHLO, folder)[0].read_bytes()))
        found["stablehlo"] = apart(jax.device_get(hlo.call(images)), expected)
    return found


def row(name: str, lines: list[dict[str, Any]]) -> str:
    """A line of the table; of two figures the first is of the CAM, the second of F-CAM."""
    made: dict[str, Callable[[dict[str, Any]], str]] = {
        "MB": lambda line: f"{line['MB']:.1f}",
        "half MB": lambda line: f"{line['half MB']:.1f}",
        "scores": lambda line: f"{max(one['scores'] for one in line['onnx']):.0e}",
        "map": lambda line: f"{max(one['map'] for one in line['onnx']):.0e}",
        "half map": lambda line: f"{line['half']['map']:.0e}",
    }
    cells = [", ".join(dict.fromkeys(make(line) for line in lines)) for make in made.values()]
    return f"| `{name}` | `{lines[0]['network']}` | {' | '.join(cells)} |"


def table(data: dict[str, list[dict[str, Any]]]) -> str:
    """The table in Markdown, and what is the same for all."""
    titles, lines = TITLES.split("|"), [line for several in data.values() for line in several]
    equal = {key: sum(one[key] for line in lines for one in line["onnx"]) for key in ("boxes", "labels")}
    whole = sum(line["images"] + 1 for line in lines)
    hlo = [max(line["stablehlo"][key] for key in ("scores", "map")) for line in lines if "stablehlo" in line]
    told = f"Of {whole} images {equal['boxes']} have the same box and {equal['labels']} the same class"
    told += f"; StableHLO of {len(hlo)} programs differs by {max(hlo):.0e} at most." if hlo else "."
    head = [told, "", f"| {' | '.join(titles)} |", f"|---|---|{'--:|' * (len(titles) - 2)}"]
    return "\n".join([*head, *(row(name, data[name]) for name in ENCODERS if name in data)])


def main() -> None:
    """Print a row for each encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", default=",".join(ENCODERS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--stablehlo", default=",".join(OF_STABLEHLO), help="encoders")
    parser.add_argument("--json", type=pathlib.Path, help="keep the figures there, and go on with them")
    parser.add_argument("--page", type=pathlib.Path, help=f"a page whose block 'exported {BLOCKS[1]}' is filled")
    options = parser.parse_args()
    data = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name in options.encoders.split(","):
        if name in data:
            continue
        trained, data[name] = create_model(name, num_classes=CLASSES), []
        for fcam in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                program = Program(network(trained, options.size, fcam), ("bytes", "box"))
                title = "F-CAM" if fcam else trained.encoder.default_cam
                hlo = name in options.stablehlo.split(",")
                figures = measured(program, pathlib.Path(folder), options.batch, hlo)
                data[name].append({"network": title, **figures})
        jax.clear_caches()
        print(row(name, data[name]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(data, indent=1) + "\n")
    if options.page:
        page = str(options.page)
        replace_file(options.page, filled(options.page.read_text(), page, "exported", BLOCKS, lambda _: table(data)))


if __name__ == "__main__":
    main()
