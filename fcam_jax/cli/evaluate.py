"""Figures of score maps from any program, by the evaluation protocol of Choe et al. (CVPR 2020).

    fcam evaluate --scoremaps=DIR --metadata=DIR/test --out=metrics.json

The folder of score maps holds `<image_id>.npy` for every image of the split. `docs/evaluation.md` says what the figures
mean and what the options do.
"""

import argparse
import sys

from fcam_jax.cli.command import declare, given


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from fcam_jax.evaluation.metrics import extras
    from fcam_jax.evaluation.score_map_folder import FolderOptions

    declare(parser, FolderOptions, also=f"more figures, with commas between, of {','.join(extras())}")


def run(options: argparse.Namespace) -> None:
    """Evaluate a folder of score maps by the protocol."""
    from fcam_jax.evaluation.folder_evaluation import evaluate_folder
    from fcam_jax.evaluation.score_map_folder import FolderOptions

    print(evaluate_folder(given(FolderOptions, options), lambda told: print(f"warning: {told}", file=sys.stderr)))
