"""Runs on data that lacks something: ground truth, splits, a number of classes, images that can be read."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest
from staged import evaluate_stages, train_stages

from configs import synthetic
from fcam_jax.configuration import override
from fcam_jax.errors import InputError
from fcam_jax.runs import build
from fcam_jax.runs.class_names import names_of_run
from fcam_jax.training.metric_log import logged

pytestmark = pytest.mark.slow

SMALL = {
    "data.source": "folder",
    "data.num_classes": 0,
    "data.size": 16,
    "data.resize": 18,
    "data.batch_size": 4,
    "model.decoder_widths": (4, 4, 4, 4),
    "classifier.epochs": 1,
    "fcam.epochs": 1,
    "fcam.loss.crf.weight": 0.0,
    "fcam.color.share": 0.0,
    "fcam.pictures_epochs": 0,
    "evaluation.batch_size": 4,
    "evaluation.examples": 2,
    "evaluation.bootstrap": 0,
    "evaluation.pictures": 2,
    "validation.threshold_step": 0.1,
}

# One stage, and of it figures alone.
OF_CLASSIFIER = {"last_stage": "classifier", "evaluation__pictures": 0, "evaluation__examples": 0}


def save(path: pathlib.Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path)


@pytest.fixture
def classes(tmp_path) -> pathlib.Path:
    """Three classes in folders: six training images and three to be tested, nothing to validate on."""
    for split, count in (("train", 2), ("test", 1)):
        for number, name in enumerate(("crow", "tit", "wren")):
            for i in range(count):
                save(tmp_path / "data" / split / name / f"{i}.png", 10 * number + i)
    return tmp_path / "data"


def config(root: pathlib.Path, **values):
    settings = synthetic.get_config()
    own = {"data.root": str(root), **{name.replace("__", "."): value for name, value in values.items()}}
    override(settings, SMALL | own)
    return build.resolved(settings)


def test_class_folders_with_damaged_images_are_trained_on_and_classified(classes, tmp_path):
    (classes / "train" / "tit" / "1.png").write_bytes(b"")
    (classes / "test" / "wren" / "0.png").write_text("no image")
    settings = config(classes, data__on_error="skip", data__augment="jitter,blur")
    assert settings.data.num_classes == 3
    run, plan = tmp_path / "run", build.experiment(settings)
    run.mkdir()
    train_stages(plan, run)
    table = evaluate_stages(plan, run, "hash")
    assert table.splitlines()[0].split() == ["test,", "percent", "top1_cls"]
    results = json.loads((run / "results.json").read_text())
    assert (results["images"], results["left_out"]) == (2, 1)
    assert [record["step"] for record in results["checkpoints"].values()] == [2, 2]  # the last ones
    lines = (run / "left_out.txt").read_text().splitlines()
    assert len(lines) == 2 and "tit/1.png: the image file is empty" in "".join(lines)
    assert names_of_run(run, 3) == ["crow", "tit", "wren"]
    pictures = {path.name for path in (run / "pictures").iterdir()}
    assert pictures == {"test_grid.png", "training_batch.png"}
    assert all(0 <= figures["data_wait"] <= 100 for figures in logged(run / "fcam", "train").values())


def test_images_that_a_description_rules_out_are_counted_with_those_that_cannot_be_decoded(classes, tmp_path):
    rows = ["path,label,split,boxes"]
    for split, number in (("train", 0), ("train", 1), ("test", 0)):
        rows += [f"{split}/{name}/{number}.png,{name},{split},1 1 9 9" for name in ("crow", "tit", "wren")]
    for bad in (6, 7):  # of training and of test
        rows[bad] = rows[bad].replace("1 1 9 9", "9 9 1 1")
    (classes / "manifest.csv").write_text("\n".join(rows))
    (classes / "test" / "wren" / "0.png").write_text("no image")
    run, plan = tmp_path / "run", build.experiment(config(classes, data__on_error="skip", **OF_CLASSIFIER))
    run.mkdir()
    assert (plan.data.sizes, plan.data.ruled_out) == ({"train": 5, "test": 2}, {"train": 1, "test": 1})
    train_stages(plan, run)
    evaluate_stages(plan, run, "hash")
    results = json.loads((run / "results.json").read_text())
    assert (results["images"], results["left_out"]) == (1, 2)
    assert len((run / "left_out.txt").read_text().splitlines()) == 3


def test_a_damaged_image_ends_the_run_unless_it_is_to_be_left_out(classes, tmp_path):
    (classes / "train" / "tit" / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"tit/1\.png: the image file is empty"):
        train_stages(build.experiment(config(classes)), tmp_path)


def test_a_split_that_is_not_there_is_named_with_those_that_are(classes, tmp_path):
    plan = build.experiment(config(classes))
    with pytest.raises(InputError, match="no split 'val' to evaluate; there: train, test"):
        evaluate_stages(plan, tmp_path, "hash", "val")
    (classes / "train").rename(classes / "val")
    with pytest.raises(InputError, match="no split 'train'; there: val, test"):
        train_stages(build.experiment(config(classes, data__num_classes=3)), tmp_path)


def test_the_best_classifier_is_chosen_by_its_classes_where_nothing_is_known_of_places(classes, caplog):
    (classes / "test").rename(classes / "val")
    first, second = build.experiment(config(classes)).stages
    assert (first.loop.selection, second.loop.selection) == ("top1_cls", "last")
    assert "the val split has neither boxes nor masks" in caplog.text


def test_the_number_of_classes_is_that_of_the_data_or_the_users(classes):
    assert config(classes, data__num_classes=5).data.num_classes == 5
    with pytest.raises(InputError, match="3 classes"):
        build.experiment(config(classes, data__num_classes=2))


def test_augmentations_are_checked_before_the_run(classes):
    with pytest.raises(InputError, match=r"unknown augmentation 'zoom'"):
        build.experiment(config(classes, data__augment="jitter, zoom"))


def test_images_without_an_object_count_for_classification_alone(classes, tmp_path, caplog):
    caplog.set_level("INFO")
    rows = ["path,label,split,boxes"]
    for split, numbers in (("train", (0, 1)), ("val", (0,)), ("test", (0,))):
        folder = "train" if split == "val" else split
        for name in ("crow", "tit", "wren"):
            box = "1 1 9 9" if name == "crow" else ""
            rows += [f"{folder}/{name}/{i}.png,{name},{split},{box}" for i in numbers]
    rows = [f"{row},{i or 'image_id'}" for i, row in enumerate(rows)]
    (classes / "manifest.csv").write_text("\n".join(rows))
    settings = {"data__folder__unlocalized": "allow", **OF_CLASSIFIER, "evaluation__bootstrap": 20}
    run, plan = tmp_path / "run", build.experiment(config(classes, **settings))
    run.mkdir()
    assert plan.stages[0].loop.selection == "MaxBoxAcc"
    train_stages(plan, run)
    evaluate_stages(plan, run, "hash")
    results = json.loads((run / "results.json").read_text())
    assert (results["images"], results["without_object"]) == (3, 2)
    assert "2 image(s) without an object count for classification alone" in caplog.text
    parts = results["by_class"]["CAM"]
    assert "BoxAcc_at_best" in parts["0"] and "BoxAcc_at_best" not in parts["1"] and "top1_cls" in parts["1"]
    assert "top1_cls" in results["intervals_95"]["CAM"]
