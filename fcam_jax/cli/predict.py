"""Maps of a user's own images, by a trained F-CAM or by a CAM of any classifier.

    fcam predict --checkpoint=runs/cub --images=photos --out=DIR [--cam=layercam]
    fcam predict --weights=torchvision:resnet50 --encoder=resnet50 --cam=layercam --images='photos/*.jpg' --out=DIR

Writes maps, pictures with boxes, and a line of predictions for each image. `docs/predict.md` says what is in them.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from typing import Any

from fcam_jax.cli import of_weights

AGAIN = "the same command goes on where this one stopped"


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from fcam_jax.cams import CAMS
    from fcam_jax.models.weights_by_name import FORMS

    path = pathlib.Path
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=path, help="folder of a run, of a stage, or of a checkpoint")
    model.add_argument("--weights", type=path, help=f"of a classifier: a path, {FORMS}")
    parser.add_argument("--images", nargs="+", action="extend", required=True, help="files, folders, quoted patterns")
    parser.add_argument("--out", type=path, required=True, help="folder for the outputs")
    parser.add_argument("--cam", help=f"instead of F-CAM or the run's own: {', '.join(CAMS)}")
    stages = "of the CAM, fused, as in stage3,stage4; else the top"
    parser.add_argument("--stages", type=lambda text: tuple(text.split(",")), default=(), help=stages)
    form: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    parser.add_argument("--cam_setting", type=_setting, **form, help="of the CAM")
    parser.add_argument("--label", type=_label, help="class of all maps, its number or name; by default the predicted")
    parser.add_argument("--threshold", type=float, help="share of a map's maximum; by default the validated one")
    parser.add_argument("--mirrored", action="store_true", help="means of the maps of an image and its mirror image")
    parser.add_argument("--top", type=int, default=5, help="number of classes that are recorded")
    parser.add_argument("--class_names", type=path, help="text file with a line for each class")
    parser.add_argument("--batch_size", type=int, default=8, help="images at a time")
    parser.add_argument("--full_size", action=argparse.BooleanOptionalAction, default=True, help="maps of image size")
    parser.add_argument("--max_side", type=int, default=1600, help="longest side of an image in a picture")
    parser.add_argument("--overwrite", action="store_true", help="remove the predictions in --out first")
    of_weights.declare(parser, "with --weights")


def run(options: argparse.Namespace) -> int:
    """Predict all images; the status is 1 where some cannot be read."""
    from fcam_jax.component import at_key
    from fcam_jax.data.classes import described, differing
    from fcam_jax.models.import_weights import advising
    from fcam_jax.runs.class_names import names_from_file
    from fcam_jax.runs.prediction.images import find_images
    from fcam_jax.runs.prediction.journal import MAPS, OVERLAYS
    from fcam_jax.runs.prediction.loop import Outputs, predict_into
    from fcam_jax.runs.prediction.network import ByCam, imported_network, trained_network
    from fcam_jax.runtime.text import printable

    _check(options)
    with at_key("--images="):
        found = find_images(options.images, [options.out / part for part in (MAPS, OVERLAYS)])
    cam = None if options.cam is None else ByCam(options.cam, options.stages, dict(options.cam_setting))
    if options.weights is None:
        network = trained_network(options.checkpoint, cam)
    else:
        with advising(encoder="--encoder={}"):
            network = imported_network(options.weights, **{"cam": cam, **of_weights.given(options)})
    network = network.mirrored() if options.mirrored else network
    if options.class_names is not None:
        with at_key("--class_names="):
            names = names_from_file(options.class_names, len(network.class_names))
        if differing(network.class_names, names):
            sets = f"{described(network.class_names)} are called {described(names)}"
            print(f"warning: --class_names: the network's classes {sets}", file=sys.stderr)
        network = dataclasses.replace(network, class_names=names)
    with at_key("--"):
        network = dataclasses.replace(network, threshold=network.threshold_at(options.threshold))
        label, top = network.label_of(options.label), min(options.top, len(network.class_names))
    outputs = Outputs(top, options.full_size, options.max_side, label)
    cut, cost = network.threshold, network.passes()
    begun = f"{network.title}, threshold {cut.value:g} ({cut.source}), {len(found.files)} images"
    begun += f", each {cost:,} passes of the network" if cost else ""
    left_out = ", ".join(f"{number} {suffix or 'without'}" for suffix, number in sorted(found.left_out.items()))
    print(begun + (f"; files of other endings are left out: {left_out}" if left_out else ""))
    done, unreadable = predict_into(options.out, found.files, network, outputs, options.batch_size, options.overwrite)
    there = len(found.files) - done - len(unreadable)
    print(f"{done} predicted{f', {there} were there already' if there else ''}: {options.out}")
    if unreadable:
        lines = [f"  {printable(line)}" for line in unreadable]
        print(f"{len(unreadable)} cannot be read:", *lines, sep="\n", file=sys.stderr)
    return 1 if unreadable else 0


def _check(options: argparse.Namespace) -> None:
    from fcam_jax.errors import InputError

    if options.checkpoint is not None and (names := [*of_weights.given(options)]):
        raise InputError(f"--{names[0]} describes a network of --weights; a --checkpoint knows its own")
    for name in ("batch_size", "top", "max_side"):
        if (value := getattr(options, name)) < 1:
            raise InputError(f"--{name}={value} must be at least 1")
    for name in ("cam", "encoder"):
        if options.weights is not None and getattr(options, name) is None:
            raise InputError(f"--weights needs --{name}")
    if options.cam is None and (options.stages or options.cam_setting):
        raise InputError("--stages and --cam_setting are of a CAM: give its name by --cam")


def _label(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() else text


def _setting(text: str) -> tuple[str, Any]:
    """A name and a number, or a word."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
