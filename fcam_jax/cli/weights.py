"""Say what a weight file is and which network it fits; convert it to safetensors by the published names.

fcam weights SOURCE [--out=DIR] [--drop_head]

SOURCE is a path, or a name, such as torchvision:resnet50; `fcam models` lists names.
"""

import argparse
import pathlib


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", type=pathlib.Path, help="file, folder with encoder.pt, ..., or name")
    parser.add_argument("--out", type=pathlib.Path, help="folder for classifier.safetensors and decoder.safetensors")
    parser.add_argument("--drop_head", action="store_true", help="leave the classification layer out")


def run(options: argparse.Namespace) -> None:
    """Describe the file, and convert it where a folder is given."""
    from fcam_jax.models.import_weights import identify, save_weights

    found, lines = identify(options.source, keep_head=not options.drop_head)
    print(*lines, sep="\n")
    for name, weights in found.items() if options.out else ():
        options.out.mkdir(parents=True, exist_ok=True)
        save_weights(weights, options.out / f"{name}.safetensors")
        print(f"wrote {options.out / name}.safetensors ({len(weights)} tensors)")
