"""A run's best network for other programs: its weights, or the whole of it as a program that needs no package.

    fcam export --workdir=runs/cub --out=DIR [--format=stablehlo|onnx [--with=bytes,label,box,half]]

writes by default `DIR/classifier.safetensors` (encoder and classification layer) by torchvision's or Keras' names and,
where F-CAM is trained, `DIR/decoder.safetensors`. `config.model.init=DIR` and `config.fcam.init=DIR` take them back.
The other formats give `DIR/network.stablehlo` or `DIR/network.onnx`: images in; class scores, map and box out
(`docs/models.md`).
"""

import argparse
import pathlib

FORMATS = ("safetensors", "stablehlo", "onnx")


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the run")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the files")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="weights, or a program of its own")
    text = "parts of a program: bytes (uint8 images in), label (of the map, a second input), box, and for ONNX half "
    text += "(weights in half precision); default: bytes,box"
    parser.add_argument("--with", dest="parts", metavar="PARTS", help=text)


def run(options: argparse.Namespace) -> None:
    """Export the network of a run."""
    from fcam_jax.errors import InputError
    from fcam_jax.runs import build
    from fcam_jax.runs.export import export
    from fcam_jax.runs.folder import recorded
    from fcam_jax.runs.prediction.network import trained_network
    from fcam_jax.runs.program import Program

    of_program = options.format != FORMATS[0]
    if options.parts is not None and not of_program:
        raise InputError("--with is of a program: give --format=stablehlo or --format=onnx")
    if of_program:
        parts = [part for part in (options.parts if options.parts is not None else "bytes,box").split(",") if part]
        program = Program(trained_network(options.workdir), parts)
        options.out.mkdir(parents=True, exist_ok=True)
        files = program.write(options.format, options.out)
    else:
        stages = build.recorded_stages(recorded(options.workdir))
        options.out.mkdir(parents=True, exist_ok=True)
        files = export(stages, options.workdir, options.out)
    for path in files:
        print(path)
