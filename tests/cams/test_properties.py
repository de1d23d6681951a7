"""What holds for every CAM of the registry: batches, compilation, memory, and features that say nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, FEW, classifier, images, of_features, of_images
from flax import nnx

from fcam_jax.cams.channels import masked_scores
from fcam_jax.cams.contract import Target
from fcam_jax.cams.registry import CAMS
from fcam_jax.cams.score_maps import score_map
from fcam_jax.models.heads import WGAP

NAMES = sorted(CAMS)
LABELS = np.array([0, 3, 4])


@pytest.fixture(scope="module")
def network():
    return classifier()


@pytest.fixture(scope="module")
def head():
    return WGAP(6, CLASSES, rngs=nnx.Rngs(0))


def run(name, target, **settings):
    return np.asarray(CAMS[name](target, **FEW.get(name, {}), **settings))


def features(count=3, height=5, width=7):
    values = np.random.default_rng(0).normal(size=(count, height, width, 6)).astype(np.float32)
    return np.maximum(values, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_images_one_by_one_and_jit_equals_no_jit(network, name):
    whole = of_images(network, images(), LABELS)
    maps = run(name, whole)
    assert maps.dtype == np.float32 and np.ptp(maps, axis=(1, 2)).min() > 0
    close = 1e-5 * np.abs(maps).max()

    @jax.jit
    def compiled(inputs, labels, keys):
        target = Target(network, inputs, network.stages(inputs), labels, keys, 3)
        return CAMS[name](target, **FEW.get(name, {}))

    np.testing.assert_allclose(compiled(whole.inputs, whole.labels, whole.keys), maps, atol=close)
    for i in (0, 2):
        one = slice(i, i + 1)
        alone = compiled(whole.inputs[one], whole.labels[one], whole.keys[one])
        np.testing.assert_allclose(alone[0], maps[i], atol=close)


@pytest.mark.parametrize("name", ["scorecam", "sscam", "iscam", "ablationcam"])
def test_the_size_of_a_chunk_does_not_count(network, name):
    target = of_images(network, images(), LABELS, stage=2)
    maps = run(name, target)
    for chunk in (1, 14, 1000):  # groups of 1, of 4 and of all 8 channels
        np.testing.assert_allclose(run(name, target, chunk=chunk), maps, atol=1e-5 * maps.max())


@pytest.mark.parametrize("name", ["smooth_gradcampp", "sscam"])
def test_noise_is_drawn_from_the_key_of_the_image(network, name):
    target = of_images(network, images(), LABELS)
    other = of_images(network, images()[::-1], LABELS[::-1].copy())
    assert np.abs(run(name, target) - run(name, other)[::-1])[[0, 2]].max() > 1e-4


@pytest.mark.parametrize(("noisy", "clean"), [("smooth_gradcampp", "gradcampp"), ("sscam", "scorecam")])
def test_without_noise_a_smoothed_cam_is_what_it_smoothes(network, noisy, clean):
    target = of_images(network, images(), LABELS)
    expected = run(clean, target)
    np.testing.assert_allclose(run(noisy, target, std=0.0), expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("name", NAMES)
def test_dead_features_give_a_zero_map(head, name):
    assert not run(name, of_features(head, jnp.zeros((2, 3, 3, 6)), np.array([0, 1]))).any()


@pytest.mark.parametrize("name", NAMES)
def test_dead_and_constant_channels_and_tiny_values_leave_a_map(head, name):
    values = features()
    values[..., 2], values[..., 4] = 0, 0.7
    for scale in (1, 1e-12):
        maps = run(name, of_features(head, values * np.float32(scale), LABELS))
        assert np.isfinite(maps).all() and np.ptp(maps, axis=(1, 2)).min() > 0


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_gradcampp_neither_underflows_nor_overflows(head, scale):
    """Gradients whose squares and cubes float32 cannot hold: with features as much the larger, the map scales."""
    head = WGAP(6, CLASSES, rngs=nnx.Rngs(0))
    expected = {name: run(name, of_features(head, features(), LABELS), **k) for name, k in NOISELESS.items()}
    head.fc.kernel[...] = head.fc.kernel[...] * scale
    for name, settings in NOISELESS.items():
        found = run(name, of_features(head, features() / np.float32(scale), LABELS), **settings)
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-6)


NOISELESS = {"gradcampp": {}, "smooth_gradcampp": {"std": 0.0}}


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_an_image_makes_its_map_zero_and_leaves_the_others(head, name):
    values = features()
    expected = run(name, of_features(head, values, LABELS))
    values[1, 2, 3, 4] = np.nan
    maps = run(name, of_features(head, values, LABELS))
    np.testing.assert_allclose(maps[[0, 2]], expected[[0, 2]], atol=1e-6 * np.abs(expected).max())
    assert not np.asarray(score_map(jnp.asarray(maps), (10, 14), "fcam"))[1].any()


@pytest.mark.parametrize("name", NAMES)
def test_features_of_few_bits_are_computed_with_in_float32(head, name):
    coarse = jnp.asarray(features(), jnp.bfloat16)
    maps = run(name, of_features(head, coarse, LABELS))
    expected = run(name, of_features(head, np.asarray(coarse, np.float32), LABELS))
    assert maps.dtype == np.float32
    # What is left is the gradient, or the masked input, that the network rounds to its own dtype.
    np.testing.assert_allclose(maps, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_few_bits_gives_nearly_the_same_map(network, name):
    maps = run(name, of_images(network, images(), LABELS))
    coarse = run(name, of_images(classifier(jnp.bfloat16), images(), LABELS))
    assert coarse.dtype == np.float32
    for one, other in zip(maps, coarse, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98


def test_a_constant_feature_map_masks_all_of_the_image(network):
    target = of_images(network, images(), LABELS)
    values = np.array(target.features)
    values[..., 3] = 0.1 + 0.2  # a number that enlarging rounds
    flat = Target(network, target.inputs, (*target.stages[:3], jnp.asarray(values)), target.labels, target.keys, 3)
    black = target.variations(jnp.zeros_like(target.inputs)[:, None])
    np.testing.assert_allclose(masked_scores(flat, 8)[:, 3], black.score(black.features), rtol=1e-6)


@pytest.mark.parametrize(("height", "width", "channels"), [(3, 4, 30), (8, 9, 5), (6, 6, 36)])
def test_eigencam_is_the_first_singular_vector_whose_map_has_a_positive_sum(height, width, channels):
    values = np.random.default_rng(1).normal(size=(3, height, width, channels)).astype(np.float32) - 0.2
    target = of_features(WGAP(channels, CLASSES, rngs=nnx.Rngs(0)), values * 1e-15, LABELS)
    for one, found in zip(values.astype(np.float64), CAMS["eigencam"](target), strict=True):
        expected = one @ np.linalg.svd(one.reshape(-1, channels))[2][0]
        expected *= np.sign(expected.sum())
        np.testing.assert_allclose(found / 1e-15, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_maps_have_gradients(network, name):
    """Along a direction in the inputs, against finite differences."""
    target = of_images(network, images(1), LABELS[:1])
    direction = np.random.default_rng(0).normal(size=target.inputs.shape).astype(np.float32)

    def value(step):
        inputs = target.inputs + step * direction
        moved = Target(network, inputs, network.stages(inputs), target.labels, target.keys, 3)
        return (CAMS[name](moved, **FEW.get(name, {})) ** 2).sum()

    found = float(jax.jit(jax.grad(value))(jnp.float32(0)))
    h = 2e-3
    compiled = jax.jit(value)
    expected = (float(compiled(jnp.float32(h))) - float(compiled(jnp.float32(-h)))) / (2 * h)
    assert abs(found) > 0
    np.testing.assert_allclose(found, expected, rtol=0.05)
