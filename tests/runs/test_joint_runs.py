"""Runs whose second stage trains the classifier, too: evaluated, gone on with, exported, loaded; and their pictures."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file
from staged import evaluate_stages, train_stages
from test_export import SMALL

from configs import synthetic
from fcam_jax.cli import command
from fcam_jax.configuration import override
from fcam_jax.models.import_weights import export_weights
from fcam_jax.runs import build
from fcam_jax.runs import folder as workdir
from fcam_jax.runs.trained import load_trained
from fcam_jax.training.metric_log import logged

pytestmark = pytest.mark.slow

JOINT = {
    "fcam.loss.classification.weight": 1.0,
    "fcam.loss.reconstruction.weight": 0.5,
    "fcam.loss.entropy.weight": 0.1,
    "fcam.loss.crf.weight": 0.0,
    "fcam.color.share": 0.0,
    "fcam.classifier_factor": 1.0,
    "fcam.epochs": 2,
    "validation.selection": "last",
    "log_steps": 1,
    "evaluation.pictures": 0,
    "evaluation.examples": 0,
    "evaluation.bootstrap": 0,
}


def run(folder, pictures=1, **values):
    """Train and evaluate as the program does, or go on with it; returns the results."""
    config = synthetic.get_config()
    override(config, SMALL | JOINT | values | {"fcam.pictures_epochs": pictures})
    plan = build.experiment(config)
    config_hash = workdir.claim(folder, config.to_dict())
    train_stages(plan, folder, workdir.training_hash(config.to_dict()))
    evaluate_stages(plan, folder, config_hash)
    return json.loads((folder / "results.json").read_text())


@nnx.jit
def class_scores(model, images):
    return model(images, train=False)[1]


def pictures_in(folder):
    return sorted(path.name for path in (folder / "fcam" / "pictures").glob("*"))


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    return folder, run(folder)


@pytest.fixture(scope="module")
def exported(joint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "weights"
    command.main(["export", f"--workdir={joint[0]}", f"--out={folder}"])
    return folder


def test_the_row_of_f_cam_is_that_of_the_classifier_that_was_trained_with_it(joint):
    folder, results = joint
    assert {"entropy", "reconstruction", "classification", "accuracy"} <= logged(folder / "fcam", "train")[1].keys()
    models = [load_trained(folder / name).model for name in ("classifier", "fcam")]
    first, second = (nnx.state(model) for model in (models[0], models[1].classifier))
    changed = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)]
    assert all(changed)
    plan = build.recorded_experiment(workdir.recorded(folder))
    for row, model in zip(("CAM", "F-CAM"), models, strict=True):
        right = []
        for batch, _ in plan.data.evaluated("test"):
            scores = np.asarray(class_scores(model, jnp.asarray(batch.images)))
            right.extend((scores.argmax(-1) == batch.labels)[batch.valid > 0])
        np.testing.assert_allclose(results["methods"][row]["top1_cls"], 100 * np.mean(right))


def test_a_run_goes_on_from_its_checkpoint_and_draws_no_picture_twice(joint, tmp_path):
    folder, results = joint
    assert pictures_in(folder) == ["epoch_0000.png", "epoch_0001.png", "epoch_0002.png"]
    shutil.copytree(folder, tmp_path / "run")
    again = tmp_path / "run"
    latest = again / "fcam" / "checkpoints" / "latest"
    newest = max(int(path.name) for path in latest.iterdir() if path.name.isdigit())
    shutil.rmtree(latest / str(newest))  # as if it had been killed in its last epoch
    for name in ("epoch_0001.png", "epoch_0002.png"):
        (again / "fcam" / "pictures" / name).unlink()
    (again / "fcam" / "pictures" / "epoch_0000.png").write_bytes(b"as it was")
    assert run(again)["methods"] == results["methods"]
    assert pictures_in(again) == pictures_in(folder)
    assert (again / "fcam" / "pictures" / "epoch_0000.png").read_bytes() == b"as it was"
    for name in ("epoch_0001.png", "epoch_0002.png"):
        before, after = (path / "fcam" / "pictures" / name for path in (folder, again))
        assert before.read_bytes() == after.read_bytes()


@pytest.mark.long
def test_pictures_do_not_change_the_training(joint, tmp_path):
    shutil.copytree(joint[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "fcam")
    assert run(tmp_path / "run", pictures=0)["methods"] == joint[1]["methods"]
    assert not (tmp_path / "run" / "fcam" / "pictures").exists()


def test_an_export_holds_the_classifier_as_it_was_trained_with_the_decoder(joint, exported):
    found, first = load_file(exported / "classifier.safetensors"), load_trained(joint[0] / "classifier").model
    together = export_weights(load_trained(joint[0]).model.classifier)
    assert found.keys() == together.keys()
    assert all(np.array_equal(found[name], together[name]) for name in found)
    assert any(not np.array_equal(found[name], weight) for name, weight in export_weights(first).items())


@pytest.mark.long
def test_an_export_holds_both_as_they_were_trained_together(joint, exported, tmp_path):
    results = joint[1]
    values = {"classifier.epochs": 0, "fcam.epochs": 0, "model.init_head": "keep"}
    values |= {key: str(exported) for key in ("model.init", "fcam.init")}
    # Neither another head nor another training is needed to use them.
    values |= {f"fcam.loss.{name}.weight": 0.0 for name in ("classification", "reconstruction")}
    assert run(tmp_path / "again", **values)["methods"]["F-CAM"] == results["methods"]["F-CAM"]
