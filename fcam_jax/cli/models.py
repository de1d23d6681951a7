"""List encoders and the weights that are published for them, a line for each.

    fcam models [PATTERN]

Columns: the encoder, as `config.model.encoder`; its parameters, without a classification layer; mean and deviation by
which it normalises RGB in [0, 255]; a name of weights for it, as `config.model.init` and `fcam predict --weights` take
it; the side of images that these expect; their classes; their licence.
"""

import argparse
import sys
from typing import Any

_HEADING = ("encoder", "parameters", "mean", "deviation", "weights", "side", "classes", "licence")
_FACTS = 4  # of them are the encoder's


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pattern", nargs="?", default="*", help="of the encoders' names, as in 'resnet*'")


def run(options: argparse.Namespace) -> None:
    """Print a line as soon as it is known; on a terminal an encoder's facts stand in the first of its lines alone."""
    from fcam_jax.errors import unknown_name
    from fcam_jax.models import ENCODERS, list_models
    from fcam_jax.models.pretrained import published

    names = list_models(options.pattern)
    if not names:
        raise unknown_name("encoder", options.pattern, ENCODERS)
    offered = {name: published(ENCODERS[name]) for name in names}
    longest = max((len(one.name) for weights in offered.values() for one in weights), default=0)
    widths = (max(map(len, [*names, _HEADING[0]])), 11, 22, 20, max(longest, len(_HEADING[4])), 4, 7, 0)

    def show(cells: tuple[str, ...]) -> None:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), flush=True)

    show(_HEADING)
    for name, weights in offered.items():
        facts: tuple[str, ...] = (name, *_facts(ENCODERS[name]))
        for one in weights:
            show((*facts, one.name, str(one.side), str(one.classes or "-"), one.licence))
            facts = ("",) * _FACTS if sys.stdout.isatty() else facts
        if not weights:
            show((*facts, "-", "-", "-", "-"))


def _facts(build: Any) -> tuple[str, str, str]:
    """Parameters, mean and deviation of an encoder at the stride of its weights, of which no value is computed."""
    import jax
    from flax import nnx

    from fcam_jax.models.encoders import published_stride
    from fcam_jax.runtime.random import weight_keys

    body = nnx.eval_shape(lambda: build(final_stride=published_stride(build), rngs=weight_keys(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(body, nnx.Param)))
    return f"{count:,}", _numbers(body.mean), _numbers(body.std)


def _numbers(values: tuple[float, ...]) -> str:
    shown = [f"{value:g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else ",".join(shown)
