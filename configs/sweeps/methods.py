"""Every way to train the classifier, three seeds each, on the embedded data set or a benchmark.

    fcam sweep --sweep=methods --workdir=runs/methods
    fcam sweep --sweep=methods:cub,encoder=vgg16 --workdir=runs/methods-cub --only='cam-*' \\
        -- --config.data.root=CUB --config.model.init=vgg16.pth

The argument chooses by name: `benchmark` (cub, cub50, openimages, ilsvrc, synthetic; synthetic), `encoder` (that of the
benchmark) and `seeds` (how many; 3). A method that is made for an encoder of its own, such as a transformer, has that
one, and other weights; some need files that other runs write. Start these by themselves, as `--only='tscam-*'`; on the
embedded data they are left out. What a pretrained network finds as it is, `pretrained`, has no seed and no part in it.
"""

from fcam_jax.configuration import choices
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.methods import METHODS
from fcam_jax.runs.sweeps.sweep_file import SweepRun

OF_FILES = {"gcnet", "spol_segmenter", "psol"}  # config.classifier.gcnet.classifier and so on
BENCHMARKS = ("synthetic", "cub", "cub50", "openimages", "ilsvrc")


def get_runs(args: str) -> list[SweepRun]:
    """A run for every method and seed; `args` as "name=value", commas between."""
    chosen = choices(args, ("benchmark", "encoder", "seeds"))
    benchmark, encoder, seeds = chosen.get("benchmark", "synthetic"), chosen.get("encoder"), chosen.get("seeds", "3")
    if benchmark not in BENCHMARKS:
        raise unknown_name("benchmark", benchmark, BENCHMARKS)
    if not seeds.isdigit() or int(seeds) < 1:
        raise InputError(f"seeds is {seeds!r}; it must be a whole number, 1 or more")
    own = {name for name, one in METHODS.items() if one.default_encoder}
    left_out = {"pretrained", *(own | OF_FILES if benchmark == "synthetic" else ())}
    return [
        SweepRun(
            name=f"{method}-s{seed}",
            config=f"{benchmark}:method={method}" + (f",encoder={encoder}" if encoder and method not in own else ""),
            overrides={"seed": seed},
        )
        for method in METHODS
        if method not in left_out
        for seed in range(int(seeds))
    ]
