"""A user's own images from the command line: what is written, what a second call finds, and what is refused."""

import csv
import functools
import json
import pathlib
import shutil
import unicodedata

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax import nnx
from pretended import pretended
from staged import CLASSES, SIDE, untrained_run

from fcam_jax.cams import score_maps
from fcam_jax.cli import command as fcam
from fcam_jax.data.transforms import resize
from fcam_jax.evaluation.boxes import largest_box
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, save_weights
from fcam_jax.models.resnet import Small
from fcam_jax.runs.prediction import loop
from fcam_jax.runs.prediction.images import find_images
from fcam_jax.runs.prediction.restored import Predicted
from fcam_jax.runs.trained import load_trained

pytestmark = pytest.mark.slow  # all but a few need the trained run

SIZES = {"a.jpg": (40, 60), "a.png": (90, 33), "sub folder/ö, 1.png": (20, 30), "b.png": (64, 64), "c.png": (32, 100)}


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """A run with untrained weights."""
    return untrained_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def images(tmp_path):
    """Five images, more than a batch, of several sizes (height, width)."""
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8))
        coarse.resize((width, height), PIL.Image.Resampling.BICUBIC).save(path)
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def load_once():
    return functools.cache(load_trained)


@pytest.fixture
def command(trained_run, images, tmp_path, load_once, monkeypatch):
    """The command on the images; returns its exit code."""
    monkeypatch.setattr("fcam_jax.runs.prediction.network.load_trained", load_once)

    def run(*options, source=f"--checkpoint={trained_run}", images=images, out=tmp_path / "out"):
        try:
            return fcam.main(["predict", source, f"--images={images}", f"--out={out}", "--batch_size=4", *options])
        except SystemExit as end:
            return end.code

    return run


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@nnx.jit
def forward(model, images):
    return model(images, train=False)


def lines(out):
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len({record["image"] for record in records}) == len(records)
    return {record["image"]: record for record in records}


def score_map(out, name):
    return np.load(out / "maps" / f"{name}.npy")


def test_every_image_has_its_map_box_and_classes_at_its_own_size(command, trained_run, images, out, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"kind {i}" for i in range(CLASSES)))
    assert command("--top=3", "--threshold=.9", f"--class_names={names}") == 0
    model = load_trained(trained_run).model
    records = lines(out)
    assert records.keys() == SIZES.keys()
    for name, record in records.items():
        with PIL.Image.open(images / name) as image:
            small = resize(np.asarray(image.convert("RGB")), SIDE)
        _, logits, map_logits = forward(model, jnp.asarray(small[None]))
        probabilities = np.asarray(jax.nn.softmax(logits[0]))
        stored, levels = score_map(out, name), cv2.imread(out / record["levels"], cv2.IMREAD_GRAYSCALE)
        assert (record["height"], record["width"]) == stored.shape == levels.shape == SIZES[name]
        assert stored.dtype == np.float16 and levels.dtype == np.uint8
        if min(SIZES[name]) >= SIDE:
            own = PIL.Image.fromarray(np.asarray(jax.nn.softmax(map_logits)[0, ..., 1]))
            expected = own.resize(SIZES[name][::-1], PIL.Image.Resampling.BILINEAR)
            np.testing.assert_allclose(stored, expected, atol=1e-3)
        np.testing.assert_allclose(levels / 255, stored, atol=1 / 255 + 1e-3)
        np.testing.assert_array_equal(record["box"], largest_box((levels + 0.5) / 255.5, record["threshold"]))
        assert record["box"] != [0, 0, SIZES[name][1] - 1, SIZES[name][0] - 1]
        best = np.argsort(-probabilities)[:3].tolist()
        assert record["label"] == best[0] and [entry["label"] for entry in record["top"]] == best
        assert [entry["class"] for entry in record["top"]] == [f"kind {i}" for i in best]
        np.testing.assert_allclose([entry["probability"] for entry in record["top"]], probabilities[best], rtol=1e-4)
        assert cv2.imread(out / record["overlay"]).shape[1] >= 2 * SIZES[name][1]
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows.keys() == SIZES.keys()
    for name, row in rows.items():
        assert [int(row[key]) for key in ("x0", "y0", "x1", "y1")] == records[name]["box"]
        assert float(row["top2_probability"]) == records[name]["top"][1]["probability"]


def rectangle(images, labels):
    """Says that the object is in rows 8 to 15 and columns 4 to 11 of a map of 32 x 32."""
    maps = np.zeros((len(images), 32, 32), np.float32)
    maps[:, 8:16, 4:12] = 0.8
    return Predicted(maps, np.eye(2, dtype=np.float32)[[1] * len(images)], np.ones(len(images), np.int64))


@pytest.mark.parametrize("full_size", [True, False])
def test_a_box_is_in_pixels_of_the_upright_image(tmp_path, full_size):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    (tmp_path / "photos").mkdir()
    PIL.Image.new("RGB", (160, 320)).save(tmp_path / "photos" / "phone.jpg", exif=exif)
    files = find_images([str(tmp_path / "photos")], []).files
    outputs = loop.Outputs(1, full_size=full_size, max_side=80)
    assert loop.predict_into(tmp_path, files, pretended(rectangle, [None, "bird"]), outputs, 4) == (1, [])
    record = lines(tmp_path)["phone.jpg"]
    assert (record["width"], record["height"], record["class"]) == (320, 160, "bird")
    assert score_map(tmp_path, "phone.jpg").shape == ((160, 320) if full_size else (40, 80))
    # 10 pixels of width and 5 of height to a column and row of the map.
    np.testing.assert_allclose(record["box"], [40, 40, 120, 80], atol=1 if full_size else 6)
    assert record["boxes"] == [record["box"]]


def test_the_class_of_the_maps_is_chosen_by_its_name(command, out, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"kind ö{i}" for i in range(CLASSES)))
    assert command(f"--label={unicodedata.normalize('NFD', 'kind ö3')}", f"--class_names={names}") == 0
    assert {(record["label"], record["class"]) for record in lines(out).values()} == {(3, "kind ö3")}


def test_padding_and_place_in_a_batch_do_not_change_a_map(command, images, out, tmp_path):
    command()
    for name in ("b.png", "sub folder/ö, 1.png"):  # in the middle of the first batch; all of the last
        shutil.copy(images / name, tmp_path / "alone.png")
        command("--overwrite", images=tmp_path / "alone.png", out=tmp_path / "alone")
        np.testing.assert_allclose(score_map(tmp_path / "alone", "alone.png"), score_map(out, name), atol=1e-3)


def test_mirrored_maps_of_an_image_and_of_its_mirror_image_are_mirror_images(command, out, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    (tmp_path / "both").mkdir()
    PIL.Image.fromarray(pixels).save(tmp_path / "both" / "one.png")
    PIL.Image.fromarray(pixels[:, ::-1]).save(tmp_path / "both" / "other.png")
    for option, alike in (("--mirrored", True), ("--overwrite", False)):
        assert command(option, images=tmp_path / "both") == 0
        one, other = (score_map(out, name).astype(float) for name in ("one.png", "other.png"))
        assert np.allclose(one, other[:, ::-1], atol=1e-3) == alike


def test_a_call_goes_on_where_a_killed_one_stopped(command, images, out, tmp_path, monkeypatch):
    written = []

    def write(path, data, sync=True):
        if len(written) == 7:
            path.with_name(f"{path.name}.partial").write_bytes(data[:10])
            raise KeyboardInterrupt
        written.append(path)
        real_write(path, data, sync=sync)

    real_write = loop.replace_file
    monkeypatch.setattr(loop, "replace_file", write)
    monkeypatch.setattr(loop, "THREADS", 1)
    assert command() == "interrupted; the same command goes on where this one stopped"
    monkeypatch.setattr(loop, "replace_file", real_write)
    done = lines(out)
    assert len(done) < 3  # seven files are two images and a map
    with (out / "predictions.jsonl").open("a") as file:
        file.write('{"image": "b.pn')
    kept = {path: path.stat().st_mtime_ns for name in done for path in (out / "maps").glob(f"{name}.*")}

    assert command() == 0
    assert lines(out).keys() == SIZES.keys() and not list(out.rglob("*.partial"))
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    command(out=tmp_path / "at once")
    for name in SIZES:
        np.testing.assert_allclose(score_map(out, name), score_map(tmp_path / "at once", name), atol=1e-3)

    # An output is lost, an image is replaced: these two are made again.
    before = {name: (out / "maps" / f"{name}.npy").stat().st_mtime_ns for name in SIZES}
    (out / "overlays" / "b.png.png").unlink()
    PIL.Image.new("RGB", (50, 70)).save(images / "c.png")
    assert command() == 0
    after = {name: (out / "maps" / f"{name}.npy").stat().st_mtime_ns for name in SIZES}
    assert {name for name in SIZES if before[name] != after[name]} == {"b.png", "c.png"}
    assert lines(out)["c.png"]["width"] == 50


def test_what_cannot_be_read_is_listed_and_the_rest_is_written(command, images, out, capsys):
    (images / "empty.jpg").touch()
    (images / "text.png").write_text("no image")
    (images / "cut.jpg").write_bytes((images / "a.jpg").read_bytes()[:300])
    (images / "gone.jpg").symlink_to("nowhere")
    (images / "notes.txt").write_text("not even called an image")
    assert command() == 1
    listed = capsys.readouterr().err.splitlines()
    assert listed[0] == "4 cannot be read:"
    for line, (name, reason) in zip(
        sorted(listed[1:]),
        {"cut.jpg": "decoded", "empty.jpg": "0 bytes", "gone.jpg": "No such", "text.png": "not an image"}.items(),
        strict=True,
    ):
        assert f"{name}: " in line and reason in line
    assert lines(out).keys() == SIZES.keys()


def test_other_settings_are_refused_until_overwritten(command, images, out, trained_run, tmp_path):
    assert command() == 0
    (out / "maps" / "mine.txt").touch()
    for options, key in (
        (("--threshold=.3",), "threshold.value"),
        (("--cam=layercam",), "map: F-CAM there, layercam now"),
        (("--label=2",), "label: predicted there, 2 now"),
        ((f"--checkpoint={trained_run / 'classifier'}",), "weights: "),
    ):
        line = command(*options)
        assert line.startswith(f"error: --out={out} holds predictions by other settings (") and key in line
        assert "\n" not in line
    shutil.copytree(trained_run, tmp_path / "moved")
    assert command("--batch_size=8", source=f"--checkpoint={tmp_path / 'moved'}") == 0

    (images / "a.jpg").unlink()
    assert command("--label=2", "--overwrite", "--no-full_size", "--max_side=16") == 0
    assert {record["label"] for record in lines(out).values()} == {2}
    assert score_map(out, "b.png").shape == (16, 16)
    assert not (out / "maps" / "a.jpg.npy").exists() and (out / "maps" / "mine.txt").exists()
    (out / "predict_settings.json").unlink()
    assert "unknown settings" in command("--label=2")


def test_a_classifier_of_any_file_has_its_cams(command, images, out, tmp_path):
    body = Small(final_stride=8, rngs=nnx.Rngs(3))
    model = Classifier(body, WGAP(body.channels[-1], 5, rngs=nnx.Rngs(4)))
    weights = tmp_path / "small.safetensors"
    save_weights(export_weights(model), weights)
    network = ("--encoder=small", "--num_classes=5", "--final_stride=8", "--size=64")
    assert command(*network, "--cam=cam", source=f"--weights={weights}") == 0
    with PIL.Image.open(images / "b.png") as image:
        stages, logits = forward(model, jnp.asarray(image)[None])
    label = int(logits.argmax())
    cam = stages[-1] @ model.head.fc.kernel[:, label]
    (expected,) = score_maps.score_map(cam, (64, 64), "protocol", body.grid(-1, (64, 64)))
    assert lines(out)["b.png"]["label"] == label
    np.testing.assert_allclose(score_map(out, "b.png"), expected, atol=1e-3)
    assert (
        command(
            *network,
            "--cam=sscam",
            "--stages=stage4",
            "--cam_setting=samples=2",
            "--overwrite",
            source=f"--weights={weights}",
        )
        == 0
    )
    for options, told in (
        ((*network, "--cam=sscam", "--cam_setting=sample=2"), "sample"),
        ((*network, "--cam=sscam", "--stages=stage7"), "stage7"),
        (("--encoder=small", "--num_classes=5"), "--weights needs --cam"),
        (("--cam=cam", "--num_classes=5"), "--weights needs --encoder"),
        ((*network, "--cam=cam", "--num_classes=7"), "its classification layer has 5 classes, num_classes is 7"),
        ((*network, "--cam=cam", "--encoder=smaller"), "unknown encoder 'smaller'"),
        ((*network, "--cam=cam", "--final_stride=7"), "final_stride is 7; that of the small encoder is 8"),
    ):
        line = command(*options, source=f"--weights={weights}")
        assert line.startswith("error: ") and told in line and "\n" not in line and "config" not in line


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--checkpoint={tmp}/nowhere", "nowhere: no such folder"),
        ("--checkpoint={tmp}", "no config.json in or above it"),
        ("--cam=hindcam", "unknown CAM 'hindcam'; known: "),
        ("--stages=stage1", "give its name by --cam"),
        ("--label=8", "--label=8 is no class of this network; they are 0 to 7"),
        ("--label=-1", "--label=-1 is no class"),
        ("--label=owl", "--label='owl' is the name of no class of this network; they are without names"),
        ("--threshold=1.5", "must lie in [0, 1)"),
        ("--threshold=nan", "must lie in [0, 1)"),
        ("--batch_size=0", "--batch_size=0 must be at least 1"),
        ("--size=64", "--size describes a network of --weights"),
        ("--class_names={tmp}/names.txt", "names.txt: has 2 lines, the network 8 classes"),
        ("--class_names={tmp}/none.txt", "none.txt: cannot be read: No such file"),
        ("--images={tmp}/no*thing.jpg", "no such file or folder, and nothing matches it"),
        ("--images={tmp}/other", "other: no image there"),
        ("--images={tmp}/second", "would both be written as a.jpg"),
        ("--out={tmp}/names.txt", "names.txt cannot be written"),
    ],
)
def test_a_mistake_costs_one_line(command, tmp_path, option, told):
    (tmp_path / "names.txt").write_text("one\ntwo")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "raw.heic").touch()
    (tmp_path / "second").mkdir()
    shutil.copy(tmp_path / "photos" / "a.jpg", tmp_path / "second" / "a.jpg")
    line = command(option.format(tmp=tmp_path))
    assert line.startswith("error: ") and told in line and "\n" not in line
    assert not (tmp_path / "out" / "predictions.jsonl").exists()


def test_a_network_that_yields_no_numbers_is_told_and_leaves_the_folder_free(command, load_once, out, monkeypatch):
    def broken(path):
        trained = load_trained(path)
        trained.model.classifier.head.fc.bias[...] = jnp.full(CLASSES, jnp.nan)
        return trained

    monkeypatch.setattr("fcam_jax.runs.prediction.network.load_trained", broken)
    line = command()
    assert line.startswith("error: ") and "a.jpg: the network's map or class scores hold NaN" in line
    assert lines(out) == {}
    monkeypatch.setattr("fcam_jax.runs.prediction.network.load_trained", load_once)
    assert command("--threshold=.3") == 0


def test_patterns_folders_and_files_name_their_images(images, monkeypatch):
    monkeypatch.chdir(images.parent)
    (images / "maps").mkdir()
    shutil.copy(images / "a.png", images / "maps" / "old.png")
    (images / ".hidden.png").touch()
    (images / "odd [1].png").touch()

    def names(*given):
        return [file.name for file in find_images(list(given), [pathlib.Path("photos/maps")]).files]

    assert names("photos") == ["a.jpg", "a.png", "b.png", "c.png", "odd [1].png", "sub folder/ö, 1.png"]
    assert names("photos/**/*.png") == ["a.png", "b.png", "c.png", "odd [1].png", "sub folder/ö, 1.png"]
    assert names("photos/a.*", "photos/odd [1].png", "photos/a.jpg") == ["a.jpg", "a.png", "odd [1].png"]
    assert names(str(images / "sub*" / "*")) == ["sub folder/ö, 1.png"]
