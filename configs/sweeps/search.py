"""The protocol's random search for the rate and the settings of a method: 30 trials, chosen by validation.

    fcam sweep --sweep=search:benchmark=cub,method=has --workdir=runs/search-has \\
        -- --config.data.root=CUB --config.model.init=resnet50.pth

The argument chooses by name: `benchmark` (cub, openimages, ilsvrc, synthetic; needed), `method`, `encoder` and `seed`
(of the search: trial i of a seed is always the same). Only stage 1 is trained. The best trial is the one that the
sweep names as the highest on val, not the one that is best on test.

Space (Choe et al., CVPR 2020): rate LogUniform[1e-5, 1]; maps of 14 x 14 or 28 x 28 at 224 pixels; rates and
thresholds of a method Uniform[0, 1], of SPG's pairs the higher one first; CutMix's beta 1 / Uniform(0, 2) - 1/2. On
ILSVRC a trial trains on a tenth of every class's images: the released program names a smaller list of its own there, of
which neither size nor images could be checked.
"""

from typing import Any

import numpy as np

from fcam_jax.configuration import choices, configuration
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.models.encoders import ENCODERS, default_stride, published_stride
from fcam_jax.runs.sweeps.sweep_file import SweepRun

TRIALS = 30
BENCHMARKS = {"cub": 1.0, "openimages": 1.0, "ilsvrc": 0.1, "synthetic": 1.0}  # share of the training images

# Settings of a method that are shares, and pairs of them.
SHARES = {
    "has": ("rate",),
    "acol": ("threshold",),
    "eil": ("threshold",),
    "meil": ("threshold",),
    "adl": ("rate", "threshold"),
    "cutmix": ("probability",),
    "i2c": ("threshold",),
}
PAIRS = {"spg": ("attention", "b2", "fused")}


def get_runs(args: str) -> list[SweepRun]:
    """The trials of a method on a benchmark; `args` as "name=value" with commas between."""
    chosen = choices(args, ("benchmark", "method", "encoder", "seed"))
    benchmark, method = chosen.get("benchmark", ""), chosen.get("method", "cam")
    if benchmark not in BENCHMARKS:
        raise unknown_name("benchmark", benchmark, BENCHMARKS)
    if not chosen.get("seed", "0").isdigit():
        raise InputError(f"seed is {chosen['seed']!r}; it must be a whole number")
    config = f"{benchmark}:method={method}" + (f",encoder={chosen['encoder']}" if "encoder" in chosen else "")
    build = ENCODERS[configuration(config, {}).model.encoder]
    shared = {"data.fraction": BENCHMARKS[benchmark], "last_stage": "classifier"}
    runs = []
    for trial in range(TRIALS):
        drawn = trial_settings(method, int(chosen.get("seed", "0")), trial)
        if default_stride(build) == published_stride(build):
            del drawn["model.final_stride"]  # the encoder has maps of one size
        runs.append(SweepRun(f"trial-{trial:02d}", config, overrides=shared | drawn))
    return runs


def trial_settings(method: str, seed: int, trial: int) -> dict[str, Any]:
    """What a trial draws, by key of the configuration."""
    rng = np.random.default_rng((seed, trial))
    drawn: dict[str, Any] = {
        "classifier.optimizer.learning_rate": float(10 ** rng.uniform(-5, 0)),
        "model.final_stride": int(rng.choice((8, 16))),
    }
    for name in SHARES.get(method, ()):
        drawn[f"classifier.{method}.{name}"] = float(rng.uniform())
    for name in PAIRS.get(method, ()):
        drawn[f"classifier.{method}.{name}"] = tuple(sorted(rng.uniform(size=2).tolist(), reverse=True))
    if method == "cutmix":
        drawn["classifier.cutmix.beta"] = float(1 / rng.uniform(1e-3, 2) - 0.5)  # 0 and infinity are left out
    return drawn
