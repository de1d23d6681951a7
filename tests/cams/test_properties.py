"""What holds for every CAM of the registry: batches, compilation, memory, and features that say nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, FEW, OF_FEATURES, OF_NO_CLASS, HeadAlone, of_features
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.cams.channels import masked_scores
from fcam_jax.cams.contract import Target
from fcam_jax.cams.score_maps import score_map
from fcam_jax.models.heads import WGAP

NAMES = sorted(OF_FEATURES)
MASKED = ["scorecam", "sscam", "iscam", "ablationcam"]
NOISELESS = {"gradcampp": {}, "smooth_gradcampp": {"std": 0.0}}


def head(dtype=jnp.float32):
    return WGAP(6, CLASSES, dtype=dtype, rngs=nnx.Rngs(0))


def features(count=3, height=5, width=7):
    return np.abs(np.random.default_rng(0).normal(size=(count, height, width, 6))).astype(np.float32)


LABELS = np.asarray(head()(jnp.asarray(features())).argmax(axis=-1))


def target(values=None, labels=LABELS, dtype=jnp.float32):
    return of_features(head(dtype), features() if values is None else values, labels)


@functools.cache
def compiled(name, settings):
    """A CAM of a head, compiled once for each shape."""

    @jax.jit
    def cam(head, inputs, values, labels, keys):
        return CAMS[name](**dict(settings))(Target(HeadAlone(head), inputs, (values,), labels, keys, 0))

    return cam


def run(name, explained, **settings):
    arguments = (explained.network.head, explained.inputs, *explained.stages, explained.labels, explained.keys)
    return np.asarray(compiled(name, tuple((FEW.get(name, {}) | settings).items()))(*arguments))


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[::-1])  # so `make test` has others here than of gradients below
def test_a_batch_equals_its_images_one_by_one_and_jit_equals_no_jit(name):
    whole = target()
    maps = np.asarray(CAMS[name](**FEW.get(name, {}))(whole))
    assert maps.dtype == np.float32 and np.ptp(maps, axis=(1, 2)).min() > 0
    close = 1e-5 * np.abs(maps).max()
    np.testing.assert_allclose(run(name, whole), maps, atol=close)
    for i in (0, 2):
        inputs, labels, keys = (values[i : i + 1] for values in (whole.inputs, whole.labels, whole.keys))
        alone = dataclasses.replace(whole, inputs=inputs, stages=(inputs,), wanted=labels, keys=keys)
        np.testing.assert_allclose(run(name, alone)[0], maps[i], atol=close)


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_of_the_class_or_of_none(name):
    differs = (run(name, target(labels=(LABELS + 1) % CLASSES)) != run(name, target())).any()
    assert differs == (name not in OF_NO_CLASS)


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("name", MASKED)
def test_the_size_of_a_chunk_does_not_count(name):
    maps = run(name, target())
    for chunk in (1, 12):  # groups of 1 and of 3 of the 6 channels; by default all
        np.testing.assert_allclose(run(name, target(), chunk=chunk), maps, atol=1e-5 * maps.max())


@pytest.mark.parametrize("name", ["smooth_gradcampp", "sscam", "randomcam"])
def test_noise_is_drawn_from_the_key_of_the_image(name):
    other = dataclasses.replace(target(), keys=target().keys[::-1])
    # The gradient of a linear head is the same for all inputs; the released variant's features are noisy.
    settings = {"variant": "released"} if name == "smooth_gradcampp" else {}
    first, second = run(name, target(), **settings), run(name, other, **settings)
    assert np.abs(first - second)[[0, 2]].max() > 1e-4
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize(("noisy", "clean"), [("smooth_gradcampp", "gradcampp"), ("sscam", "scorecam")])
def test_without_noise_a_smoothed_cam_is_what_it_smoothes(noisy, clean):
    expected = run(clean, target())
    np.testing.assert_allclose(run(noisy, target(), std=0.0), expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("name", NAMES)
def test_dead_features_give_a_zero_map(name):
    assert not run(name, target(np.zeros_like(features()))).any()


@pytest.mark.parametrize("name", NAMES)
def test_dead_and_constant_channels_and_tiny_values_leave_a_map(name):
    values = features()
    values[..., 2], values[..., 4] = 0, 0.7
    for scale in (1, 1e-12):
        maps = run(name, target(values * np.float32(scale)))
        assert np.isfinite(maps).all() and np.ptp(maps, axis=(1, 2)).min() > 0


@pytest.mark.parametrize("name", NOISELESS)
@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_gradcampp_neither_underflows_nor_overflows(name, scale):
    """Gradients whose squares and cubes float32 cannot hold; features as much the larger give the same map."""
    expected = run(name, target(), **NOISELESS[name])
    scaled = head()
    scaled.fc.kernel[...] = scaled.fc.kernel[...] * scale
    found = run(name, of_features(scaled, features() / np.float32(scale), LABELS), **NOISELESS[name])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nan_in_an_image_makes_its_map_zero_and_leaves_the_others(name):
    expected = run(name, target())
    values = features()
    values[1, 2, 3, 4] = np.nan
    maps = run(name, target(values))
    np.testing.assert_allclose(maps[[0, 2]], expected[[0, 2]], atol=1e-6 * np.abs(expected).max())
    assert not np.asarray(score_map(jnp.asarray(maps), (10, 14), "fcam"))[1].any()


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMES)
def test_features_of_few_bits_are_computed_with_in_float32(name):
    coarse = jnp.asarray(features(), jnp.bfloat16)
    maps = run(name, target(coarse, dtype=jnp.bfloat16))
    expected = run(name, target(np.asarray(coarse, np.float32)))
    assert maps.dtype == np.float32
    # What is left is what the network itself rounds to its dtype: weights, gradients and masked inputs.
    np.testing.assert_allclose(maps, expected, atol=0.02 * np.abs(expected).max())


def test_a_constant_feature_map_masks_all_of_the_image():
    values = features()
    values[..., 3] = 0.1 + 0.2  # a number that enlarging rounds
    inputs = jnp.asarray(np.random.default_rng(1).normal(size=(3, 20, 28, 6)), jnp.float32)
    explained = target(values)
    bias = np.asarray(head().fc.bias[...])[LABELS]  # the score of nothing
    channels = jnp.arange(explained.features.shape[-1])
    of_inputs = jax.jit(lambda inputs: masked_scores(dataclasses.replace(explained, inputs=inputs), channels))
    scores = np.asarray(of_inputs(inputs))
    np.testing.assert_allclose(scores[:, 3], bias, rtol=1e-6)
    assert (np.abs(scores[:, :3] - bias[:, None]) > 1e-4).all()


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "channels"), [(3, 4, 30), (8, 9, 5), (6, 6, 36)])
def test_eigencam_is_the_first_singular_vector_whose_map_has_a_positive_sum(height, width, channels):
    values = np.random.default_rng(1).normal(size=(3, height, width, channels)) - 0.2
    given = (values * 1e-15).astype(np.float32)  # squares that float32 cannot hold
    maps = run("eigencam", of_features(WGAP(channels, CLASSES, rngs=nnx.Rngs(0)), given, LABELS))
    for one, found in zip(values, np.asarray(maps, np.float64), strict=True):
        expected = one @ np.linalg.svd(one.reshape(-1, channels))[2][0]
        expected *= np.sign(expected.sum())
        np.testing.assert_allclose(found * 1e15, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_maps_have_gradients(name):
    """Of the sum of squares along a direction in the features, against finite differences."""
    direction = np.random.default_rng(0).normal(size=features().shape).astype(np.float32)

    @jax.jit
    @jax.value_and_grad
    def value_and_slope(step):
        return (CAMS[name](**FEW.get(name, {}))(target(features() + step * direction)) ** 2).sum()

    h = 1e-3
    (low, _), (_, found), (high, _) = (value_and_slope(jnp.float32(step)) for step in (-h, 0, h))
    expected = float(high - low) / (2 * h)
    assert abs(found) > 0
    np.testing.assert_allclose(found, expected, rtol=0.02)
