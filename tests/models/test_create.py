"""Classifiers by name, with random weights and with those of a file."""

import os

import jax
import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS, create_model, list_models
from fcam_jax.models.import_weights import FINAL_STRIDE, export_weights, save_weights
from fcam_jax.models.resnet import Small
from fcam_jax.models.weight_names import of_torch


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of the small encoder with five classes."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(export_weights(create_model("small", num_classes=5, seed=3)), path)
    return path


def leaves(model):
    return {name: np.asarray(array) for name, array in export_weights(model).items()}


def test_names_are_those_of_the_registry():
    assert list_models() == list(ENCODERS)
    assert list_models("resnet*") == ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    assert list_models("nothing*") == []


@pytest.mark.slow
def test_the_layer_of_the_file_is_kept_unless_another_number_of_classes_is_given(weights):
    there = leaves(create_model("small", num_classes=5, seed=3))
    kept = leaves(create_model("small", weights))
    new = leaves(create_model("small", weights, num_classes=7))
    assert all((kept[name] == array).all() for name, array in there.items())
    assert new["fc.weight"].shape[0] == 7
    assert all((new[name] == array).all() for name, array in there.items() if not name.startswith("fc."))


@pytest.mark.parametrize(("name", "random", "published"), [("small", 8, 8), ("mobilenet_v1_025", 8, 32)])
@pytest.mark.slow
def test_the_stride_is_that_of_the_weights_unless_another_is_given(name, random, published, tmp_path):
    model = create_model(name, num_classes=2)
    save_weights(export_weights(model), tmp_path / "w.safetensors")
    assert model.encoder.strides[-1] == random
    assert create_model(name, tmp_path / "w.safetensors").encoder.strides[-1] == published
    assert create_model(name, tmp_path / "w.safetensors", final_stride=8).encoder.strides[-1] == 8


@pytest.mark.parametrize(("told", "stride"), [({FINAL_STRIDE: "16"}, 16), ({FINAL_STRIDE: "7"}, 32), ({}, 32)])
def test_a_file_of_fcam_export_names_its_stride(told, stride, tmp_path):
    weights = export_weights(create_model("mobilenet_v1_025", num_classes=2, final_stride=16))
    save_weights(weights, tmp_path / "classifier.safetensors", told)
    for path in (tmp_path, tmp_path / "classifier.safetensors"):
        assert create_model("mobilenet_v1_025", path).encoder.strides[-1] == stride


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="a named pipe"):
        create_model("small", tmp_path / "pipe")


@pytest.fixture
def few_encoders(monkeypatch):
    """The network of a file is looked for among two: to trace all takes seconds."""
    monkeypatch.setattr(
        "fcam_jax.models.weight_match.ENCODERS", {name: ENCODERS[name] for name in ("resnet18", "small")}
    )


@pytest.mark.slow
@pytest.mark.usefixtures("few_encoders")
def test_a_file_without_a_classification_layer_needs_the_number_of_classes(weights, tmp_path):
    body = {name: array for name, array in leaves(create_model("small", weights)).items() if not name.startswith("fc.")}
    save_weights(body, tmp_path / "body.safetensors")
    with pytest.raises(InputError, match=r"no classification layer .*\(give num_classes for a new one\)$"):
        create_model("small", tmp_path / "body.safetensors")
    assert create_model("small", tmp_path / "body.safetensors", 3).head.fc.out_features == 3
    with pytest.raises(InputError, match=r"belong to another network .*\(create_model\('small', ...\)\)$"):
        create_model("resnet18", tmp_path / "body.safetensors")


@pytest.fixture(scope="module")
def model():
    return create_model("small", num_classes=3)


@pytest.mark.slow
def test_images_of_another_range_are_refused_where_they_are_known(model):
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    for given in (images, jax.numpy.asarray(images), images - 1, images.astype(np.float16)):
        with pytest.raises(InputError, match=r"^images lie in \[.*\]; give RGB in \[0, 255\]: "):
            model(given, train=False)
    for given in (images * 255, images * 0, (images * 2).astype(np.uint8)):
        model(given, train=False)
    assert np.isfinite(jax.jit(lambda images: model(images, train=False)[1])(images)).all()


def test_a_model_scores_images(model):
    stages, scores = model(np.zeros((2, 32, 32, 3), np.uint8), train=False)
    assert scores.shape == (2, 3) and stages[-1].shape[1:3] == (4, 4)
    assert jax.numpy.isfinite(scores).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet5", "num_classes": 2}, "unknown encoder 'resnet5'; known: "),
        ({"name": "small", "num_classes": 2, "head": "gup"}, "unknown head 'gup'; known: "),
        ({"name": "small"}, "num_classes is needed: no weights are given"),
        ({"name": "small", "num_classes": 0}, "num_classes is 0; it must be at least 1"),
        ({"name": "small", "num_classes": 2, "final_stride": 7}, "final_stride is 7; that of the small encoder is 8"),
        ({"name": "small", "weights": "absent.pth"}, "absent.pth"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_argument(arguments, words):
    with pytest.raises(InputError) as caught:
        create_model(**arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value) and "config." not in str(caught.value)


@pytest.mark.usefixtures("few_encoders")
def test_weights_of_another_encoder_name_theirs(weights):
    with pytest.raises(InputError) as caught:
        create_model("resnet18", weights)
    assert "\n" not in str(caught.value) and "config." not in str(caught.value)


class Extended(Small):
    """An encoder whose published files lack its last block."""

    weight_names = (of_torch("published", added=("blocks.2.",)),)


def test_layers_that_the_file_lacks_start_as_without_it(tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "extended", Extended)
    random = leaves(create_model("extended", num_classes=2))
    there = {name: array + 1 for name, array in random.items() if not name.startswith(("blocks.2.", "fc."))}
    assert 0 < len(there) < len(random) - 2
    save_weights(there, tmp_path / "published.safetensors")
    model = leaves(create_model("extended", tmp_path / "published.safetensors", num_classes=2))
    for name, array in random.items():
        np.testing.assert_array_equal(model[name], there.get(name, array))
