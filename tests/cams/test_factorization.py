"""Deep feature factorization: updates by loops, factors that are known, and what a call returns and refuses."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, classifier, images
from flax import nnx

from fcam_jax import cams
from fcam_jax.cams.factorization import nonnegative_factors
from fcam_jax.errors import InputError
from fcam_jax.models.heads import WGAP


class Painted:
    """A network whose one stage is the image, each colour a channel; with a map of half the resolution above."""

    def __init__(self):
        self.head = WGAP(3, CLASSES, rngs=nnx.Rngs(0))

    def normalize(self, images):
        return jnp.asarray(images, jnp.float32)

    def stages(self, inputs):
        return inputs, inputs[:, ::2, ::2]

    def score(self, features, stage):
        return self.head(features)


def by_loops(values, count, steps):
    rest, start = values.copy(), []
    for _ in range(count):
        start.append(int(np.argmax([row @ row for row in rest])))
        axis = rest[start[-1]] / np.sqrt(rest[start[-1]] @ rest[start[-1]])
        rest = np.array([row - (row @ axis) * axis for row in rest])
    V = values[start] + values.mean(axis=0) / 10
    H = values @ V.T
    for _ in range(steps):
        old = H.copy()
        for i, j in np.ndindex(H.shape):
            H[i, j] = old[i, j] * (values[i] @ V[j]) / ((old[i] @ V) @ V[j])
        old = V.copy()
        for j, k in np.ndindex(V.shape):
            V[j, k] = old[j, k] * (H[:, j] @ values[:, k]) / (H[:, j] @ (H @ old[:, k]))
    return H, V


def test_updates_are_those_of_the_formula():
    values = np.abs(np.random.default_rng(0).normal(size=(12, 6))).astype(np.float32)
    scaled = values.astype(np.float64) / values.max()
    H, V = by_loops(scaled, 3, 5)
    lengths = np.linalg.norm(V, axis=1)
    order = np.argsort(-(H * lengths).sum(axis=0))
    weights, vectors, residual = nonnegative_factors(jnp.asarray(values), 3, 5)
    np.testing.assert_allclose(weights, ((H * lengths) * values.max())[:, order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vectors, (V / lengths[:, None])[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(residual, np.linalg.norm(scaled - H @ V) / np.linalg.norm(scaled), rtol=1e-4)


@pytest.mark.slow
def test_factors_that_share_nothing_are_found_and_every_step_comes_closer():
    rng = np.random.default_rng(1)
    known = np.zeros((3, 9))
    for number in range(3):
        known[number, 3 * number : 3 * number + 3] = rng.uniform(0.5, 1, 3)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    where = np.kron(np.diag([3.0, 2.0, 1.0]), np.ones((8, 1))) * rng.uniform(0.5, 1, (24, 3))
    values = jnp.asarray(where @ known, jnp.float32)
    weights, vectors, residual = nonnegative_factors(values, 3, 300)
    assert residual < 1e-3
    np.testing.assert_allclose(vectors, known, atol=1e-2)
    np.testing.assert_allclose(weights, where, atol=2e-2)
    residuals = [float(nonnegative_factors(values, 2, steps)[2]) for steps in (1, 2, 5, 20)]
    assert residuals == sorted(residuals, reverse=True)


def test_features_below_0_count_as_0_and_dead_ones_give_maps_of_0():
    values = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    found = nonnegative_factors(jnp.asarray(values), 2, 10)
    for one, expected in zip(found, nonnegative_factors(jnp.asarray(np.maximum(values, 0)), 2, 10), strict=True):
        np.testing.assert_array_equal(one, expected)
    assert not any(np.asarray(one).any() for one in nonnegative_factors(jnp.zeros((4, 3)), 2, 5))


@pytest.mark.slow
def test_concepts_are_the_same_in_all_images_and_lie_where_they_are():
    pictures = np.zeros((2, 8, 10, 3), np.uint8)
    pictures[0, :4, :, 0] = 200  # two colours in the first image, one of them, weaker, in the second
    pictures[0, 4:, :, 2] = 100
    pictures[1, :, :5, 0] = 100
    found = cams.factorize(Painted(), pictures, 2, layer="stage1")
    assert found.maps.shape == (2, 2, 8, 10) and found.residual < 1e-3
    np.testing.assert_allclose(found.vectors, [[1, 0, 0], [0, 0, 1]], atol=1e-3)
    np.testing.assert_allclose(found.maps[:, 0], pictures[..., 0] / 200, atol=1e-2)
    np.testing.assert_allclose(found.maps[:, 1], pictures[..., 2] / 100, atol=1e-2)


@pytest.mark.slow
def test_a_classifier_s_stage_is_chosen_by_name():
    network = classifier()
    top, lower = cams.factorize(network, images(), 3), cams.factorize(network, images(), 3, layer="stage2")
    assert top.maps.shape == lower.maps.shape == (3, 3, 24, 32)
    assert (top.vectors.shape, lower.vectors.shape) == ((3, 10), (3, 6))
    assert top.maps.min() >= 0 and top.maps.max() <= 1 and 0 < top.residual < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"concepts": 4}, "concepts is 4; stage2 has 3 channels, and no more concepts"),
        ({"concepts": 0}, "concepts is 0; it must be a whole number, at least 1"),
        ({"steps": 0}, "steps is 0; it must be a whole number, at least 1"),
        ({"layer": "stage3"}, "unknown stage 'stage3'; known: stage1, stage2"),
    ],
)
def test_settings_outside_their_range_are_named(settings, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        cams.factorize(Painted(), images(), **settings)


@pytest.mark.slow
def test_a_layer_of_any_network_is_split_as_its_features_are():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv, self.fc = nnx.Conv(3, 6, (3, 3), strides=2, rngs=rngs), nnx.Linear(6, 4, rngs=rngs)

        def __call__(self, x):
            return self.fc(nnx.relu(self.conv(x)).mean(axis=(1, 2)))

    net, pictures = Net(nnx.Rngs(0)), np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    found = cams.factorize(net, pictures, 3, layer="conv")
    _, vectors, residual = nonnegative_factors(net.conv(pictures).reshape(-1, 6), 3, 200)
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-5)
    np.testing.assert_allclose(found.residual, residual, atol=1e-5)
    assert found.maps.shape == (2, 3, 16, 16)
    with pytest.raises(InputError, match=r"^layer is missing: name the one whose features are split"):
        cams.factorize(net, pictures)
    with pytest.raises(InputError, match=r"no layer 'cnv'; near: conv"):
        cams.factorize(net, pictures, layer="cnv")


def test_what_is_no_network_is_named():
    with pytest.raises(InputError, match=r"^str is no network for CAMs"):
        cams.factorize("resnet50", images(), layer="stage1")
