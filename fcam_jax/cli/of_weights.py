"""The options of `predict` and `demo` that describe the network of a weight file, which a run records."""

import argparse
from typing import Any


def declare(parser: argparse.ArgumentParser, when: str, *without: str) -> None:
    """Declare the options, but for some; the help of each begins with when it counts."""
    from fcam_jax.models import ENCODERS

    texts = {
        "encoder": ", ".join(ENCODERS),
        "num_classes": "to be checked",
        "final_stride": "8, 16 or 32; by default the network's own",
        "probability": "softmax (default), or sigmoid where an image may have several classes",
        "size": "side of the network's images (default 224)",
    }
    for name, text in texts.items():
        if name not in without:
            kind = str if name in ("encoder", "probability") else int
            parser.add_argument(f"--{name}", type=kind, help=f"{when}: {text}")


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Those that have a value, by name."""
    from fcam_jax.runs.prediction.network import OF_WEIGHTS

    values = {name: getattr(options, name, None) for name in ("encoder", *OF_WEIGHTS)}
    return {name: value for name, value in values.items() if value is not None}
