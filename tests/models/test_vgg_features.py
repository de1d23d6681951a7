"""VGG16 from a file of torchvision's convolutions alone, as published features are: no classifier, and no conv6."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from fcam_jax.errors import InputError
from fcam_jax.models import create_model
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.create import create
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import save_weights
from fcam_jax.models.vgg import VGG16
from fcam_jax.runs.build_model import pretrained_classifier
from fcam_jax.runtime.random import weight_keys

POSITIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def tensors():
    """Thirteen convolutions that take the mean of their window, each with its own bias."""
    found = {}
    for number, position in enumerate(POSITIONS):
        shape = (CHANNELS[number + 1], CHANNELS[number], 3, 3)
        found[f"features.{position}.weight"] = np.full(shape, 1 / (9 * shape[1]), np.float32)
        found[f"features.{position}.bias"] = np.full(shape[0], number, np.float32)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "features.safetensors"
    save_weights(tensors(), path)
    return path


@pytest.fixture
def handed(shared):
    path = shared / "weights" / "vgg16_features_imagenet.safetensors"
    if not path.is_file():
        pytest.skip(f"no weights at {path}")
    return path


@nnx.jit
def scores(model):
    return model(jnp.full((1, 32, 32, 3), 128, jnp.uint8), train=False)[1]


@pytest.mark.slow
def test_the_convolutions_are_those_of_the_file_and_the_rest_is_new(made):
    model, imported = create("vgg16", made, 50, 8)
    assert (imported.tensors, imported.untouched, imported.head) == (26, ("conv6",), "absent")
    for number, layer in enumerate(model.encoder.features):
        assert (np.asarray(layer.bias[...]) == number).all()
    assert np.asarray(model.encoder.conv6.kernel[...]).std() > 0
    assert scores(model).shape == (1, 50) and np.isfinite(scores(model)).all()
    with pytest.raises(InputError, match=r"has no classification layer .*\(give num_classes for a new one\)$"):
        create_model("vgg16", made)


def test_a_run_starts_from_the_file(made):
    encoder = nnx.eval_shape(lambda: VGG16(final_stride=8, rngs=weight_keys(0)))
    network = nnx.eval_shape(lambda: Classifier(encoder, WGAP(1024, 50, rngs=weight_keys(0))))
    imported = pretrained_classifier(ConfigDict({"init": str(made), "init_head": "drop"}), network)
    assert list(imported.files.values()) == [hashlib.sha256(made.read_bytes()).hexdigest()]
    assert (imported.tensors, imported.untouched) == (26, ("conv6",))


@pytest.mark.long
@pytest.mark.slow
def test_imagenet_s_convolutions(handed):
    model = create_model("vgg16", weights=handed, num_classes=50)
    assert model.encoder.strides[-1] == 32
    first = np.asarray(model.encoder.features[0].kernel[...])
    assert np.isfinite(scores(model)).all() and 0.1 < first.std() < 0.3
