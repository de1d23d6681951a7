"""Time every CAM and F-CAM, per map, beside one forward pass, the paper's figures and the PyTorch libraries.

Run from the repository's root: ``python -m benchmarks.cams --encoders=resnet50 --batches=1,32 --size=224``.

Random images, 200 classes, random weights. ``ms`` is milliseconds a map from raw images to score maps at their size,
the forward pass included; ``alone`` without it where the CAM starts from stages that are there (masks need passes of
their own, which count); ``forwards`` is ``ms`` over the time of a forward pass of the same batch. Compilation does not
count. Where torch and torchvision are installed, and the encoder is one of `TORCH`, torch-cam (pip ``torchcam``) and
pytorch-grad-cam (pip ``grad-cam``) explain torchvision's network of the same shape in the same run, on the same kind of
device, and the ratio of their time to ours stands beside it; the programs take turns. torch-cam explains a batch in
one call where it can; pytorch-grad-cam does always. ``torch`` is torchvision's forward pass alone. ``paper`` is Table
A.2 of F-CAM: one image on a P100.
"""

import argparse
import contextlib
import csv
import importlib.resources
import importlib.util
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import explain
from fcam_jax.cams.score_maps import score_map
from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP

CLASSES = 200
FORWARD, FCAM_ROW = "forward", "F-CAM"
TORCH = ("resnet18", "resnet34", "resnet50", "resnet101")
DILATED = {32: (False, False, False), 16: (False, False, True), 8: (False, True, True)}
TORCHCAM = {
    "cam": "CAM",
    "gradcam": "GradCAM",
    "gradcampp": "GradCAMpp",
    "smooth_gradcampp": "SmoothGradCAMpp",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "scorecam": "ScoreCAM",
    "sscam": "SSCAM",
    "iscam": "ISCAM",
}
GRAD_CAM = {
    "gradcam": "GradCAM",
    "gradcampp": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "hirescam": "HiResCAM",
    "elementwise": "GradCAMElementWise",
    "shapleycam": "ShapleyCAM",
    "finercam": "FinerCAM",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "segeigencam": "SegEigenCAM",
    "kpcacam": "KPCA_CAM",
    "fem": "FEM",
    "randomcam": "RandomCAM",
    "fullgrad": "FullGrad",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}
PUBLISHED = {
    "cam": "CAM*",
    "gradcam": "GradCAM",
    "gradcampp": "GradCAM++",
    "smooth_gradcampp": "Smooth-GradCAM++",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "scorecam": "ScoreCAM",
    "sscam": "SS-CAM",
    "iscam": "IS-CAM",
}
COLUMNS = (
    ("encoder", 16),
    ("cam", 16),
    ("batch", 5),
    ("ms", 9),
    ("alone", 9),
    ("forwards", 8),
    ("torch", 8),
    ("ratio", 6),
    ("torchcam", 9),
    ("ratio", 6),
    ("grad-cam", 9),
    ("ratio", 6),
    ("paper", 8),
)

Call = Callable[[], object]


# By "cpu", time that other programs take of a shared machine does not count; several cores add up.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def median_ms(calls: Mapping[str, Call], seconds: float, clock: Callable[[], float]) -> dict[str, float]:
    """Median milliseconds of each call; they take turns, each for so many seconds and three times, or 20 seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # compiles, and fills caches
    for name, call in _turns(calls, times, seconds):
        start = clock()
        call()
        times[name].append(clock() - start)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def _turns(calls: Mapping[str, Call], times: Mapping[str, list[float]], seconds: float) -> Iterator[tuple[str, Call]]:
    def unfinished(values: list[float]) -> bool:
        return not values or ((sum(values) < seconds or len(values) < 3) and sum(values) < max(20, seconds))

    while open_calls := [name for name, values in times.items() if unfinished(values)]:
        for name in open_calls:
            yield name, calls[name]


def ours(name: str, model: FCAM, images: jax.Array, labels: jax.Array) -> dict[str, Call]:
    """The call of a CAM, or of a row that is none, and that of its part after the forward pass."""
    size = images.shape[1], images.shape[2]
    keys = jax.random.split(jax.random.key(0), len(images))
    structure, state = nnx.split(model)

    def passes(state: Any) -> tuple[FCAM, tuple[jax.Array, ...], jax.Array]:
        merged = nnx.merge(structure, state)
        return merged, *merged.classifier(images, train=False)

    if name == FORWARD:
        forward = jax.jit(lambda state: passes(state)[2])
        return {"ms": lambda: jax.block_until_ready(forward(state))}
    if name == FCAM_ROW:
        whole = jax.jit(lambda state: jax.nn.softmax(nnx.merge(structure, state)(images, train=False)[2])[..., 1])
        return {"ms": lambda: jax.block_until_ready(whole(state))}
    cam = CAMS[name]()  # of the stage that the target explains by, the top one for most

    def maps(network: Classifier, stages: tuple[jax.Array, ...]) -> jax.Array:
        return score_map(cam(explain(network, images, stages, labels, keys)), size, "protocol")

    whole = jax.jit(lambda state: maps((found := passes(state))[0].classifier, found[1]))
    stages = jax.jit(lambda state: passes(state)[1])(state)
    rest = jax.jit(lambda state, stages: maps(nnx.merge(structure, state).classifier, stages))
    return {
        "ms": lambda: jax.block_until_ready(whole(state)),
        "alone": lambda: jax.block_until_ready(rest(state, stages)),
    }


class Torch:
    """torchvision's network of an encoder's shape, and the calls of the two libraries."""

    def __init__(self, encoder: str, final_stride: int, images: np.ndarray, labels: np.ndarray) -> None:
        """Random weights; on a GPU where jax has one."""
        import torch
        import torchvision

        self.device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        # Bottlenecks alone can be dilated; resnet18 and resnet34 are compared at stride 32.
        dilated = {"replace_stride_with_dilation": DILATED[final_stride]} if final_stride < 32 else {}
        build = getattr(torchvision.models, encoder)
        self.model = build(num_classes=CLASSES, **dilated).eval().to(self.device)
        scaled = images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        self.inputs = torch.from_numpy(scaled).to(self.device)
        self.labels = labels.tolist()

    def calls(self, name: str) -> dict[str, Call]:
        """The libraries' calls of a CAM, as far as they are installed and have it."""
        if name == FORWARD:
            return {"torch": self._forward()}
        found: dict[str, Call] = {}
        if name in TORCHCAM and importlib.util.find_spec("torchcam"):
            found["torchcam"] = self._torchcam(TORCHCAM[name])
        if name in GRAD_CAM and importlib.util.find_spec("pytorch_grad_cam"):
            found["grad-cam"] = self._grad_cam(GRAD_CAM[name])
        return found

    def _forward(self) -> Call:
        import torch

        def call() -> object:
            with torch.inference_mode():
                return self.model(self.inputs).cpu()

        return call

    def _torchcam(self, name: str) -> Call:
        import torch
        import torchcam.methods

        def call() -> object:
            with getattr(torchcam.methods, name)(self.model, "layer4") as extractor:
                with torch.set_grad_enabled(name not in ("CAM", "ScoreCAM", "SSCAM", "ISCAM")):
                    scores = self.model(self.inputs)
                (maps,) = extractor(self.labels, scores)
            maps = maps if maps.ndim == 3 else maps[None]
            enlarged = torch.nn.functional.interpolate(maps[:, None], self.inputs.shape[2:], mode="bicubic")
            return enlarged.cpu()

        return call

    def _grad_cam(self, name: str) -> Call:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        extractor = getattr(pytorch_grad_cam, name)(self.model, [self.model.layer4])
        extractor.batch_size = 128 if name == "AblationCAM" else getattr(extractor, "batch_size", 32)
        targets = [ClassifierOutputTarget(label) for label in self.labels]
        return lambda: extractor(self.inputs, targets)


def paper(name: str, encoder: str) -> float | None:
    """Milliseconds of the paper's Table A.2; None where it has none."""
    text = (importlib.resources.files("fcam_jax.runs.report") / "paper.csv").read_text(encoding="utf-8")
    wanted = ("A.2", FCAM_ROW if name == FCAM_ROW else PUBLISHED.get(name), encoder)
    found = [
        row for row in csv.DictReader(text.splitlines()) if (row["table"], row["method"], row["encoder"]) == wanted
    ]
    return float(found[0]["value"]) if found else None


def _fitting(network: Classifier) -> Iterator[str]:
    """The CAMs that a network can be explained by."""
    for name in CAMS:
        with contextlib.suppress(InputError):
            CAMS[name]().check(network)
            yield name


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A record for every encoder, batch and method."""
    with_torch = all(importlib.util.find_spec(name) for name in ("torch", "torchvision")) and not options.no_torch
    for encoder in options.encoders:
        body = ENCODERS[encoder](final_stride=options.final_stride, rngs=nnx.Rngs(0))
        head = WGAP(body.channels[-1], CLASSES, rngs=nnx.Rngs(1))
        widths = (256, 128, 64) if encoder == "vgg16" else (256, 128, 64, 32, 16)[: len(body.channels)]
        decoder = Decoder(body.channels, body.strides, widths, center=encoder == "vgg16", rngs=nnx.Rngs(2))
        model = FCAM(Classifier(body, head), decoder)
        for batch in options.batches:
            rng = np.random.default_rng(0)
            images = rng.integers(0, 256, (batch, options.size, options.size, 3)).astype(np.uint8)
            labels = rng.integers(0, CLASSES, batch).astype(np.int32)
            comparable = encoder in TORCH and (options.final_stride == 32 or encoder in TORCH[2:])
            torch = Torch(encoder, options.final_stride, images, labels) if with_torch and comparable else None
            forward = None
            for name in (FORWARD, *(options.cams or _fitting(model.classifier)), FCAM_ROW):
                calls = ours(name, model, jnp.asarray(images), jnp.asarray(labels))
                calls |= torch.calls(name) if torch is not None else {}
                found = median_ms(calls, options.seconds, CLOCKS[options.clock])
                times = {key: value / batch for key, value in found.items()}
                forward = forward or times["ms"]
                yield {
                    "encoder": encoder,
                    "cam": name,
                    "batch": batch,
                    **times,
                    "forwards": times["ms"] / forward,
                    "paper": paper(name, encoder),
                }


def line(record: Mapping[str, Any]) -> str:
    """A record in columns."""
    cells, last = [], ""
    for title, width in COLUMNS:
        if title == "ratio":
            value = record[last] / record["ms"] if last in record else None
            text = "" if value is None else f"{value:.1f}"
        else:
            value, last = record.get(title), title
            text = "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
        cells.append(text.rjust(width) if title not in ("encoder", "cam") else text.ljust(width))
    return " ".join(cells)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cams", description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", type=_names, default=("resnet50", "vgg16", "inceptionv3"))
    parser.add_argument("--cams", type=_names, default=(), help="by default all that fit the encoder")
    parser.add_argument("--batches", type=lambda text: tuple(map(int, text.split(","))), default=(1, 32))
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--final_stride", type=int, default=8, help="of the encoders: 8, 16 or 32")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--no_torch", action="store_true", help="ours alone")
    parser.add_argument("--json", type=pathlib.Path, help="file for the records")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; milliseconds per map; ratio: their time over ours")
    print(" ".join(t.rjust(w) if t not in ("encoder", "cam") else t.ljust(w) for t, w in COLUMNS))
    records = []
    for record in measure(options):
        records.append(record)
        print(line(record), flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
