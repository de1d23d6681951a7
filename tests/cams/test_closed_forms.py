"""The closed forms that hold for every CAM on the last features before average pooling and a linear layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, classifier, images, of_features, of_images
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.models.heads import WGAP

CHANNELS = 6
LABELS = jnp.array([0, 3, 4, 3])


@pytest.fixture
def head():
    return WGAP(CHANNELS, CLASSES, rngs=nnx.Rngs(0))


def features(seed=0):
    values = np.random.default_rng(seed).normal(size=(4, 5, 7, CHANNELS)).astype(np.float32)
    values[..., 3] = 0  # a dead channel
    return jnp.maximum(jnp.asarray(values), 0)


def weighted_sum(head, maps, weight=lambda w: w):
    """sum_k weight(W[k, y]) A_k, written out."""
    matrix = np.asarray(head.fc.kernel[...], np.float64)
    return np.stack([np.asarray(m, np.float64) @ weight(matrix[:, y]) for m, y in zip(maps, LABELS, strict=True)])


def found(name, head, **settings):
    return np.asarray(CAMS[name](**settings)(of_features(head, features(), LABELS)))


def relu(values):
    return np.maximum(values, 0)


@pytest.mark.slow
def test_cam_is_the_signed_weighted_sum_and_hirescam_its_share_of_the_area(head):
    expected = weighted_sum(head, features())
    np.testing.assert_allclose(found("cam", head), expected, atol=1e-5)
    np.testing.assert_allclose(35 * found("hirescam", head), expected, atol=1e-5)
    assert (expected < 0).any()


@pytest.mark.parametrize("name", ["gradcam", "xgradcam"])
def test_gradcam_and_xgradcam_are_relu_of_cam_over_the_area(head, name):
    np.testing.assert_allclose(found(name, head), relu(weighted_sum(head, features())) / 35, atol=1e-6)


@pytest.mark.parametrize("name", ["layercam", "elementwise"])
def test_layercam_and_elementwise_keep_positive_weights_only(head, name):
    np.testing.assert_allclose(found(name, head), weighted_sum(head, features(), weight=relu) / 35, atol=1e-6)


def test_released_gradcampp_weights_by_the_cube(head):
    expected = weighted_sum(head, features(), weight=lambda w: relu(w) ** 3) / 35**2
    np.testing.assert_allclose(found("gradcampp", head, variant="released"), expected, rtol=1e-5, atol=1e-9)


def test_gradcampp_weights_by_the_gradient_over_two_plus_the_class_s_share_in_the_score(head):
    matrix, maps = np.asarray(head.fc.kernel[...], np.float64), np.asarray(features(), np.float64)
    share = maps.mean(axis=(1, 2)) * matrix[:, LABELS].T
    expected = np.einsum("bhwc,bc->bhw", maps, relu(matrix[:, LABELS].T) / (2 + share))
    np.testing.assert_allclose(found("gradcampp", head), expected, rtol=1e-5, atol=1e-7)


def test_ablationcam_weights_by_the_class_s_share_in_the_score(head):
    maps = np.asarray(features(), np.float64)
    share = maps.mean(axis=(1, 2)) * np.asarray(head.fc.kernel[...], np.float64)[:, LABELS].T
    score = np.take_along_axis(np.asarray(head(features())), np.asarray(LABELS)[:, None], axis=1)
    expected = relu(np.einsum("bhwc,bc->bhw", maps, share / np.abs(score)))
    np.testing.assert_allclose(found("ablationcam", head), expected, rtol=2e-4, atol=1e-5)
    assert (score < 0).any()  # where the paper's quotient would turn the map round


def without_bias():
    """A network of ReLUs in which nothing is added: scores are homogeneous in every stage's features."""
    network = classifier()
    network.head.fc.bias[...] = jnp.zeros(CLASSES)
    return network


@functools.partial(jax.jit, static_argnums=(0, 3))
def totals(name, network, labels, stage):
    """Sums of a CAM's maps, and class scores."""
    logits = network(images(), train=False)[1]
    return CAMS[name]()(of_images(network, images(), labels, stage)).sum(axis=(1, 2)), logits


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_hirescam_adds_up_to_the_score_at_every_stage(stage):
    labels = np.array([0, 3, 4])
    total, logits = totals("hirescam", without_bias(), labels, stage)
    np.testing.assert_allclose(total, np.asarray(logits)[np.arange(3), labels], rtol=1e-4, atol=1e-5)


def test_xgradcam_adds_up_to_the_score():
    network, labels = without_bias(), np.array([0, 3, 4])
    network.head.fc.kernel[...] = jnp.abs(network.head.fc.kernel[...])  # so that the map's ReLU cuts nothing
    total, logits = totals("xgradcam", network, labels, 3)
    np.testing.assert_allclose(total, np.asarray(logits)[np.arange(3), labels], rtol=1e-5)
