"""What chooses the best model: what is asked for, or what the validation split gives; told before all else."""

import pathlib
import types

import numpy as np
import PIL.Image
import pytest

from configs import synthetic
from fcam_jax.configuration import override
from fcam_jax.errors import InputError
from fcam_jax.methods.baselines import Center
from fcam_jax.runs import build, experiment
from fcam_jax.runs.prediction import network
from fcam_jax.training.checkpoint import Progress

TRUTH = {"boxes": ("1 1 9 9", ""), "masks": ("", "mask.png"), "both": ("1 1 9 9", "mask.png"), "neither": ("", "")}


def config(root, truth, splits=("train", "val", "test"), **values):
    """The settings of a manifest with two classes, whose images but those to train on have that ground truth."""
    PIL.Image.fromarray(np.full((20, 24, 3), 99, np.uint8)).save(root / "a.png")
    PIL.Image.fromarray(np.eye(20, 24, dtype=np.uint8) * 255).save(root / "mask.png")
    rows = ["path,label,split,boxes,mask,image_id"]
    for split in splits:
        boxes, mask = TRUTH["neither" if split == "train" else truth]
        rows += [f"a.png,{name},{split},{boxes},{mask},{split}{name}" for name in ("bee", "cat")]
    (root / "manifest.csv").write_text("\n".join(rows))
    own = {"data.source": "folder", "data.root": str(root), "data.num_classes": 0, "data.batch_size": 2}
    return override(synthetic.get_config(), own | {name.replace("__", "."): value for name, value in values.items()})


def selections(config):
    return [stage.loop.selection for stage in build.experiment(config).stages]


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        ("boxes", ["MaxBoxAcc", "MaxBoxAcc"]),
        ("masks", ["PxAP", "PxAP"]),
        ("both", ["MaxBoxAcc", "MaxBoxAcc"]),
        ("neither", ["top1_cls", "last"]),
    ],
)
def test_the_best_model_is_chosen_by_what_the_validation_split_gives(tmp_path, caplog, truth, expected):
    assert selections(config(tmp_path, truth)) == expected
    assert len(caplog.messages) == (0 if expected[0] == "MaxBoxAcc" else 2)


def test_without_a_validation_split_or_classes_the_last_model_counts(tmp_path):
    assert selections(config(tmp_path, "boxes", ("train", "test"))) == ["last", "last"]
    assert selections(config(tmp_path, "boxes", classifier__method="fsl")) == ["last"]


@pytest.mark.parametrize(
    ("truth", "asked", "words"),
    [
        (
            "masks",
            "MaxBoxAcc",
            "cannot choose the best classifier: the val split has masks; it gives PxAP, ",
        ),
        ("boxes", "PxAP", "=PxAP cannot choose the best classifier: the val split has boxes; it gives MaxBoxAcc, "),
        ("neither", "MeanBestIoU", "the val split has neither boxes nor masks; it gives top1_cls, top5_cls"),
        ("boxes", "acc", r"unknown config\.validation\.selection 'acc'"),
    ],
)
def test_a_figure_that_cannot_choose_is_told_with_those_that_can(tmp_path, truth, asked, words):
    with pytest.raises(InputError, match=words):
        selections(config(tmp_path, truth, validation__selection=asked))


def test_classes_break_the_ties_of_places_alone(tmp_path):
    def ties(**values):
        return [stage.loop.ties for stage in build.experiment(config(tmp_path, "boxes", **values)).stages]

    assert ties() == ["top1_cls", "top1_cls"]
    assert ties(validation__selection="top5_cls") == ["", "top1_cls"]
    assert ties(validation__selection="last") == ["", ""]


def test_classes_choose_a_classifier_but_no_decoder(tmp_path, caplog):
    assert selections(config(tmp_path, "boxes", validation__selection="top1_cls")) == ["top1_cls", "MaxBoxAcc"]
    assert caplog.messages == ["fcam: the val split has boxes, so the best model is chosen by MaxBoxAcc"]


@pytest.mark.parametrize(("top1", "told"), [(50.0, True), (54.0, True), (60.0, False)])
def test_a_classifier_at_chance_that_is_kept_for_its_maps_is_told(tmp_path, caplog, top1, told):
    plan = build.experiment(config(tmp_path, "boxes"))
    progress = Progress(9, None, best_step=0, best_metrics={"MaxBoxAcc": 70.0, "top1_cls": top1, "images": 100.0})
    experiment._warn_of_chance(plan, plan.stages[0], progress)
    experiment._warn_of_chance(plan, plan.stages[1], progress)  # F-CAM leaves the classes as they are
    assert [line.split(", but ")[1] for line in caplog.messages] == [
        f"top1_cls is {top1} on val, chance's 50.0; "
        "with config.validation.selection=top1_cls the best classifier is kept"
    ][: int(told)]


def test_a_metric_that_is_asked_for_needs_its_ground_truth(tmp_path):
    asked = config(tmp_path, "masks", evaluation__also="PointingGame,MeanBestIoU")
    for only in (None, "val"):
        with pytest.raises(InputError, match=r"names MeanBestIoU, which needs boxes; the (test|val) split has masks"):
            build.experiment(asked, None, only)
    assert build.experiment(config(tmp_path, "boxes", evaluation__also="PointingGame,MeanBestIoU"))


@pytest.mark.parametrize(
    ("val", "value", "source"),
    [
        ({"MaxBoxAcc": 40.0, "MaxBoxAcc_threshold": 0.25}, 0.25, "validation"),
        ({"MaxBoxAcc": 0.0}, 0.4, "default"),
        ({"MaxBoxAcc": 0.0, "MaxBoxAcc_threshold": 0.3}, 0.4, "default"),
        ({"MaxBoxAcc": 40.0, "MaxBoxAcc_threshold": 0.0}, 0.4, "default"),
        ({"MaxBoxAcc": 40.0, "MaxBoxAcc_threshold": float("nan")}, 0.4, "default"),
        ({"MaxBoxAcc": 40.0, "MaxBoxAcc_threshold": 1.5}, 0.4, "default"),
        ({"PxAP": 50.0}, 0.4, "default"),
    ],
)
def test_a_threshold_that_validation_did_not_choose_is_the_default_and_that_is_told(
    monkeypatch, caplog, val, value, source
):
    trained = types.SimpleNamespace(
        config={"data": {"size": 8}, "model": {}, "cam": {"name": "cam"}},
        stage=types.SimpleNamespace(name="classifier", method=Center()),
        record={"val": val},
        model=None,
        classes=[None],
    )
    monkeypatch.setattr(network, "load_trained", lambda path: trained)
    found = network.trained_network(pathlib.Path("run")).threshold
    assert (found.value, found.source) == (value, source)
    told = "run: validation chose no threshold above 0; maps are cut at the default, 0.4"
    assert caplog.messages == ([told] if source == "default" and "PxAP" not in val else [])
