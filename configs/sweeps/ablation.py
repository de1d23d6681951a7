"""What each term of F-CAM's loss is worth (Table 3 of the paper), and the share n- of background (Fig. 8).

    fcam sweep --sweep=ablation --workdir=runs/ablation
    fcam sweep --sweep=ablation:cub,encoder=vgg16 --workdir=runs/ablation-cub \\
        -- --config.data.root=CUB --config.model.init=vgg16.pth

The argument chooses by name: `benchmark` (a file of configs/; synthetic), `seeds` (how many; 3), `part` ("terms" or
"background"; both); any other name is passed on to the benchmark's file, such as `cam` or `encoder`.

All runs of a seed share a classifier; its CAM is the row that the terms are added to. `sr` has seeds alone, `sr-crf`
the dense CRF, too, `sr-crf-asc` all of the loss, with the benchmark's n-; `n-0.1` to `n-0.7` are that with another n-.
`sr-crf-third` and `sr-crf-asc-third` have a third of the CRF's weight: one that suits it beside the size term may be
too much for it without.
"""

from typing import Any

from fcam_jax.configuration import choices, configuration
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.runs.sweeps.sweep_file import SweepRun

BENCHMARKS = ("synthetic", "cub50", "cub", "openimages", "ilsvrc", "folder")
PARTS = ("terms", "background")
ALL = "sr-crf-asc"  # trains the classifier
WITHOUT = {"sr": ("crf", "size"), "sr-crf": ("size",)}
BACKGROUND_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def get_runs(args: str) -> list[SweepRun]:
    """Runs with and without the terms, and with other n-, for every seed; `args` as "name=value", commas between."""
    own, passed_on = _divided(args)
    benchmark, part = own.get("benchmark", "synthetic"), own.get("part", "")
    if benchmark not in BENCHMARKS:
        raise unknown_name("benchmark", benchmark, BENCHMARKS)
    if part not in ("", *PARTS):
        raise unknown_name("part", part, PARTS)
    if not own.get("seeds", "3").isdigit() or int(own.get("seeds", "3")) < 1:
        raise InputError(f"seeds is {own['seeds']!r}; it must be a whole number, 1 or more")
    usual = configuration(f"{benchmark}:{passed_on}", {}).fcam
    variants: dict[str, dict[str, Any]] = {ALL: {}}
    if part != "background":
        variants |= _terms(usual.loss.crf.weight)
    if part != "terms":
        fractions = [fraction for fraction in BACKGROUND_FRACTIONS if fraction != usual.seeds.background_fraction]
        variants |= {f"n-{fraction}": {"fcam.seeds.background_fraction": fraction} for fraction in fractions}
    return [
        SweepRun(
            name=f"{name}-s{seed}",
            config=f"{benchmark}:{passed_on}" if passed_on else benchmark,
            overrides={"seed": seed, **changes},
            classifier_of=None if name == ALL else f"{ALL}-s{seed}",
        )
        for seed in range(int(own.get("seeds", "3")))
        for name, changes in variants.items()
    ]


def _terms(crf: float) -> dict[str, dict[str, Any]]:
    """What the runs with fewer terms, or less of the CRF, set, by name."""
    without = {name: {f"fcam.loss.{term}.weight": 0.0 for term in terms} for name, terms in WITHOUT.items()}
    third = {"fcam.loss.crf.weight": crf / 3}
    return without | {"sr-crf-third": without["sr-crf"] | third, f"{ALL}-third": third}


def _divided(args: str) -> tuple[dict[str, str], str]:
    """What the argument chooses here, and the rest of it."""
    names = ("benchmark", "seeds", "part")
    parts = args.split(",") if args else []
    if parts and "=" not in parts[0]:
        parts[0] = f"benchmark={parts[0]}"
    mine = [part for part in parts if part.partition("=")[0] in names]
    return choices(",".join(mine), names), ",".join(part for part in parts if part not in mine)
