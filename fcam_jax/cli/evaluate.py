"""Figures of score maps from any program, by the evaluation protocol of Choe et al. (CVPR 2020).

    fcam evaluate --scoremaps=DIR --metadata=DIR/test --out=metrics.json

The folder of score maps holds `<image_id>.npy` for every image of the split. `docs/evaluation.md` says what the figures
mean and what the options do.
"""

import argparse
import json
import pathlib
import sys

from fcam_jax.errors import InputError


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from fcam_jax.component import defaults_of, meanings_of
    from fcam_jax.evaluation.metrics import extras
    from fcam_jax.evaluation.score_map_folder import FolderOptions

    kinds = {"size": int, "num_classes": int, "bootstrap": int, "seed": int, "also": str, "unlocalized": str}
    kinds |= {"threshold_step": float, "at_threshold": float}
    defaults = defaults_of(FolderOptions)
    for name, meaning in meanings_of(FolderOptions).items():
        text = meaning.replace("%", "%%") + (f", of {','.join(extras())}" if name == "also" else "")
        if defaults.get(name) is False:
            parser.add_argument(f"--{name}", action="store_true", help=text)
        else:
            kind, required = kinds.get(name, pathlib.Path), name not in defaults
            parser.add_argument(f"--{name}", type=kind, required=required, default=defaults.get(name), help=text)


def run(options: argparse.Namespace) -> None:
    """Evaluate a folder of score maps by the protocol."""
    from fcam_jax.evaluation.folder_evaluation import evaluate_folder
    from fcam_jax.evaluation.score_map_folder import FolderOptions
    from fcam_jax.runtime.files import replace_file

    given = {name: value for name, value in vars(options).items() if name not in ("overrides", "help")}
    found, record = evaluate_folder(FolderOptions(**given), lambda told: print(f"warning: {told}", file=sys.stderr))
    if options.out is not None:
        lines = [f"{json.dumps(name)}: {json.dumps(value, default=str)}" for name, value in record.items()]
        try:
            replace_file(options.out.resolve(), "{\n" + ",\n".join(lines) + "\n}\n", sync=False)
        except OSError as error:
            raise InputError(f"--out={options.out} cannot be written ({error.strerror})") from error
    print(found)
