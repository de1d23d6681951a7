"""The two methods: what is drawn for an image, how they localize, and how fast their parts learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once, in_inference
from filled import filled
from flax import nnx
from tiny_stages import classifier, decoder

from fcam_jax import cams
from fcam_jax.cams import CAMS
from fcam_jax.cams.score_maps import score_map
from fcam_jax.losses import DenseCRF, PixelAlignment, Seeds, Size, Weighted
from fcam_jax.methods import fcam as fcam_module
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.contract import Method
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.fcam import FCAM
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.types import DATA_AXIS, Batch

SIDE, CLASSES, COUNT = 16, 3, 6
CLASSIFIER = ClassifierMethod(CAMS["cam"](), "protocol", (("head",), ("encoder", "top")), 10.0)
FCAM_METHOD = FCAMMethod(
    CAMS["cam"](),
    SeedSettings(0.5, 2, 2, 0.19, 0.19),
    PixelAlignment(
        {
            "seeds": Weighted(Seeds(), 1.0),
            "crf": Weighted(DenseCRF(stride=2), 1.2e-9),
            "size": Weighted(Size(), 0.1),
        }
    ),
)


class WithoutBatchStatistics(FCAM):
    """Runs outside of a mesh when it trains, too."""

    def __call__(self, images, *, train):
        return super().__call__(images, train=False)


@pytest.fixture(scope="module")
def network():
    def build():
        trained = classifier()
        return WithoutBatchStatistics(trained, decoder(trained.encoder))

    return filled(build)


def images(positions):
    """The images at these positions of a fixed split, as a batch."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3))
    labels = rng.integers(0, CLASSES, COUNT)
    return Batch(
        images=jnp.asarray(pixels[positions], jnp.uint8),
        labels=jnp.asarray(labels[positions], jnp.int32),
        index=jnp.asarray(positions, jnp.int32) + 100,
        valid=jnp.ones(len(positions)),
    )


def drawn(network, positions, seed=3):
    """Seeds and CRF keys that the loss draws for these images."""
    return jax.device_get(_drawn(network, images(positions), jax.random.key(seed)))


@jax.jit
def _drawn(network, batch, key):
    found = {}

    def pixel_alignment(known, settings, factors):
        found.update(seeds=known.seeds, keys=jax.random.key_data(known.keys))
        return jnp.zeros(()), {}

    def draw(device):
        FCAM_METHOD.loss(network, batch, key, jnp.asarray(0))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcam_module, "pixel_alignment", pixel_alignment)
        drawn = jax.vmap(draw, axis_name=DATA_AXIS)(jnp.zeros(1))
    return {name: values[0] for name, values in drawn.items()}


@pytest.mark.slow
def test_what_is_drawn_for_an_image_does_not_depend_on_its_batch(network):
    whole, part = drawn(network, [0, 1, 2, 3, 4, 5]), drawn(network, [4, 1])
    for name in ("seeds", "keys"):
        np.testing.assert_array_equal(part[name], whole[name][[4, 1]])
    assert (whole["seeds"] == 1).any((1, 2)).all() and (whole["seeds"] == 0).any((1, 2)).all()


def test_images_and_steps_draw_differently(network):
    first, other = drawn(network, [0, 1]), drawn(network, [0, 1], seed=4)
    assert (first["keys"][0] != first["keys"][1]).any()
    for name in ("seeds", "keys"):
        assert (first[name] != other[name]).any()


@pytest.mark.slow
def test_seeds_come_from_the_cam_of_the_label(network):
    batch = images([0, 3])

    def both(network):
        stages, _, _ = network(batch.images, train=False)
        cams, grid = network.classifier.activation(stages[-1], batch.labels), network.classifier.grid(2, (SIDE, SIDE))
        source = FCAM_METHOD.seed_source(network, stages, batch, jax.random.split(jax.random.key(0), 2))
        return source, score_map(cams, (SIDE, SIDE), "fcam", grid)

    source, expected = at_once(both, network)
    np.testing.assert_array_equal(source, expected)
    assert source.min() >= 0 and source.max() <= 1


@pytest.mark.slow
def test_a_cam_of_the_whole_image_serves_as_the_source_too(network):
    batch = images([0, 3])
    stages, _, _ = in_inference(network, batch.images)
    keys = jax.random.split(jax.random.key(0), 2)
    source = jax.jit(FCAM_METHOD.seed_source)
    own = np.asarray(source(network, stages, batch, keys))
    maps = at_once(FCAM_METHOD.whole_maps, network, batch)
    whole = dataclasses.replace(batch, cams=maps, crop=jnp.array([[0, 0, 1.0, 0], [0, 0, 1.0, 1.0]]))
    mirrored = dataclasses.replace(whole, images=batch.images.at[1].set(batch.images[1, :, ::-1]))
    found = source(network, stages, mirrored, keys)
    np.testing.assert_allclose(found[0], own[0], atol=1e-6)
    np.testing.assert_allclose(found[1], own[1, :, ::-1], atol=1e-6)
    part = dataclasses.replace(whole, crop=jnp.array([[0.25, 0.5, 0.5, 0], [0, 0, 1.0, 0]]))
    assert np.abs(source(network, stages, part, keys)[0] - own[0]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["protocol", "fcam"])
@pytest.mark.parametrize("cam", ["cam", "layercam"])
def test_the_classifier_localizes_by_its_cam(network, cam, convention):
    batch, model = images([0, 3]), network.classifier
    found = at_once(ClassifierMethod(CAMS[cam](), convention, (), 1.0).localize, model, batch)
    _, logits = in_inference(model, batch.images)
    maps = cams.compute(cam, model, batch.images, batch.labels, convention=convention)
    np.testing.assert_allclose(found.maps, maps, atol=1e-6)
    np.testing.assert_array_equal(found.logits, logits)
    assert found.maps.shape == (2, SIDE, SIDE) and found.maps.min() >= 0 and found.maps.max() <= 1


def test_fcam_localizes_by_the_probability_of_foreground(network):
    batch = images([0, 3])
    found = at_once(FCAM_METHOD.localize, network, batch)
    _, logits, map_logits = in_inference(network, batch.images)
    background, foreground = np.moveaxis(np.exp(np.asarray(map_logits, np.float64)), -1, 0)
    np.testing.assert_allclose(found.maps, foreground / (background + foreground), atol=1e-6)
    np.testing.assert_array_equal(found.logits, logits)
    assert found.maps.shape == (2, SIDE, SIDE) and 0 < found.maps.min() < found.maps.max() < 1


def test_the_map_of_fcam_does_not_depend_on_the_label_and_the_cam_does(network):
    batch = images([0, 3])
    other = Batch(batch.images, (batch.labels + 1) % CLASSES, batch.index, batch.valid)
    of_fcam, of_classifier = jax.jit(FCAM_METHOD.localize), jax.jit(CLASSIFIER.localize)
    np.testing.assert_array_equal(of_fcam(network, batch).maps, of_fcam(network, other).maps)
    found = (np.asarray(of_classifier(network.classifier, given).maps) for given in (batch, other))
    assert np.not_equal(*found).any()


@pytest.mark.slow
def test_the_classifier_gets_a_key_for_every_image_whatever_its_batch(network):
    def keys(positions):
        def given(_):
            found = []

            class Recording(Classifier):
                def __call__(self, images, *, train, rng=None, at=None):
                    found.append(jax.random.key_data(rng))
                    return super().__call__(images, train=False)

            model = Recording(network.classifier.encoder, network.classifier.head)
            CLASSIFIER.loss(model, images(positions), jax.random.key(3), jnp.asarray(0))
            return found[0]

        return at_once(jax.vmap(given, axis_name=DATA_AXIS), jnp.zeros(1))[0]  # one device

    whole = keys([0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(keys([4, 1]), whole[jnp.array([4, 1])])
    assert (whole[0] != whole[1]).any()


@pytest.mark.parametrize(
    ("path", "factor"),
    [
        (("head", "fc", "kernel"), 10.0),
        (("encoder", "top", "conv", "kernel"), 10.0),
        (("encoder", "topmost", "conv", "kernel"), 1.0),
        (("encoder", "stem", "conv", "kernel"), 1.0),
        (("encoder", "blocks", 0, "head", "kernel"), 1.0),
    ],
)
def test_new_layers_of_the_classifier_learn_faster(path, factor):
    assert CLASSIFIER.learning_rate_factor(path) == factor


def test_all_of_the_decoder_learns_at_one_rate_and_nothing_else_learns(network):
    trained = nnx.to_flat_state(nnx.split(network, FCAM_METHOD.trainable, ...)[1])
    assert {path[0] for path, _ in trained} == {"decoder"}
    assert {FCAM_METHOD.learning_rate_factor(path) for path, _ in trained} == {1.0}
    assert all(isinstance(variable, nnx.Param) for _, variable in trained)


def test_both_keep_the_contract():
    assert isinstance(CLASSIFIER, Method) and isinstance(FCAM_METHOD, Method)
