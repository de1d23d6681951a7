"""What the labels of a run are numbered by: its own classes, those of weights, a list of the user's, or the data's."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from configs import synthetic
from fcam_jax.configuration import override
from fcam_jax.errors import InputError
from fcam_jax.runs import build, job
from fcam_jax.runs.class_names import CLASS_NAMES, names_given, names_of_run
from fcam_jax.runs.folder import training_hash
from fcam_jax.runs.trained import evaluate_checkpoint

SMALL = {
    "data.source": "folder",
    "data.num_classes": 0,
    "data.size": 16,
    "data.resize": 18,
    "data.batch_size": 4,
    "last_stage": "classifier",
    "classifier.epochs": 0,
    "evaluation.batch_size": 4,
    "evaluation.bootstrap": 0,
    "evaluation.pictures": 0,
    "evaluation.examples": 0,
    "evaluation.threshold_step": 0.1,
    "validation.threshold_step": 0.1,
}


def data(root: pathlib.Path, *names, splits=("train", "test"), count=3) -> pathlib.Path:
    for split in splits:
        for number, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng(10 * number + i).integers(0, 256, (20, 24, 3), np.uint8)
                PIL.Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def config(root, **values):
    own = {"data.root": str(root)} | {name.replace("__", "."): value for name, value in values.items()}
    return override(synthetic.get_config(), SMALL | own)


def labels(plan, split="test"):
    return sorted({int(label) for label in plan.data.sources[split].labels()})


def test_a_list_of_the_users_fixes_the_order_and_may_name_classes_without_images(tmp_path):
    root = data(tmp_path / "data", "bee", "cat")
    (tmp_path / "classes.txt").write_text("cat\nwolf\nbee\n")
    for given in ("cat, wolf ,bee", str(tmp_path / "classes.txt")):
        settings = build.resolved(config(root, data__classes=given))
        assert settings.data.num_classes == 3
        plan = build.experiment(settings)
        assert labels(plan) == labels(plan, "train") == [0, 2]
        assert plan.data.class_names == ("cat", "wolf", "bee")
    with pytest.raises(InputError, match=r"does not have: 1 \(bee\); the model has 2 \(cat, wolf\)"):
        build.experiment(config(root, data__classes="cat,wolf"))
    with pytest.raises(InputError, match=r"data\.num_classes is 2, but data\.classes has 3 \(cat, wolf, bee\)"):
        build.experiment(config(root, data__classes="cat,wolf,bee", data__num_classes=2))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a,,b", r"data\.classes: name 2 is empty"),
        ("a,b,a", r"data\.classes has 'a' twice"),
        ("not/there.txt", r"not/there\.txt: cannot be read"),
    ],
)
def test_a_list_that_is_none_is_told(given, words):
    with pytest.raises(InputError, match=words):
        names_given(given)


def test_the_classes_of_a_run_that_has_begun_count_whatever_the_data_calls_first(tmp_path):
    root = data(tmp_path / "data", "bee", "cat")
    of_run = ["cat", "ant", "bee"]
    assert labels(build.experiment(config(root), of_run, "test")) == [0, 2]
    assert labels(build.experiment(config(root), of_run[::2])) == [0, 1]  # another order of the same is no hindrance
    with pytest.raises(InputError, match=r"begun with the classes 3 \(ant, bee, cat\), the data has 2 \(bee, cat\)"):
        build.experiment(config(root), of_run)
    with pytest.raises(InputError, match=r"data\.classes has 2 \(bee, cat\), but the run has 2 \(cat, bee\)"):
        build.experiment(config(root, data__classes="bee,cat"), ["cat", "bee"])


def test_names_beside_weights_count_where_their_classification_layer_is_kept(tmp_path):
    root = data(tmp_path / "data", "bee", "cat")
    (tmp_path / CLASS_NAMES).write_text("cat\nant\nbee\n")
    init = {"model__init": str(tmp_path / "classifier.safetensors")}
    assert labels(build.experiment(config(root, model__init_head="keep", **init))) == [0, 2]
    assert labels(build.experiment(config(root, **init))) == [0, 1]


def test_a_way_without_classes_takes_any_data(tmp_path):
    root = data(tmp_path / "data", "bee", "cat")
    settings = config(root, classifier__method="fsl")
    assert labels(build.experiment(settings, ["ant"], "test")) == [0, 1]


def test_an_evaluation_asks_nothing_of_a_training(tmp_path):
    root = data(tmp_path / "data", "bee", "cat", splits=("test",))
    for name in ("bee", "cat"):
        (root / "train" / name).mkdir(parents=True)
        (root / "train" / name / "0.png").write_bytes(b"")
    settings = config(root, data__batch_size=32, data__num_classes=2, classifier__method="fsl")
    plan = build.experiment(settings, None, "test")
    assert plan.data.sizes == {"test": 6}
    with pytest.raises(InputError, match="no split 'val' to evaluate; there: train, test"):
        build.experiment(settings, None, "val")


@pytest.mark.slow
def test_a_run_is_evaluated_on_data_that_has_some_of_its_classes_and_keeps_its_names(tmp_path, caplog):
    run, other = tmp_path / "run", data(tmp_path / "other", "bee", "cat", splits=("test",))
    job.train(config(data(tmp_path / "data", "ant", "bee", "cat")), run)
    evaluate_checkpoint(run, config(other).to_dict(), tmp_path / "out")
    with caplog.at_level("INFO"):
        evaluate_checkpoint(run, out=tmp_path / "again", values={"data.root": str(other)})
    assert "data: test: 6 images of 2 classes" in caplog.text  # what it is, as of a training
    with pytest.raises(InputError, match=r"--config\.seed: of a run, data and evaluation alone"):
        evaluate_checkpoint(run, values={"seed": 1})
    job.evaluate(config(other), run)
    # A run of before there was this setting.
    record = json.loads((run / "config.json").read_text())
    del record["data"]["folder"]["mask_undecided"]
    (run / "config.json").write_text(json.dumps(record))
    changed = {"data.root": str(other), "data.folder.mask_undecided": 255.0}
    evaluate_checkpoint(run, out=tmp_path / "undecided", values=changed)
    for folder in (run, tmp_path / "out", tmp_path / "again", tmp_path / "undecided"):
        results = json.loads((folder / "results.json").read_text())
        assert set(results["by_class"]["CAM"]) == {"1", "2"}
    assert names_of_run(run, 3) == ["ant", "bee", "cat"]
    before = training_hash(record)
    job.train(config(tmp_path / "data"), run)  # it goes on
    assert training_hash(json.loads((run / "config.json").read_text())) == before
    with pytest.raises(InputError, match=r"data\.folder\.mask_undecided: -1\.0 there, 255\.0 now"):
        job.train(config(tmp_path / "data", data__folder__mask_undecided=255.0), run)
    with pytest.raises(InputError, match=r"begun with the classes 3 \(ant, bee, cat\), the data has 2 \(ant, bee\)"):
        job.train(config(data(tmp_path / "third", "ant", "bee")), run)


def test_what_lies_where_the_program_is_called_is_no_name_of_weights_by_name(tmp_path, monkeypatch):
    root = data(tmp_path / "data", "bee", "cat")
    (tmp_path / CLASS_NAMES).write_text("wolf\n" * 5)
    monkeypatch.chdir(tmp_path)
    settings = config(root, model__init="timm:resnet18.tv_in1k", model__init_head="keep")
    assert build.resolved(settings).data.num_classes == 2
