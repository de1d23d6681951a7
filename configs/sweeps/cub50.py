"""The paper's claims on real birds: CAMs of CUB's first 50 classes, F-CAM on each, and what its loss is made of.

    fcam sweep --sweep=cub50 --workdir=runs/cub50 \\
        -- --config.data.root=DIR --config.model.init=timm:tf_efficientnet_lite0

It may be interrupted at any time, and runs of one seed wait for nothing but its classifier. `docs/results.md` has the
figures and the times.

All runs of a seed share its classifier, `classifier-s0` to `-s2`. On it F-CAM is trained from CAM and LayerCAM (three
seeds) and GradCAM++ (seed 0), and from LayerCAM with seeds alone (`layercam-sr-s0` and so on) and with seeds and CRF
(`layercam-sr-crf-s0`). `imagenet-cam` is what the pretrained network finds before it has seen a bird.

The argument chooses by name: `encoder` (that of configs/cub50.py) and `part`: "all", or "weights", which is F-CAM on
CAM and LayerCAM with other weights of the CRF, with seed 0, to choose from by validation.
"""

from typing import Any

from fcam_jax.configuration import choices, configuration
from fcam_jax.errors import unknown_name
from fcam_jax.runs.sweeps.sweep_file import SweepRun

SEEDS = (0, 1, 2)
CAMS = {"cam": SEEDS, "layercam": SEEDS, "gradcampp": SEEDS[:1]}
WITHOUT = {"sr": ("crf", "size"), "sr-crf": ("size",)}  # terms of the loss that are off
CRF_FACTORS = (0.25, 0.5, 1.0, 2.0)


def get_runs(args: str) -> list[SweepRun]:
    """The runs of a part on an encoder; `args` as "name=value", commas between."""
    chosen = choices(args, ("encoder", "part"))
    part, encoder = chosen.get("part", "all"), chosen.get("encoder")
    parts = {"all": _all, "weights": _weights}
    if part not in parts:
        raise unknown_name("part", part, parts)
    config = "cub50" if encoder is None else f"cub50:encoder={encoder}"
    configuration(config, {})  # an encoder that is not known is told
    return parts[part](config)


def _all(config: str) -> list[SweepRun]:
    pretrained = f"{config}{',' if ':' in config else ':'}method=pretrained"
    # Of the strides 8, 16 and 32 this is the one that validation likes best, with a MobileNetV1: at 8 the network no
    # longer knows what it sees, at 32 its map has few cells.
    runs = [SweepRun("imagenet-cam", pretrained, {"model.final_stride": 16})]
    runs += [_classifier(config, seed) for seed in SEEDS]
    runs += [_fcam(config, cam, seed) for cam, seeds in CAMS.items() for seed in seeds]
    for name, terms in WITHOUT.items():
        without = {f"fcam.loss.{term}.weight": 0.0 for term in terms}
        runs += [_fcam(config, "layercam", seed, name, without) for seed in SEEDS]
    return runs


def _weights(config: str) -> list[SweepRun]:
    usual = configuration(config, {}).fcam.loss.crf.weight
    weights = {f"crf-{factor:g}": {"fcam.loss.crf.weight": factor * usual} for factor in CRF_FACTORS}
    fcams = [_fcam(config, cam, 0, name, change) for cam in ("cam", "layercam") for name, change in weights.items()]
    return [_classifier(config, 0), *fcams]


def _classifier(config: str, seed: int) -> SweepRun:
    return SweepRun(f"classifier-s{seed}", config, {"seed": seed, "last_stage": "classifier"})


def _fcam(config: str, cam: str, seed: int, variant: str = "", changes: dict[str, Any] | None = None) -> SweepRun:
    name = "-".join(part for part in (cam, variant, f"s{seed}") if part)
    overrides = {"cam.name": cam, "seed": seed, **(changes or {})}
    return SweepRun(name, config, overrides, classifier_of=f"classifier-s{seed}")
