"""The paper's claims on real birds: the six CAMs of Table 1 on CUB's first 50 classes, F-CAM on each, and its ablation.

    fcam sweep --sweep=cub50 --workdir=runs/cub50 \\
        -- --config.data.root=DIR --config.model.init=mobilenet_v1_075_224_imagenet.safetensors

14 runs; on one core of a server thirteen minutes for each of three classifiers and ten to twelve for each run of
F-CAM. It may be interrupted at any time, and runs of one seed wait for nothing but its classifier.
`docs/results.md` has the figures.

All runs of a seed share its classifier, which validation chooses by CAM: `classifier-s0` to `-s2`. On it F-CAM is
trained from each CAM (seed 0; CAM with three seeds), and from CAM with seeds alone (`cam-sr-s0`) and with seeds and CRF
(`cam-sr-crf-s0`). `imagenet-cam` is what the pretrained network finds before it has seen a bird.

The argument chooses by name: `device` (cpu or gpu, as in configs/cub50.py; cpu) and `part`: "all", or "weights", which
is F-CAM on CAM and LayerCAM with other weights of the CRF, with seed 0, to choose from by validation.
"""

from typing import Any

from fcam_jax.configuration import choices
from fcam_jax.errors import unknown_name
from fcam_jax.runs.sweeps.sweep_file import SweepRun

CAMS = ("cam", "gradcam", "gradcampp", "smooth_gradcampp", "xgradcam", "layercam")
SEEDS = (0, 1, 2)
DEVICES = ("cpu", "gpu")
WITHOUT = {"sr": ("crf", "size"), "sr-crf": ("size",)}  # terms of the loss that are off
CRF_WEIGHTS = (5e-9, 1e-8, 2e-8, 4e-8)


def get_runs(args: str) -> list[SweepRun]:
    """The runs of a part on a device; `args` as "name=value", commas between."""
    chosen = choices(args, ("device", "part"))
    device, part = chosen.get("device", "cpu"), chosen.get("part", "all")
    if device not in DEVICES:
        raise unknown_name("device", device, DEVICES)
    parts = {"all": _all, "weights": _weights}
    if part not in parts:
        raise unknown_name("part", part, parts)
    return parts[part](f"cub50:device={device}")


def _all(config: str) -> list[SweepRun]:
    # Of the strides 8, 16 and 32, this is the one that validation likes best: at 8 the network no longer knows what it
    # sees, at 32 its map has few cells.
    runs = [SweepRun("imagenet-cam", f"{config},method=pretrained", {"model.final_stride": 16})]
    runs += [_classifier(config, seed) for seed in SEEDS]
    runs += [_fcam(config, cam, seed) for cam in CAMS for seed in (SEEDS if cam == "cam" else SEEDS[:1])]
    for name, terms in WITHOUT.items():
        without = {f"fcam.loss.{term}.weight": 0.0 for term in terms}
        runs.append(_fcam(config, "cam", SEEDS[0], name, without))
    return runs


def _weights(config: str) -> list[SweepRun]:
    weights = {f"crf-{weight:g}": {"fcam.loss.crf.weight": weight} for weight in CRF_WEIGHTS}
    fcams = [_fcam(config, cam, 0, name, change) for cam in ("cam", "layercam") for name, change in weights.items()]
    return [_classifier(config, 0), *fcams]


def _classifier(config: str, seed: int) -> SweepRun:
    return SweepRun(f"classifier-s{seed}", config, {"seed": seed, "last_stage": "classifier"})


def _fcam(config: str, cam: str, seed: int, variant: str = "", changes: dict[str, Any] | None = None) -> SweepRun:
    name = "-".join(part for part in (cam, variant, f"s{seed}") if part)
    overrides = {"cam.name": cam, "seed": seed, **(changes or {})}
    return SweepRun(name, config, overrides, classifier_of=f"classifier-s{seed}")
