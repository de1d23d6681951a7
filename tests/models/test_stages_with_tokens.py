"""An encoder whose stages are a map and a token: classifier, CAMs and F-CAM take the map, and no token is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.cams import GradCAM, LayerCAM
from fcam_jax.cams.contract import explain
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Encoder, unchanged
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, load_classifier, save_weights
from fcam_jax.models.layers import conv

LABELS, CLASSES = jnp.array([2, 0]), 3


class Tokens(Encoder):
    """Two stages at 1/4 of the image; the second map is scaled by the token, which is the mean of the first one."""

    def __init__(self, *, rngs):
        self.channels, self.strides = (6, 6), (4, 4)
        self.patches = conv(3, 6, 4, stride=4, padding=0, bias=True, dtype=jnp.float32, rngs=rngs)
        self.mix = conv(6, 6, 1, bias=True, dtype=jnp.float32, rngs=rngs)

    def stage(self, index, x, *, train, rng=None, at=unchanged):
        if index == 0:
            features = at("patches", self.patches(x))
            return features, features.mean((1, 2))
        features, token = x
        features = at("mix", jnp.tanh(self.mix(features)) * (1 + token[:, None, None] ** 2))
        return features, token + features.mean((1, 2))

    def map_of(self, stage):
        return stage[0]

    def with_map(self, stage, features):
        return features, stage[1]


@pytest.fixture(scope="module")
def model(filled):
    def build():
        encoder, rngs = Tokens(rngs=nnx.Rngs(0)), nnx.Rngs(1)
        return FCAM(
            Classifier(encoder, WGAP(6, CLASSES, rngs=rngs)),
            Decoder(encoder.channels, encoder.strides, (6, 4, 4), rngs=rngs),
        )

    return filled(build)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(1).integers(0, 256, (2, 16, 24, 3)).astype(np.uint8))


@nnx.jit
def outputs(model, images):
    return model(images, train=False)


def target(model, images, stage):
    stages, _, _ = outputs(model, images)
    keys = jax.random.split(jax.random.key(0), len(images))
    return explain(model.classifier, images, stages, LABELS, keys).at(stage)


@pytest.mark.slow
def test_fcam_has_maps_of_the_images_size_and_keeps_the_tokens(model, images):
    stages, scores, maps = outputs(model, images)
    assert [(features.shape, token.shape) for features, token in stages] == [((2, 4, 6, 6), (2, 6))] * 2
    assert (scores.shape, maps.shape) == ((2, CLASSES), (2, 16, 24, 2))
    assert np.isfinite(maps).all() and np.ptp(maps) > 0
    mapped = nnx.vmap(lambda model, images: model.training_pass(images, rng=None), in_axes=(None, 0), axis_name="data")
    _, _, again, image = nnx.eval_shape(mapped, nnx.clone(model), images[None])
    assert again.shape == (1, 2, 16, 24, 2) and image is None


@pytest.mark.parametrize("stage", [0, 1])
def test_the_network_is_resumed_from_a_stage_with_its_token(model, images, stage):
    stages, scores, _ = outputs(model, images)
    np.testing.assert_allclose(model.classifier.score(stages[stage], stage), scores, rtol=1e-5)
    other = model.classifier.with_map(stages[0], 2 * stages[0][0])
    np.testing.assert_array_equal(other[1], stages[0][1])
    assert not np.allclose(model.classifier.score(other, 0), scores)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1])
def test_cams_differentiate_in_the_map_alone(model, images, stage):
    of = target(model, images, stage)
    stages, _, _ = outputs(model, images)

    def score(features):
        scores = model.classifier.score((features, stages[stage][1]), stage)
        return scores[jnp.arange(2), LABELS].sum()

    expected = jax.grad(score)(stages[stage][0])
    np.testing.assert_allclose(of.gradient(), expected, atol=1e-6)
    weights = expected.mean((1, 2), keepdims=True)
    reference = jax.nn.relu((weights * stages[stage][0]).sum(-1))
    np.testing.assert_allclose(GradCAM()(of), reference, atol=1e-5)
    assert LayerCAM()(of).shape == (2, 4, 6)


@pytest.mark.slow
def test_several_maps_of_an_image_share_its_token(model, images):
    of = target(model, images, 0)
    several = jnp.repeat(of.features, 3, axis=0) * jnp.tile(jnp.array([1.0, 0.5, 2.0]), 2)[:, None, None, None]
    found = of.score(several).reshape(2, 3)
    for index, factor in enumerate((1.0, 0.5, 2.0)):
        np.testing.assert_allclose(found[:, index], of.score(factor * of.features), rtol=1e-5)


def test_places_say_the_channels_of_the_maps():
    places = Tokens(rngs=nnx.Rngs(0)).places()
    assert [(place.name, place.stage, place.channels) for place in places] == [("patches", 0, 6), ("mix", 1, 6)]


def test_an_encoder_of_no_published_file_is_saved_and_loaded(model, tmp_path):
    save_weights(export_weights(model.classifier), tmp_path / "classifier.safetensors")
    other = nnx.eval_shape(lambda: Classifier(Tokens(rngs=nnx.Rngs(5)), WGAP(6, CLASSES, rngs=nnx.Rngs(5))))
    load_classifier(other, tmp_path, keep_head=True)
    for one, same in zip(*(jax.tree.leaves(nnx.state(each)) for each in (model.classifier, other)), strict=True):
        np.testing.assert_array_equal(one, same)
