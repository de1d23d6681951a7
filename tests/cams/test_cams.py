"""The closed forms that hold for every CAM on the last features before average pooling and a linear layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.cams.registry import CAMS
from fcam_jax.models.heads import WGAP

CHANNELS, CLASSES = 6, 5


@pytest.fixture
def head():
    return WGAP(CHANNELS, CLASSES, rngs=nnx.Rngs(0))


def features(seed=0):
    values = np.random.default_rng(seed).normal(size=(4, 5, 7, CHANNELS)).astype(np.float32)
    values[..., 3] = 0  # a dead channel
    return jnp.maximum(jnp.asarray(values), 0)


def weighted_sum(head, maps, labels, weight=lambda w: w):
    """sum_k weight(W[k, y]) A_k, written out."""
    matrix = np.asarray(head.fc.kernel[...], np.float64)
    return np.stack([np.asarray(m, np.float64) @ weight(matrix[:, y]) for m, y in zip(maps, labels, strict=True)])


LABELS = jnp.array([0, 3, 4, 3])


def test_cam_is_the_signed_weighted_sum(head):
    maps = CAMS["cam"](features(), head, LABELS)
    np.testing.assert_allclose(maps, weighted_sum(head, features(), LABELS), atol=1e-5)
    assert (np.asarray(maps) < 0).any()


@pytest.mark.parametrize("name", ["gradcam", "xgradcam"])
def test_gradcam_and_xgradcam_are_relu_of_cam_over_the_area(head, name):
    expected = np.maximum(weighted_sum(head, features(), LABELS), 0) / 35
    np.testing.assert_allclose(CAMS[name](features(), head, LABELS), expected, atol=1e-6)


def test_layercam_keeps_positive_weights_only(head):
    expected = weighted_sum(head, features(), LABELS, weight=lambda w: np.maximum(w, 0)) / 35
    np.testing.assert_allclose(CAMS["layercam"](features(), head, LABELS), expected, atol=1e-6)


@pytest.mark.parametrize("name", sorted(CAMS))
def test_a_batch_equals_its_images_one_by_one_and_jit_equals_no_jit(head, name):
    maps = np.asarray(CAMS[name](features(), head, LABELS))
    for i in range(4):
        np.testing.assert_allclose(CAMS[name](features()[i : i + 1], head, LABELS[i : i + 1])[0], maps[i], atol=1e-6)
    compiled = jax.jit(lambda f, y: CAMS[name](f, head, y))(features(), LABELS)
    np.testing.assert_allclose(compiled, maps, atol=1e-6)


@pytest.mark.parametrize("name", sorted(CAMS))
def test_dead_features_give_a_zero_map(head, name):
    assert not np.asarray(CAMS[name](jnp.zeros((2, 3, 3, CHANNELS)), head, jnp.array([0, 1]))).any()
