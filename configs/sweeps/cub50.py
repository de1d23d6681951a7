"""The paper's claims on real birds: CAMs of CUB's first 50 classes, and F-CAM on each.

    fcam sweep --sweep=cub50 --workdir=runs/cub50 \\
        -- --config.data.root=DIR --config.model.init=timm:tf_efficientnet_lite0

It may be interrupted at any time, and runs of one seed wait for nothing but its classifier. `docs/results.md` has the
figures and the times.

All runs of a seed share its classifier, `classifier-s0` to `-s2`. The argument chooses by name: `encoder` (that of
configs/cub50.py) and `part`:

- "cams": F-CAM on CAM and LayerCAM (three seeds) and GradCAM++ (seed 0);
- "weights": F-CAM on CAM and LayerCAM with other weights of the CRF, seed 0, to choose from by validation.

What each term of the loss is worth is the sweep `ablation:cub50,part=terms`.
"""

from collections.abc import Sequence
from typing import Any

from fcam_jax.configuration import choices, configuration
from fcam_jax.errors import unknown_name
from fcam_jax.runs.sweeps.sweep_file import SweepRun

SEEDS = (0, 1, 2)
CAMS = {"cam": SEEDS, "layercam": SEEDS, "gradcampp": SEEDS[:1]}
CRF_FACTORS = (0.25, 0.5, 1.0, 2.0)


def get_runs(args: str) -> list[SweepRun]:
    """The runs of a part on an encoder; `args` as "name=value", commas between."""
    chosen = choices(args, ("encoder", "part"))
    part, encoder = chosen.get("part", "cams"), chosen.get("encoder")
    parts = {"cams": _cams, "weights": _weights}
    if part not in parts:
        raise unknown_name("part", part, parts)
    config = "cub50" if encoder is None else f"cub50:encoder={encoder}"
    configuration(config, {})  # an encoder that is not known is told
    return parts[part](config)


def _cams(config: str) -> list[SweepRun]:
    return [
        *_classifiers(config, SEEDS),
        *(_fcam(config, cam, seed) for cam, seeds in CAMS.items() for seed in seeds),
    ]


def _weights(config: str) -> list[SweepRun]:
    usual = configuration(config, {}).fcam.loss.crf.weight
    weights = {f"crf-{factor:g}": {"fcam.loss.crf.weight": factor * usual} for factor in CRF_FACTORS}
    fcams = [_fcam(config, cam, 0, name, change) for cam in ("cam", "layercam") for name, change in weights.items()]
    return [*_classifiers(config, SEEDS[:1]), *fcams]


def _classifiers(config: str, seeds: Sequence[int]) -> list[SweepRun]:
    return [SweepRun(f"classifier-s{seed}", config, {"seed": seed, "last_stage": "classifier"}) for seed in seeds]


def _fcam(config: str, cam: str, seed: int, variant: str = "", changes: dict[str, Any] | None = None) -> SweepRun:
    name = "-".join(part for part in (cam, variant, f"s{seed}") if part)
    of_cam = f"{config}{',' if ':' in config else ':'}cam={cam}"
    return SweepRun(name, of_cam, {"seed": seed, **(changes or {})}, classifier_of=f"classifier-s{seed}")
