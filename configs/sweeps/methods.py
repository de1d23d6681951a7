"""Every way to train the classifier on the embedded data set, three seeds each.

fcam sweep --sweep=methods --workdir=runs/methods
"""

from fcam_jax.runs.sweeps.sweep_file import SweepRun

METHODS = ("cam", "has", "cutmix", "adl", "acol", "spg", "fsl")
SEEDS = (0, 1, 2)


def get_runs(args: str) -> list[SweepRun]:
    """A run for every method and seed; it takes no argument."""
    if args:
        raise ValueError(f"there is no argument to give, such as {args!r}")
    return [
        SweepRun(name=f"{method}-s{seed}", config=f"synthetic:method={method}", overrides={"seed": seed})
        for method in METHODS
        for seed in SEEDS
    ]
