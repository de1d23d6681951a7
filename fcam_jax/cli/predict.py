"""Maps of a user's own images, by a trained F-CAM or by a CAM of any classifier.

    python -m fcam_jax.cli.predict --checkpoint=runs/cub --images=photos --out=DIR [--cam=layercam]
    python -m fcam_jax.cli.predict --weights=resnet50.pth --encoder=resnet50 --num_classes=1000 --cam=layercam \\
        --images='photos/**/*.jpg' --out=DIR

Writes maps, pictures with boxes, and a line of predictions for each image. `docs/predict.md` says what is in them.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from flax import nnx

from fcam_jax.cams.registry import CAMS
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.methods.baselines import Localizer
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import DROP, load_classifier
from fcam_jax.models.weights_digest import weights_digest
from fcam_jax.runs.class_names import ClassNames, names_from_file, names_of_run
from fcam_jax.runs.prediction.image_files import Found, find_images
from fcam_jax.runs.prediction.journal import MAPS, OVERLAYS, Journal
from fcam_jax.runs.prediction.loop import Outputs, predict
from fcam_jax.runs.prediction.predictor import ByCam, Predictor
from fcam_jax.runs.prediction.restored import Threshold
from fcam_jax.runs.trained import load_trained
from fcam_jax.runtime.text import printable

# Where validation chose no threshold: F-CAM's own decision, foreground where it is likelier than background; and for
# CAMs what boxes of birds are best at with ImageNet's networks (0.3 to 0.5 hardly differ).
FCAM_THRESHOLD = Threshold(0.5, "own decision", of_maximum=False)
CAM_THRESHOLD = Threshold(0.4, "default")

# Options that describe a network which no checkpoint describes.
OF_WEIGHTS = {"encoder": None, "num_classes": None, "final_stride": 32, "size": 224}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with weights and all that is known of it.

    Attributes:
      model: `Classifier` or `FCAM`.
      localizer: yields its maps.
      title: what the maps are called.
      size: side of its images.
      threshold: for its maps.
      class_names: of its classes.
      settings: what its maps depend on besides the weights, as JSON data.
    """

    model: Any
    localizer: Localizer
    title: str
    size: int
    threshold: Threshold
    class_names: ClassNames
    settings: dict[str, Any]


def trained_network(path: pathlib.Path, by_cam: ByCam | None) -> Network:
    """The model of a checkpoint: F-CAM, or the classifier with its own CAM or another one.

    Raises:
      InputError: the checkpoint cannot be used, or the CAM is not known.
    """
    trained = load_trained(path)
    config, is_fcam = trained.config, trained.stage.name == "fcam"
    data = config["data"]
    title, names = "F-CAM", None
    if isinstance(trained.stage.method, ClassifierMethod):
        way = trained.stage.method.training
        title, names = config["cam"]["name"] if way.by_cam else way.title, way.class_names()
    if names is None:  # those that a run has are the data set's
        names = names_of_run(trained.run, data["num_classes"])
    settings = {"size": data["size"], "model": config["model"]}
    if by_cam is not None and by_cam != ByCam(title):
        by_cam.check(trained.model)
        return Network(
            trained.model, by_cam, by_cam.title, data["size"], CAM_THRESHOLD, names, settings | _told(by_cam)
        )
    threshold = FCAM_THRESHOLD if is_fcam else CAM_THRESHOLD
    if "MaxBoxAcc_threshold" in trained.record["val"]:
        threshold = Threshold(trained.record["val"]["MaxBoxAcc_threshold"], "validation")
    settings |= {"map": title} if is_fcam else {"map": title, "cam": config["cam"]}
    return Network(trained.model, trained.stage.method, title, data["size"], threshold, names, settings)


def imported_network(weights: pathlib.Path, by_cam: ByCam | None, settings: dict[str, Any]) -> Network:
    """A classifier of a weight file, with a CAM.

    Args:
      weights: the file, or a folder as for ``config.model.init``.
      by_cam: the CAM.
      settings: values of `OF_WEIGHTS`.

    Raises:
      InputError: the file does not hold such a network, or the CAM is not known.
    """
    if by_cam is None:
        raise InputError(f"--weights needs --cam, one of {', '.join(CAMS)}")
    for name, known in {"encoder": f"one of {', '.join(ENCODERS)}", "num_classes": "of its last layer"}.items():
        if settings[name] is None:
            raise InputError(f"--weights needs --{name}, {known}")
    if settings["encoder"] not in ENCODERS:
        raise unknown_name("--encoder", settings["encoder"], ENCODERS)

    def build() -> Classifier:
        body = ENCODERS[settings["encoder"]](final_stride=settings["final_stride"], rngs=nnx.Rngs(0))
        return Classifier(body, WGAP(body.channels[-1], settings["num_classes"], rngs=nnx.Rngs(0)))

    try:
        model = nnx.eval_shape(build)
        imported = load_classifier(model, weights, keep_head=True)
    except InputError as error:  # its advice is on a training's configuration
        advice = {
            f"this network's has {settings['num_classes']} ({DROP})": f"--num_classes is {settings['num_classes']}",
            f" ({DROP})": "",
            "--config.model.": "--",
            "model.final_stride": "--final_stride",
        }
        text = str(error)
        for there, here in advice.items():
            text = text.replace(there, here)
        raise InputError(text) from error
    if imported.untouched:
        raise InputError(f"weights {weights}: they lack {', '.join(imported.untouched)}; train a classifier with them")
    by_cam.check(model)
    names: ClassNames = [None] * settings["num_classes"]
    return Network(model, by_cam, by_cam.title, settings["size"], CAM_THRESHOLD, names, settings | _told(by_cam))


def _told(by_cam: ByCam) -> dict[str, Any]:
    """A CAM as JSON data."""
    return {"map": by_cam.name, "stages": list(by_cam.stages), "cam_settings": dict(by_cam.settings)}


def run(options: argparse.Namespace) -> int:
    """Predict all images.

    Returns:
      The number of images that cannot be read.

    Raises:
      InputError: for whatever else is wrong.
    """
    _check(options)
    found = find_images(options.images, [options.out / part for part in (MAPS, OVERLAYS)])
    by_cam = None if options.cam is None else ByCam(options.cam, options.stages, dict(options.cam_setting))
    if options.weights is None:
        network = trained_network(options.checkpoint, by_cam)
    else:
        settings = {name: getattr(options, name) or default for name, default in OF_WEIGHTS.items()}
        network = imported_network(options.weights, by_cam, settings)
    num_classes = len(network.class_names)
    if options.label is not None and not 0 <= options.label < num_classes:
        raise InputError(f"--label={options.label} is no class of this network; they are 0 to {num_classes - 1}")
    outputs = Outputs(
        title=network.title,
        threshold=network.threshold if options.threshold is None else Threshold(options.threshold, "given"),
        class_names=names_from_file(options.class_names, num_classes) if options.class_names else network.class_names,
        top=min(options.top, num_classes),
        full_size=options.full_size,
        max_side=options.max_side,
    )
    journal = Journal(options.out, _settings(options, network, outputs), options.overwrite)
    print(f"{outputs.title}, threshold {outputs.threshold.value:g} ({outputs.threshold.source}), {_count(found)}")
    try:
        files = [file for file in found.files if not journal.is_done(file)]
        batch_size = min(options.batch_size, max(len(files), 1))
        predictor = Predictor(network.model, network.localizer, batch_size, options.label)
        unreadable = predict(files, predictor, network.size, outputs, options.out, journal)
    finally:
        journal.close()
    there = f", {len(found.files) - len(files)} were there already" if len(files) < len(found.files) else ""
    print(f"{len(files) - len(unreadable)} predicted{there}: {options.out}")
    if unreadable:
        print(f"{len(unreadable)} cannot be read:", file=sys.stderr)
        for image in unreadable:
            print(f"  {printable(image.reason)}", file=sys.stderr)
    return len(unreadable)


def _check(options: argparse.Namespace) -> None:
    for name in OF_WEIGHTS:
        value = getattr(options, name)
        if value is not None and options.checkpoint is not None:
            raise InputError(f"--{name} describes a network of --weights; a --checkpoint knows its own")
        if isinstance(value, int) and value < 1:
            raise InputError(f"--{name}={value} must be at least 1")
    if options.cam is None and (options.stages or options.cam_setting):
        raise InputError("--stages and --cam_setting are of a CAM: give its name by --cam")
    for name in ("batch_size", "top", "max_side"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name}={getattr(options, name)} must be at least 1")
    if options.threshold is not None and not 0 <= options.threshold < 1:
        raise InputError(f"--threshold={options.threshold:g} must lie in [0, 1), as a share of each map's maximum")


def _settings(options: argparse.Namespace, network: Network, outputs: Outputs) -> dict[str, Any]:
    """What the outputs depend on."""
    return {
        "weights": weights_digest(network.model)[:12],
        **network.settings,
        "label": "predicted" if options.label is None else options.label,
        "threshold": dataclasses.asdict(outputs.threshold),
        "class_names": hashlib.sha256(repr(outputs.class_names).encode()).hexdigest()[:12],
        "top": outputs.top,
        "full_size": outputs.full_size,
        "max_side": outputs.max_side,
    }


def _count(found: Found) -> str:
    left_out = ", ".join(f"{number} {suffix or 'without'}" for suffix, number in sorted(found.left_out.items()))
    return f"{len(found.files)} images" + (f"; files of other endings are left out: {left_out}" if left_out else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fcam predict", description=main.__doc__, allow_abbrev=False)
    path = pathlib.Path
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=path, help="folder of a run, of a stage, or of a checkpoint")
    model.add_argument("--weights", type=path, help="weight file of a classifier")
    parser.add_argument("--images", nargs="+", action="extend", required=True, help="files, folders, quoted patterns")
    parser.add_argument("--out", type=path, required=True, help="folder for the outputs")
    parser.add_argument("--cam", help=f"instead of F-CAM or the run's own: {', '.join(CAMS)}")
    parser.add_argument(
        "--stages", type=_names, default=(), help="of the CAM, fused, as in stage3,stage4; else the top"
    )
    parser.add_argument(
        "--cam_setting", type=_setting, action="append", default=[], metavar="NAME=VALUE", help="of the CAM"
    )
    parser.add_argument("--label", type=int, help="class of all maps; by default the one predicted for each image")
    parser.add_argument("--threshold", type=float, help="share of a map's maximum; by default the validated one")
    parser.add_argument("--top", type=int, default=5, help="number of classes that are recorded")
    parser.add_argument("--class_names", type=path, help="text file with a line for each class")
    parser.add_argument("--batch_size", type=int, default=8, help="images at a time")
    parser.add_argument("--full_size", action=argparse.BooleanOptionalAction, default=True, help="maps of image size")
    parser.add_argument("--max_side", type=int, default=1600, help="longest side of an image in a picture")
    parser.add_argument("--overwrite", action="store_true", help="remove the predictions in --out first")
    parser.add_argument("--encoder", help=f"with --weights: {', '.join(ENCODERS)}")
    parser.add_argument("--num_classes", type=int, help="with --weights")
    parser.add_argument("--final_stride", type=int, help="with --weights: 8, 16 or 32 (default)")
    parser.add_argument("--size", type=int, help="with --weights: side of the network's images (default 224)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _setting(text: str) -> tuple[str, Any]:
    """A name and a number, or a word."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(arguments: Sequence[str] | None = None) -> None:
    """Predict class, map and box of images."""
    options = _parser().parse_args(arguments)
    try:
        sys.exit(1 if run(options) else 0)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot be read or written: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where this one stopped")


if __name__ == "__main__":
    main()
