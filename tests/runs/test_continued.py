"""Finished runs that are trained longer, and runs that take the classifier of another one."""

import json
import shutil
from unittest import mock

import jax
import pytest
from flax import nnx
from staged import train_stages

from configs import synthetic
from fcam_jax.configuration import override
from fcam_jax.errors import InputError
from fcam_jax.models.import_weights import export_weights, save_weights
from fcam_jax.runs import build, experiment, job
from fcam_jax.runs.class_names import CLASS_NAMES
from fcam_jax.runs.classifiers import check_taken
from fcam_jax.runs.folder import claim
from fcam_jax.runs.trained import load_trained

pytestmark = pytest.mark.slow

SMALL = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 16,
    "data.synthetic.val": 8,
    "data.synthetic.test": 8,
    "model.decoder_widths": (8, 8, 4, 4),
    "classifier.epochs": 1,
    "fcam.epochs": 1,
    "fcam.pictures_epochs": 0,
    "evaluation.batch_size": 8,
    "evaluation.pictures": 0,
    "evaluation.examples": 0,
    "evaluation.threshold_step": 0.1,
    "evaluation.bootstrap": 0,
    "validation.threshold_step": 0.1,
    "validation.selection": "last",
}


def config(**values):
    return override(synthetic.get_config(), SMALL | {name.replace("__", "."): value for name, value in values.items()})


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of both stages."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    job.train(config(), folder)
    return folder


def test_a_run_that_is_trained_longer_ends_as_one_that_was_so_long_from_the_start(trained, tmp_path, caplog):
    caplog.set_level("INFO")
    run = shutil.copytree(trained, tmp_path / "run")
    job.train(config(fcam__epochs=2), run)
    assert "fcam: continued from 1 to 2 epochs" in caplog.messages
    assert results(run)["continued"] == [{"fcam.epochs": [1, 2]}]
    shutil.copytree(trained / "classifier", tmp_path / "long" / "classifier")
    job.train(config(fcam__epochs=2), tmp_path / "long")
    assert results(run)["methods"] == results(tmp_path / "long")["methods"] != results(trained)["methods"]
    assert results(tmp_path / "long")["continued"] == []
    with pytest.raises(InputError, match="fcam is trained to step 4 already, and 1 epochs end at step 2"):
        job.train(config(), run)
    assert json.loads((run / "config.json").read_text())["fcam"]["epochs"] == 2
    with pytest.raises(InputError, match=r"fcam\.epochs: 1 there, 2 now"):
        job.evaluate(config(fcam__epochs=2), trained)


def test_a_classifier_that_fcam_stands_on_is_not_trained_longer(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(InputError, match=r"fcam stands on the classifier of 1 epochs; delete that folder"):
        job.train(config(classifier__epochs=2), run)


@pytest.mark.long
def test_a_classifier_is_trained_longer_before_fcam_stands_on_it(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("fcam"))
    job.train(config(classifier__epochs=2), run)
    assert [one["step"] for one in results(run)["checkpoints"].values()] == [4, 2]


def test_another_fcam_is_trained_on_the_classifier_of_a_run(trained, tmp_path, caplog, monkeypatch):
    run, init = tmp_path / "run", str(tmp_path / "weights.pth")
    settings = config(classifier__from_run=str(trained), classifier__epochs=5, model__init=init, seed=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(experiment, "make_train_step", mock.Mock(side_effect=KeyboardInterrupt))
        job.train(settings, run)
    job.train(settings, run)  # as where it was interrupted
    assert f"model.init={init} plays no part: the classifier is that of {trained}" in caplog.messages
    found, before = results(run), results(trained)
    assert found["methods"]["CAM"] == before["methods"]["CAM"]
    assert found["methods"]["F-CAM"] != before["methods"]["F-CAM"]
    assert found["checkpoints"]["CAM"]["taken_from"] == trained.name


@pytest.mark.long
def test_an_fcam_on_the_classifier_of_a_run_is_the_same_when_it_is_trained_once_more(trained, tmp_path):
    run, settings = tmp_path / "run", config(classifier__from_run=str(trained), fcam__seeds__erosion=0.15)
    job.train(settings, run)
    found = results(run)
    assert found["methods"]["F-CAM"] != results(trained)["methods"]["F-CAM"]
    (run / "results.json").unlink()
    shutil.rmtree(run / "fcam")
    job.train(settings, run)  # as where it was interrupted
    assert results(run)["methods"] == found["methods"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"model__encoder": "mobilenet_v1_025", "last_stage": "classifier"},
            r"has another classifier \(.*encoder: small there",
        ),
        ({"model__head__name": "gap"}, r"has another classifier \(.*model\.head\.name: wgap there, gap here"),
        ({"data__num_classes": 3}, r"has another classifier \(data\.num_classes: 8 there, 3 here\)"),
    ],
)
def test_a_classifier_that_does_not_fit_is_refused_before_the_folder_is_made(trained, tmp_path, values, words):
    with pytest.raises(InputError, match=words):
        job.train(config(classifier__from_run=str(trained), **values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def all_kept(kind, start, end):
    """Whether each variable of that kind is as at the start, or none."""
    before, after = (jax.tree.leaves(nnx.state(model.encoder, kind)) for model in (start, end))
    (kept,) = {bool((one == other).all()) for one, other in zip(before, after, strict=True)}
    return kept


def test_frozen_norms_keep_the_statistics_of_the_weights_that_training_begins_with(trained, tmp_path):
    start = load_trained(trained / "classifier").model
    save_weights(export_weights(start), tmp_path / "weights.safetensors")
    values = {"model__init": str(tmp_path / "weights.safetensors"), "last_stage": "classifier"}
    settings = config(classifier__frozen_norms=True, **values)
    claim(tmp_path / "run", settings.to_dict())
    train_stages(build.experiment(settings), tmp_path / "run")
    end = load_trained(tmp_path / "run").model
    assert all_kept(nnx.BatchStat, start, end) and not all_kept(nnx.Param, start, end)
    with pytest.raises(InputError, match=r"config\.classifier\.frozen_norms keeps .* of model\.init, which is empty"):
        job.train(config(classifier__frozen_norms=True), tmp_path / "scratch")


def test_norms_that_are_not_frozen_take_the_statistics_of_the_training_images(trained):
    assert not config().classifier.frozen_norms
    start, end = (load_trained(trained / "classifier" / "checkpoints" / "latest" / step).model for step in ("0", "2"))
    assert not all_kept(nnx.BatchStat, start, end) and not all_kept(nnx.Param, start, end)


@pytest.mark.parametrize(
    ("values", "shares"), [({}, True), ({"data__test_size": 32}, True), ({"data__size": 24}, False)]
)
def test_a_threshold_is_taken_with_the_classifier_where_its_maps_are_of_the_same_size(trained, values, shares):
    record = json.loads(json.dumps(config(classifier__from_run=str(trained), **values).to_dict()))
    assert check_taken(trained, record) is shares
    assert check_taken(trained, {**record, "data": {**record["data"], "test_size": 48}}) is False


def test_a_classifier_that_is_not_trained_to_its_end_is_not_taken(trained, tmp_path):
    source = shutil.copytree(trained, tmp_path / "source")
    record = json.loads((source / "config.json").read_text())
    record["classifier"]["epochs"] = 3
    (source / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"from_run=.*source: its classifier is trained for 1 of 3 epochs; finish"):
        job.train(config(classifier__from_run=str(source)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_classes_of_a_classifier_that_is_taken_go_by_name(trained, tmp_path):
    source = shutil.copytree(trained, tmp_path / "source")
    names = [f"class {i}" for i in range(8)]
    (source / CLASS_NAMES).write_text("\n".join(names))
    with pytest.raises(InputError, match=r"data\.classes has 8 .*, but the classifier that is taken has 8 "):
        job.train(config(classifier__from_run=str(source), data__classes=",".join(names[::-1])), tmp_path / "run")
    with pytest.raises(InputError, match=r"^classifier\.from_run=.*nowhere holds no run"):
        job.train(config(classifier__from_run=str(tmp_path / "nowhere")), tmp_path / "run")
