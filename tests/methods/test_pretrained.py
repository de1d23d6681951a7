"""The pretrained classifier as it is: the CAM of the class that it predicts, and a run without a step."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from at_once import at_once, in_inference
from filled import filled
from flax import nnx
from one_device import batch
from staged import evaluate_stages, train_stages

from configs import synthetic
from fcam_jax.cams import CAMS
from fcam_jax.cams.score_maps import score_map
from fcam_jax.cli import command
from fcam_jax.configuration import override
from fcam_jax.errors import InputError
from fcam_jax.methods.baselines import Pretrained
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.models import ENCODERS, weight_match
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import count_classes, export_weights, save_weights
from fcam_jax.models.resnet import Small
from fcam_jax.runs import build, trained
from fcam_jax.runs.export import export
from fcam_jax.runs.folder import claim, config_hash

CLASSES = 12  # more than the eight of the data set
METHOD = ClassifierMethod(CAMS["cam"](), "protocol", (), 1.0, Pretrained(num_classes=CLASSES))
SMALL = {
    "classifier.method": "pretrained",
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 8,
    "data.synthetic.val": 8,
    "data.synthetic.test": 8,
    "evaluation.batch_size": 8,
    "evaluation.pictures": 2,
    "evaluation.examples": 2,
    "evaluation.threshold_step": 0.01,
    "evaluation.bootstrap": 0,
    "validation.threshold_step": 0.1,
}


def classifier_of(classes):
    def build():
        encoder = Small(rngs=nnx.Rngs(0))
        return Classifier(encoder, WGAP(encoder.channels[-1], classes, rngs=nnx.Rngs(1)))

    return filled(build)


@pytest.fixture(scope="module")
def network():
    return classifier_of(CLASSES)


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "imagenet.safetensors"
    save_weights(export_weights(network), path)
    return path


@pytest.fixture(scope="module")
def run(weights, tmp_path_factory):
    """The plan and the folder of a run whose stages are trained, which is to say that they hold the weights."""
    settings = build.resolved(config(model__init=str(weights), classifier__epochs=3))
    folder = tmp_path_factory.mktemp("runs") / "run"
    claim(folder, settings.to_dict())
    plan = build.experiment(settings)
    train_stages(plan, folder)
    return settings, plan, folder


def config(**values):
    settings = synthetic.get_config()
    override(settings, SMALL | {key.replace("__", "."): value for key, value in values.items()})
    return settings


def complaint(**values):
    with pytest.raises(InputError) as caught:
        build.experiment(config(**values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_the_map_is_the_cam_of_the_predicted_class(network):
    given = batch(side=32)
    localize = jax.jit(METHOD.localize)
    found = localize(network, given)
    stages, _ = in_inference(network, given.images)
    kernel, bias = np.asarray(network.head.fc.kernel[...]), np.asarray(network.head.fc.bias[...])
    features = np.asarray(stages[-1], np.float64)
    predicted = (features.mean((1, 2)) @ kernel + bias).argmax(-1)
    cams = np.stack([image @ kernel[:, one] for image, one in zip(features, predicted, strict=True)])
    grid = network.grid(3, (32, 32))
    expected = at_once(lambda cams: score_map(cams, (32, 32), "protocol", grid), cams.astype(np.float32))
    np.testing.assert_allclose(found.maps, expected, atol=1e-4)
    assert found.logits is None
    other = localize(network, dataclasses.replace(given, labels=(given.labels + 1) % 3))
    np.testing.assert_array_equal(other.maps, found.maps)  # the true class counts for nothing


def test_the_file_says_how_many_classes_there_are(weights, network, tmp_path, monkeypatch):
    # The file's own encoder is tried first: it fits, and no shapes of others are made.
    monkeypatch.setattr(weight_match, "ENCODERS", {"small": ENCODERS["small"], **ENCODERS})
    assert count_classes(weights) == CLASSES
    body = tmp_path / "body.safetensors"
    save_weights(export_weights(network.encoder), body)
    assert count_classes(body) is None
    told = f"model.init={body} has no classification layer, and classifier.method=pretrained needs"
    assert complaint(model__init=str(body)).startswith(told)


def test_what_cannot_be_is_told_before_anything_begins(weights, tmp_path):
    assert "name its file by --config.model.init=FILE" in complaint()
    assert complaint(classifier__epochs=0, model__init_head="keep") == complaint()  # what the method itself sets
    assert str(tmp_path / "none.pth") in complaint(model__init=str(tmp_path / "none.pth"))
    told = complaint(model__init=str(weights), evaluation__also="InsertionDeletion")
    assert told == "evaluation.also: InsertionDeletion watches a class score, and classifier.method=pretrained has none"


@pytest.mark.slow
@pytest.mark.parametrize("classes", [5, 1000])
def test_the_classes_of_the_network_are_not_those_of_the_data(classes, tmp_path):
    path = tmp_path / "imagenet.safetensors"
    save_weights(export_weights(classifier_of(classes)), path)
    given = {"model__init": str(path), "classifier__epochs": 0, "model__init_head": "keep"}
    plan = build.experiment(config(**given))
    network = plan.stages[0].build_model(None)
    plan.stages[0].load_pretrained(network)
    assert network.head.fc.bias.shape == (classes,)
    known = build.experiment(config(classifier__method="cam")).data.class_names
    assert plan.data.class_names == known


@pytest.mark.slow
def test_a_run_changes_nothing_and_is_evaluated_without_classes(weights, network, run, tmp_path):
    settings, plan, folder = run
    assert (settings.model.init_head, settings.classifier.epochs) == ("keep", 0)
    assert (settings.data.num_classes, settings.classifier.pretrained.num_classes) == (8, CLASSES)
    assert [stage.row for stage in plan.stages] == ["ImageNet CAM"]
    table = evaluate_stages(plan, folder, config_hash(settings.to_dict()))
    assert [line.split("  ")[0] for line in table.splitlines()[1:3]] == ["Center", "ImageNet CAM"]

    results = json.loads((folder / "results.json").read_text())
    figures = results["methods"]["ImageNet CAM"]
    assert {"MaxBoxAcc", "PxAP"} <= figures.keys() and not {"top1_cls", "top1_loc", "top5_loc"} & figures.keys()
    assert results["checkpoints"]["ImageNet CAM"]["step"] == 0
    assert "MaxBoxAcc" in results["checkpoints"]["ImageNet CAM"]["val"]

    weights_then = weights.read_bytes()
    weights.unlink()  # a run needs its file no more
    try:
        loaded = trained.load_trained(folder).model
        trained.evaluate_checkpoint(folder, None, tmp_path / "again", "test")
    finally:
        weights.write_bytes(weights_then)
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["methods"]["ImageNet CAM"]["MaxBoxAcc"] == figures["MaxBoxAcc"]
    for here, there in zip(jax.tree.leaves(nnx.state(loaded)), jax.tree.leaves(nnx.state(network)), strict=True):
        np.testing.assert_array_equal(jnp.asarray(here), jnp.asarray(there))

    stages = build.recorded_stages(json.loads((folder / "config.json").read_text()))
    (exported,) = export(stages, folder, tmp_path)
    assert count_classes(exported) == CLASSES


@pytest.mark.slow
def test_prediction_does_not_name_its_classes_as_the_data_does(run, tmp_path):
    _, _, folder = run
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "one.png")
    status = command.main(
        ["predict", f"--checkpoint={folder}", f"--images={tmp_path / 'one.png'}", f"--out={tmp_path / 'out'}"]
    )
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert status == 0 and told["class"] is None and 0 <= told["label"] < CLASSES
