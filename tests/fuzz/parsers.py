"""Every parser of what users give: how a small valid input of it is made, and what reads that.

A reader is given the folder of the input and the file in it that was damaged, and reads as the program does.
"""

import contextlib
import csv
import dataclasses
import io
import json
import pathlib
import tarfile
import zipfile
from collections.abc import Callable

import h5py
import numpy as np
import PIL.Image
from safetensors.numpy import save_file

from fcam_jax.cli import command, train
from fcam_jax.configuration import configuration
from fcam_jax.data import images, masks
from fcam_jax.data.arrays import read_map
from fcam_jax.data.folder import FolderSource
from fcam_jax.data.found_boxes import FoundBoxes
from fcam_jax.data.layouts import coco_file
from fcam_jax.data.layouts.problems import ON_ERROR
from fcam_jax.data.layouts.registry import splits
from fcam_jax.data.published import archives
from fcam_jax.data.source import Record
from fcam_jax.errors import InputError
from fcam_jax.evaluation.predictions import read_predictions
from fcam_jax.evaluation.score_map import scaled_map
from fcam_jax.models.weight_files import read_weights
from fcam_jax.runs import build, folder
from fcam_jax.runs.class_names import names_from_file
from fcam_jax.runs.prediction.images import find_images
from fcam_jax.runs.prediction.journal import LINES, SETTINGS, Journal
from fcam_jax.runs.report.runs import read_examples, read_pixels, read_run
from fcam_jax.runs.sweeps.job import summary
from fcam_jax.runs.sweeps.sweep_file import Planned, SweepRun, plan, read_runs
from fcam_jax.runs.trained import load_trained
from fcam_jax.training import manifest
from fcam_jax.training.checkpoint import Checkpoints, Progress
from fcam_jax.training.metric_log import MetricLog, logged
from tests.data import test_foreign_layouts as foreign
from tests.data.conftest import SameData
from tests.fuzz.images import FORMATS, encoded
from tests.helpers.made_runs import make_run, write_log, write_results


@dataclasses.dataclass(frozen=True)
class Parser:
    """A parser.

    Attributes:
      make: writes a valid input into a folder.
      read: reads it.
      damaged: pattern of the files that are damaged.
      whole_files: their names and kinds change, too.
      names: further words by which a message may name what is wrong.
      complaint: what is said of the valid input, where that is too small to be of use.
    """

    make: Callable[[pathlib.Path], object]
    read: Callable[[pathlib.Path, pathlib.Path], object]
    damaged: str = "**/*"
    whole_files: bool = True
    names: tuple[str, ...] = ()
    complaint: str = ""

    def takes(self, said: str) -> bool:
        """Whether what is said is what is said of the valid input."""
        return self.complaint in said if self.complaint else not said


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


# Pictures.


def _make_images(root: pathlib.Path) -> None:
    for name in FORMATS:
        suffix = "png" if name == "PNG" else name.replace(" ", "-").lower()
        (root / f"image.{suffix}").write_bytes(encoded(PIL.Image.fromarray(PIXELS), name))
    for mode in ("1", "L", "P", "LA", "RGBA"):
        PIL.Image.fromarray(PIXELS[..., 0]).convert(mode).save(root / f"{mode}.png")
    PIL.Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(root / "I16.png")
    turned = PIL.Image.Exif()
    turned[274] = 6
    PIL.Image.fromarray(PIXELS).save(root / "turned.jpeg", exif=turned)


def _read_images(root: pathlib.Path, path: pathlib.Path) -> None:
    data = images.read_bytes(path)
    pixels = images.decode_image(data, str(path), upright=True)
    for of in masks.OF:
        with contextlib.suppress(InputError):  # it has no alpha
            masks.decode_mask(data, str(path), masks.MaskRule(of)).doubts()
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size


def _read_map(root: pathlib.Path, path: pathlib.Path) -> None:
    score_map = scaled_map(read_map(path), (8, 8), True, str(path))
    assert score_map.shape == (8, 8) and np.isfinite(score_map).all()


# Data sets.


def _dataset(layout: str, masks: bool = False) -> Callable[[pathlib.Path], None]:
    def make(root: pathlib.Path) -> None:
        written = SameData(root.parent / f"{root.name}.made").write(layout, masks)
        root.rmdir()
        written.rename(root)

    return make


def _read_dataset(root: pathlib.Path, path: pathlib.Path) -> None:
    """Read every split; the first error is raised once all are read."""
    coco_file._categories.cache_clear()
    errors = []
    for split in splits(root):
        for on_error in ON_ERROR:
            try:
                errors += _read_split(FolderSource(split=split, root=root, on_error=on_error))
            except InputError as error:
                errors.append(error)
    if errors:
        raise errors[0]


def _read_split(source: FolderSource) -> list[InputError]:
    """What is read is what a source promises; returns the errors of images."""
    assert len(source) and all(line.isprintable() for line in source.left_out)
    assert source.class_names is None or len(source.class_names) == source.num_classes
    located, errors = False, []
    for index in range(len(source)):
        try:
            record = source[index]
        except InputError as error:
            errors.append(error)
            continue
        height, width = record.image.shape[:2]
        assert 0 <= record.label < source.num_classes
        assert record.boxes is None or len(record.boxes)
        for x0, y0, x1, y1 in record.boxes if record.boxes is not None else ():
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        located |= record.mask is not None or record.boxes is not None
    assert located or errors or not source.truth
    return errors


# Texts.


def _make_boxes(root: pathlib.Path) -> None:
    lines = {"image": "a/1.png", "box": [1, 2, 9, 8], "width": 16, "height": 12}, {"image": "b.png", "box": None}
    (root / "boxes.jsonl").write_text("\n".join(map(json.dumps, lines)))


def _read_boxes(root: pathlib.Path, path: pathlib.Path) -> None:
    found = FoundBoxes.read(path)
    for name in ("a/1.png", "b.png"):
        record = found.told(Record(PIXELS, 0, name))
        assert (record.boxes is None) == (found.lines[name]["box"] is None) == (record.mask is not None)


def _make_predictions(root: pathlib.Path) -> None:
    (root / "predictions.txt").write_text("a/1.png,0,1\na, b/2.png,1,0\n")


def _read_predictions(root: pathlib.Path, path: pathlib.Path) -> None:
    ranks, *_ = read_predictions(path, ["a/1.png", "a, b/2.png"], np.array([0, 1]), 2)
    assert (ranks >= 0).all()


def _make_words(root: pathlib.Path) -> None:
    words = [
        "--config=synthetic",
        "--config.seed=3",
        "--config.data.batch_size=16",
        "--config.fcam.loss.crf.weight=1e-9",
    ]
    words += ["--config.model.decoder_widths=8,8,4,4", "--config.data.upright", "--config.cam.name=layercam"]
    words += ["--config.evaluation.also=PxAP", "--workdir=w"]
    (root / "words.json").write_text(json.dumps(words))


def _read_words(root: pathlib.Path, path: pathlib.Path) -> None:
    try:
        words = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    words = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
    options = command.parsed("fcam train", "", train.options, [word for word in words if word not in ("-h", "--help")])
    if options.config is not None and options.config.partition(":")[0] == "synthetic":
        build.resolved(configuration(options.config, options.overrides))


def _make_sweep(root: pathlib.Path) -> None:
    (root / "sweep.py").write_text(
        "import json, pathlib\nfrom fcam_jax.runs.sweeps.sweep_file import SweepRun\n\ndef get_runs(args):\n"
        "    runs = json.loads(pathlib.Path(__file__).with_name('runs.json').read_bytes())\n"
        "    return [SweepRun(**run) for run in runs]\n"
    )
    runs = [
        {"name": "a-s0", "config": "synthetic", "overrides": {"seed": 0, "cam.name": "cam"}},
        {"name": "a-s1", "config": "synthetic", "overrides": {"fcam.epochs": 2}, "classifier_of": "a-s0"},
    ]
    (root / "runs.json").write_text(json.dumps(runs))


def _read_sweep(root: pathlib.Path, path: pathlib.Path) -> None:
    plan(read_runs(str(root / "sweep.py")), root / "runs", {})


# Weights.

WEIGHTS = {"conv.weight": np.ones((4, 3, 1, 1), np.float32), "fc.weight": np.ones((2, 4), np.float16)}


def _make_torch(root: pathlib.Path) -> None:
    from tests.models.test_weight_files import recorded

    (root / "zip.pth").write_bytes(recorded("zip"))
    (root / "stream.pt").write_bytes(recorded("stream"))


def _make_hdf5(root: pathlib.Path) -> None:
    with h5py.File(root / "weights.h5", "w") as file:
        for name in ("conv1/conv1/kernel:0", "conv1_bn/conv1_bn/gamma:0"):
            file[f"model_weights/{name}"] = np.ones((3, 3, 3, 4), np.float32)


def _read_weights(root: pathlib.Path, path: pathlib.Path) -> None:
    weights, _ = read_weights(path)
    assert all(isinstance(tensor, np.ndarray) for tensor in weights.values())


# What runs leave.


def _make_checkpoints(root: pathlib.Path) -> None:
    progress = Progress(3, {"epoch": 1}, "abc", 3, 3, 50.0, {"MaxBoxAcc": 50.0})
    for kind, facts in (("latest", dataclasses.asdict(progress)), ("best", {"step": 3, "val": {"MaxBoxAcc": 50.0}})):
        step = root / "checkpoints" / kind / "3"
        step.mkdir(parents=True)
        (step / "data").write_bytes(b"1234")
        manifest.write(step, facts, {"run": "r", "stage": "fcam", "kind": kind, "step": 3})


def _read_checkpoints(root: pathlib.Path, path: pathlib.Path) -> None:
    with Checkpoints(root / "checkpoints", run="r", stage="fcam") as checkpoints:
        progress = checkpoints.progress()
        assert progress is None or progress.step == 3


def _make_record(root: pathlib.Path) -> None:
    config = build.resolved(configuration("synthetic", {})).to_dict()
    (root / "config.json").write_text(json.dumps(config))


def _read_record(root: pathlib.Path, path: pathlib.Path) -> None:
    build.recorded_experiment(folder.recorded(root), None, "test")
    load_trained(root)


def _make_run(root: pathlib.Path) -> None:
    root.rmdir()
    make_run(root)
    write_log(root, "fcam", [10.0, 20.0])
    (root / "class_names.txt").write_text("ant\nbee\n")


def _read_run(root: pathlib.Path, path: pathlib.Path) -> None:
    run = read_run(root)
    examples, left_out = read_examples(root, [record.row for record in run.records], run.class_names)
    if any(not line.isprintable() for line in left_out):
        raise AssertionError(f"a line on what is left out cannot be printed: {left_out}")
    for example in examples:
        read_pixels(example)


def _make_log(root: pathlib.Path) -> None:
    lines = [{"step": step, "kind": kind, "loss": 1.0} for step in (1, 2) for kind in ("train", "val")]
    (root / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _read_log(root: pathlib.Path, path: pathlib.Path) -> None:
    logged(root, "val")
    MetricLog(root, 1, 1).close()


SWEPT = {"validation": {"selection": "MaxBoxAcc"}, "seed": 0}


def _make_results(root: pathlib.Path) -> None:
    run = root / "a"
    (run / "classifier").mkdir(parents=True)
    write_results(
        run, {"CAM": {"MaxBoxAcc": 40.0}, "F-CAM": {"MaxBoxAcc": 60.0}}, config_hash=folder.config_hash(SWEPT)
    )
    results = json.loads((run / "results.json").read_text())
    results["methods"] = {row: {"MaxBoxAcc": 50.0, "PxAP": 40.0} for row in results["checkpoints"]}
    (run / "results.json").write_text(json.dumps(results))
    (run / "classifier" / "taken_from.json").write_text(json.dumps({"taken_from": "b"}))


def _read_results(root: pathlib.Path, path: pathlib.Path) -> None:
    run = SweepRun("a", "synthetic", classifier_of="b")
    one = Planned(run, root / "a", SWEPT, (), None)
    summary([one, one], {})


def _make_journal(root: pathlib.Path) -> None:
    (root / SETTINGS).write_text(json.dumps({"stage": "fcam"}))
    for name in ("map.npy", "levels.png", "overlay.jpg"):
        (root / name).write_bytes(b"x")
    record = {"image": "a.jpg", "path": "/x/a.jpg", "bytes": 3, "modified": 4, "map": "map.npy", "levels": "levels.png"}
    record |= {
        "overlay": "overlay.jpg",
        "box": [0, 0, 3, 4],
        "boxes": [[0, 0, 3, 4]],
        "top": [{"class": 0, "name": "ant"}],
    }
    (root / LINES).write_text("".join(json.dumps(record | {"image": name}) + "\n" for name in ("a.jpg", "b.jpg")))


def _read_journal(root: pathlib.Path, path: pathlib.Path) -> None:
    journal = Journal(root, {"stage": "fcam"}, overwrite=False)
    for file in find_images([str(root)], []).files:
        journal.is_done(file)
    journal.close()
    with (root / "predictions.csv").open(newline="", errors="surrogateescape") as file:
        list(csv.reader(file))


# Archives.


def _members() -> dict[str, bytes]:
    file = io.BytesIO()
    PIL.Image.fromarray(PIXELS).save(file, "JPEG")
    return {"images/a.jpg": file.getvalue(), "images/b.jpg": file.getvalue()[:-1] + b"\xd9", "read.txt": b"words\n"}


def _make_zip(root: pathlib.Path) -> None:
    with zipfile.ZipFile(root / "data.zip", "w") as archive:
        for name, data in _members().items():
            archive.writestr(name, data)


def _make_tar(name: str, mode: str) -> Callable[[pathlib.Path], None]:
    def make(root: pathlib.Path) -> None:
        with tarfile.open(root / name, mode) as archive:  # type: ignore[call-overload]
            for member, data in _members().items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    return make


def _read_archive(root: pathlib.Path, path: pathlib.Path) -> None:
    if path.suffix not in (".zip", ".tar", ".tgz"):
        return
    store = archives.open_archive(path, root / "work")
    for name in ("images/a.jpg", "images/b.jpg", *list(store._members)[:50]):
        if name in store:
            store.read(name)


PARSERS: dict[str, Parser] = {
    "images": Parser(_make_images, _read_images),
    "score_map": Parser(lambda root: np.save(root / "map.npy", PIXELS[..., 0] / 255), _read_map),
    **{
        name + ("-masks" if masks else ""): Parser(_dataset(name, masks), _read_dataset, damaged)
        for name, damaged in (
            ("wsol", "metadata/*/*"),
            ("csv", "*.csv"),
            ("jsonl", "*.jsonl"),
            ("coco", "annotations/*"),
        )
        for masks in (False, True)
    },
    "cub": Parser(foreign.cub, _read_dataset, "**/*.txt"),
    "voc": Parser(foreign.voc, _read_dataset, "**/*.[xt][mx][lt]"),
    "yolo": Parser(foreign.yolo, _read_dataset, "**/*.[yt][ax][mt]*"),
    "single_coco": Parser(foreign.single_coco, _read_dataset, "annotations/*"),
    "classes": Parser(_dataset("classes"), _read_dataset),
    "class_names": Parser(
        lambda root: (root / "names.txt").write_text("ant\nbee\n\n"), lambda _, path: names_from_file(path, 3)
    ),
    "boxes": Parser(_make_boxes, _read_boxes),
    "predictions": Parser(_make_predictions, _read_predictions),
    "words": Parser(_make_words, _read_words, whole_files=False, names=("--", "config")),
    "sweep": Parser(_make_sweep, _read_sweep, "runs.json", whole_files=False, names=("run", "--sweep")),
    "torch": Parser(_make_torch, _read_weights),
    "safetensors": Parser(lambda root: save_file(WEIGHTS, root / "weights.safetensors"), _read_weights),
    "hdf5": Parser(_make_hdf5, _read_weights),
    "checkpoints": Parser(_make_checkpoints, _read_checkpoints),
    "record": Parser(
        _make_record, _read_record, names=("config.", "unknown "), complaint="nothing is trained in this run yet"
    ),
    "run": Parser(_make_run, _read_run),
    "log": Parser(_make_log, _read_log),
    "results": Parser(_make_results, _read_results),
    "journal": Parser(_make_journal, _read_journal, "*.json*", names=("--out",)),
    "zip": Parser(_make_zip, _read_archive),
    "tar": Parser(_make_tar("data.tar", "w"), _read_archive),
    "tgz": Parser(_make_tar("data.tgz", "w:gz"), _read_archive),
}
