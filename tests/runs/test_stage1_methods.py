"""Every way to train stage 1 as a run: trained, evaluated, loaded and used for prediction; and what contradicts it."""

import dataclasses
import json
import math

import jax
import numpy as np
import PIL.Image
import pytest
from staged import evaluate_stages, train_stages

from configs import synthetic
from fcam_jax.cli import command
from fcam_jax.component import defaults_of
from fcam_jax.configuration import override
from fcam_jax.errors import InputError
from fcam_jax.methods import METHODS
from fcam_jax.methods.baselines import center_map
from fcam_jax.models import ENCODERS
from fcam_jax.models.import_weights import export_weights, save_weights
from fcam_jax.models.pretrained import Sized
from fcam_jax.models.vit import Design, ViT
from fcam_jax.runs import build, build_data
from fcam_jax.runs.export import export
from fcam_jax.runs.folder import claim
from fcam_jax.runs.trained import load_trained

pytestmark = pytest.mark.slow

SMALL = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 16,
    "data.synthetic.val": 20,
    "data.synthetic.test": 8,
    "model.decoder_widths": (4, 4, 4, 4),
    "classifier.epochs": 1,
    **{f"classifier.{name}.width": 8 for name in METHODS if "width" in defaults_of(METHODS[name])},
    "classifier.cstn.window": 3,
    "classifier.fsl.images_per_class": 2,
    "evaluation.batch_size": 8,
    "evaluation.pictures": 1,
    "evaluation.examples": 1,
    "evaluation.threshold_step": 0.01,
    "evaluation.bootstrap": 0,
    "validation.threshold_step": 0.1,
}
# Of a method that is one of transformers: four blocks; those that are published have twelve.
ON_TOKENS = {"model.encoder": "shallow", "model.decoder_widths": (4, 4, 4, 4, 4)}
SHALLOW = Sized(ViT, Design(width=12, heads=2, grid=2, resampling="size", depth=4))
# The protocol's, and one of each further kind: a map of its own, a head with branches, a memory and an order, records
# of its own, objects for labels, a second network, a token that training adds, a frozen encoder.
KINDS = ("has", "acol", "adl", "cutmix", "bas", "spg", "i2c", "spol_segmenter", "fsl", "gcnet", "sat", "tokencut")
TITLES = {name: training.title for name, training in METHODS.items()}


def config(method, **values):
    settings = synthetic.get_config()
    own = {"classifier.method": method} | {name.replace("__", "."): value for name, value in values.items()}
    others = tuple(f"classifier.{name}." for name in METHODS if name != method)  # a record has no settings of these
    shared = SMALL | (ON_TOKENS if method in METHODS and METHODS[method].default_encoder else {})
    override(settings, {key: value for key, value in shared.items() if not key.startswith(others)} | own)
    return settings


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """A transformer of the tests, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "shallow", SHALLOW)
        yield


def maps_of_training_images(folder, settings):
    """A score map of every training image, of a spot at its centre."""
    records = build_data.chosen(settings).open("train")
    for record in map(records.__getitem__, range(len(records))):
        path = folder / f"{record.image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.asarray(center_map(32, 32)) ** 8)
    return folder


def complaint(method, **values):
    with pytest.raises(InputError) as caught:
        build.experiment(config(method, **values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
    """Name of the method and folder of its run."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = config(request.param)
    if request.param == "spol_segmenter":
        settings.classifier.spol_segmenter.maps = str(
            maps_of_training_images(tmp_path_factory.mktemp("maps"), settings)
        )
    if request.param == "gcnet":
        judge = tmp_path_factory.mktemp("judge") / "classifier.safetensors"
        save_weights(export_weights(build.classifier(config("cam"))), judge)
        settings.classifier.gcnet.classifier = str(judge)
    claim(folder, settings.to_dict())
    plan = build.experiment(settings)
    assert [stage.row for stage in plan.stages] == [TITLES[request.param], "F-CAM"][
        : 2 if METHODS[request.param].has_classes else 1
    ]
    plan = dataclasses.replace(plan, stages=plan.stages[:1])  # F-CAM on them is tested with their heads
    train_stages(plan, folder)
    evaluate_stages(plan, folder, "hash")
    return request.param, folder


@pytest.mark.sampled
def test_a_run_has_the_rows_of_its_method_and_can_be_used(run, tmp_path):
    name, folder = run
    results = json.loads((folder / "results.json").read_text())
    few_shot = not METHODS[name].has_classes
    assert list(results["methods"]) == ["Center", TITLES[name]] and results["method"] == name
    figures = results["methods"][TITLES[name]]
    assert ("top1_cls" in figures) == ("top1_loc" in figures) == (not few_shot)
    assert 0 <= figures["MaxBoxAcc"] <= 100 and 0 < figures["PxAP"] < 100

    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "one.png")
    status = command.main(
        ["predict", f"--checkpoint={folder}", f"--images={tmp_path / 'one.png'}", f"--out={tmp_path / 'out'}"]
    )
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert status == 0 and json.loads(line)["class"] == ("object" if few_shot else None)

    stages = build.recorded_stages(json.loads((folder / "config.json").read_text()))
    assert [path.name for path in export(stages, folder, tmp_path)] == ["classifier.safetensors"]


@pytest.mark.sampled
def test_a_recorded_run_is_loaded_as_it_was(run):
    name, folder = run
    model = load_trained(folder / "classifier").model
    first = build.classifier(config(name))
    assert jax.tree.structure(model) == jax.tree.structure(first)


def test_a_run_may_end_with_the_classifier():
    (stage,) = build.experiment(config("adl", last_stage="classifier")).stages
    assert stage.name == "classifier"
    assert complaint("adl", last_stage="decoder") == "config.last_stage is 'decoder'; known: classifier, fcam"


def test_the_last_model_of_the_few_shot_baseline_counts_and_its_steps_are_of_its_images():
    (stage,) = build.experiment(config("fsl")).stages
    assert stage.loop.selection == "last"
    # 20 validation images of 8 classes in turn: two of each class are trained on.
    assert stage.loop.steps_per_epoch == math.ceil(2 * 8 / 8)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pretrained", "spol_segmenter", "psol"}))
def test_a_method_with_a_head_of_its_own_takes_no_other(name):
    if not METHODS[name]().own_head:
        build.experiment(config(name, model__head__name="gap"))
    else:
        assert complaint(name, model__head__name="gap") == (
            f"model.head.name is 'gap', but classifier.method={name} has a head of its own; leave model.head.name at "
            "'wgap'"
        )


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("has", {"grid": 0}, "classifier.has.grid is 0; it must be at least 1"),
        ("has", {"rate": 1.5}, "classifier.has.rate is 1.5; it must lie in [0, 1]"),
        ("cutmix", {"beta": 0.0}, "classifier.cutmix.beta is 0.0; it must be above 0"),
        ("cutmix", {"probability": -0.1}, "classifier.cutmix.probability is -0.1; it must lie in [0, 1]"),
        ("acol", {"threshold": 1.1}, "classifier.acol.threshold is 1.1; it must lie in [0, 1]"),
        ("spg", {"attention": (0.7, -0.1)}, "classifier.spg.attention is -0.1; it must lie in [0, 1]"),
        ("adl", {"rate": 2.0}, "classifier.adl.rate is 2.0; it must lie in [0, 1]"),
        ("i2c", {"threshold": 2.0}, "classifier.i2c.threshold is 2.0; it must lie in [0, 1]"),
        ("fsl", {"images_per_class": 0}, "classifier.fsl.images_per_class is 0; it must be at least 1"),
    ],
)
def test_settings_of_the_method_are_checked_before_any_training(name, settings, words):
    values = {f"classifier__{name}__{key}": value for key, value in settings.items()}
    assert complaint(name, **values) == words
    key = f"config.{next(iter(values)).replace('__', '.')}"
    chosen = f"choose it by --config.classifier.method={name}"
    assert complaint("cam", **values) == f"{key} is a setting of what is not chosen; {chosen}"


def test_what_contradicts_a_method_is_one_line():
    known = ", ".join(sorted(METHODS))
    assert complaint("drop") == f"unknown config.classifier.method 'drop'; known: {known}"
    assert complaint("has", data__fraction=0.0) == "config.data.fraction is 0.0; it must lie in (0, 1]"
    few = complaint("fsl", evaluation__also="InsertionDeletion")
    assert few == "evaluation.also: InsertionDeletion watches a class score, and classifier.method=fsl has none"
    assert complaint("fsl", data__batch_size=32) == (
        "data.batch_size is 32; there are 16 images to train on (--config.data.batch_size=8)"
    )


def test_a_share_of_the_training_images_is_trained_on():
    assert build.experiment(config("cam", data__fraction=0.5)).data.sizes["train"] == 8
