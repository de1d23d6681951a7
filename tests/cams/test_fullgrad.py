"""FullGrad: its parts add up to the score, its map by loops, and networks that do not show their constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, HeadAlone, classifier, images, of_images
from flax import nnx
from flax_networks import CNN, linen_cnn, pictures

from fcam_jax import cams
from fcam_jax.cams import CAMS
from fcam_jax.cams.any_network import any_network
from fcam_jax.cams.contract import Target
from fcam_jax.cams.fullgrad import full_gradient
from fcam_jax.cams.fusion import fused
from fcam_jax.cams.score_maps import resample
from fcam_jax.errors import InputError
from fcam_jax.models.constants import constant_of, watched
from fcam_jax.models.heads import WGAP
from fcam_jax.models.layers import BatchNorm

LABELS = [1, 3, 0]


def shaken(module):
    """With constants everywhere: biases, and running means and variances that no training has made."""
    rng = np.random.default_rng(0)
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        if path[-1] in ("bias", "mean"):
            variable[...] = jnp.asarray(0.5 * rng.normal(size=variable.shape), jnp.float32)
        if path[-1] == "var":
            variable[...] = jnp.asarray(rng.uniform(0.5, 2, size=variable.shape), jnp.float32)
    return module


class OneLayer(nnx.Module):
    """A convolution with a bias, ReLU, the mean over positions and a linear layer."""

    def __init__(self):
        self.conv = nnx.Conv(3, 4, (3, 3), padding="SAME", rngs=nnx.Rngs(0))
        self.head = WGAP(4, CLASSES, rngs=nnx.Rngs(1))

    def normalize(self, images):
        return jnp.asarray(images, jnp.float32) / 127.5 - 1

    def stages(self, inputs):
        return (nnx.relu(self.conv(inputs)),)

    def score(self, features, stage):
        return self.head(features)

    def watched_output(self, inputs, watch):
        copy = watched(self, watch)
        return copy.score(copy.stages(inputs)[0], 0)


@pytest.mark.slow
def test_all_parts_add_up_to_the_score():
    network = shaken(classifier())
    target = of_images(network, images(), LABELS)
    parts = jax.jit(full_gradient)(target)
    score = target.score(target.features)
    total = sum(np.asarray(part, np.float64).reshape(3, -1).sum(axis=1) for part in parts)
    np.testing.assert_allclose(total, score, rtol=1e-4, atol=1e-5)
    assert np.abs(parts[0].sum(axis=(1, 2, 3)) - score).min() > 1e-2  # which the image alone does not


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "layer"),
    [(CNN(), "stem"), (CNN(), "blocks[1].conv"), (linen_cnn(), "first"), (linen_cnn(), "second/Conv_0")],
    ids=["nnx", "nnx inner", "linen", "linen inner"],
)
def test_those_of_any_network_do_too_wherever_it_is_cut(model, layer):
    network, inputs = any_network(model, [layer]), jnp.asarray(pictures())
    keys = jax.random.split(jax.random.key(0), 3)
    target = Target(network, inputs, network.stages(inputs), jnp.asarray(LABELS), keys, 0)
    parts = jax.jit(full_gradient)(target)
    total = sum(np.asarray(part, np.float64).reshape(3, -1).sum(axis=1) for part in parts)
    np.testing.assert_allclose(total, target.score(target.features), rtol=1e-4, atol=1e-6)
    assert len(parts) == 1 + (7 if isinstance(model, CNN) else 5)
    maps = CAMS["fullgrad"](model, layer)(inputs, LABELS).maps
    assert maps.shape == (3, 32, 32) and maps.max() == 1


def scaled(values):
    values = np.abs(values)
    return (values - values.min()) / np.ptp(values)


@pytest.mark.slow
def test_the_map_is_the_sum_of_all_parts_scaled_by_loops():
    network = shaken(OneLayer())
    target = of_images(network, images(2, 6, 7), LABELS[:2])
    found = jax.jit(CAMS["fullgrad"]())(target)
    kernel, bias = (np.asarray(value[...], np.float64) for value in (network.conv.kernel, network.conv.bias))
    weights = np.asarray(network.head.fc.kernel[...], np.float64)
    for one, x, label in zip(np.asarray(found), np.asarray(target.inputs, np.float64), LABELS, strict=False):
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        of_image, of_bias = np.zeros(padded.shape), np.zeros((6, 7, 4))
        for row, column, channel in np.ndindex(6, 7, 4):
            window = slice(row, row + 3), slice(column, column + 3)
            if (padded[window] * kernel[..., channel]).sum() + bias[channel] > 0:
                slope = weights[channel, label] / 42
                of_image[window] += slope * kernel[..., channel]
                of_bias[row, column, channel] = slope * bias[channel]
        of_image = of_image[1:-1, 1:-1] * x
        expected = sum(scaled(of_image[..., channel]) for channel in range(3))
        expected += sum(scaled(of_bias[..., channel]) for channel in range(4) if np.ptp(of_bias[..., channel]) > 0)
        np.testing.assert_allclose(one, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(5, 4), (13, 9), (24, 31)])
def test_maps_are_brought_to_other_cells_as_jax_resizes_them(size):
    maps = np.random.default_rng(0).normal(size=(2, 13, 17)).astype(np.float32)
    expected = jax.image.resize(maps, (2, *size), "linear", antialias=True)
    np.testing.assert_allclose(resample(jnp.asarray(maps), size, None, None), expected, atol=1e-5)


def test_a_map_lies_where_its_cells_do():
    """A linear slope over the image is the same slope at any cells, wherever these lie."""
    network = classifier()
    source, target = (network.grid(stage, (64, 96)) for stage in (1, 0))
    across = [first + step * np.arange(cells) for first, step, cells in zip(*source, (16, 24), strict=True)]
    slope = jnp.asarray(across[0][:, None] + 2 * across[1], jnp.float32)[None]
    found = resample(slope, (32, 48), source, target)[0]
    expected = [first + step * np.arange(cells) for first, step, cells in zip(*target, (32, 48), strict=True)]
    inside = slice(3, -3)
    np.testing.assert_allclose(
        found[inside, inside], (expected[0][:, None] + 2 * expected[1])[inside, inside], atol=1e-5
    )


@pytest.mark.parametrize(
    "layer",
    [
        nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)),
        nnx.Linear(3, 4, rngs=nnx.Rngs(0)),
        nnx.LayerNorm(3, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(3, use_running_average=True, use_bias=False, rngs=nnx.Rngs(0)),
        BatchNorm(3, rngs=nnx.Rngs(0)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_constant_of_a_layer_is_what_it_makes_of_nothing(layer):
    shaken(layer)
    settings = {"train": False} if isinstance(layer, BatchNorm) else {}
    found = layer(jnp.zeros((1, 5, 5, 3)), **settings)
    np.testing.assert_allclose(jnp.broadcast_to(constant_of(layer), found.shape), found, atol=1e-6)


@pytest.mark.slow
def test_a_watched_copy_computes_what_the_network_does_and_leaves_it():
    network, seen = shaken(classifier()), []
    copy = watched(network, lambda outputs, constant: seen.append(constant.shape) or outputs)
    inputs = network.normalize(images())
    for one, other in zip(copy.stages(inputs), network.stages(inputs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(seen) == 8 and type(network) is type(copy)
    network.stages(inputs)
    assert len(seen) == 8


@pytest.mark.slow
def test_its_map_has_the_cells_of_the_first_stage_alone():
    cam = CAMS["fullgrad"]()
    assert fused(cam, (), 4).stages == fused(cam, ("stage1",), 4, 3).stages == (0,)
    with pytest.raises(InputError, match=r"^stages hold 'stage4'; FullGrad is a sum over all layers: it takes stage1"):
        fused(cam, ("stage4",), 4)
    assert cams.compute(cam, classifier(), images(), LABELS).shape == (3, 24, 32)


def test_a_network_that_does_not_show_its_constants_is_told_in_one_line():
    network = HeadAlone(WGAP(3, CLASSES, rngs=nnx.Rngs(0)))
    with pytest.raises(InputError, match=r"^FullGrad needs a method watched_output\(inputs, watch\) of HeadAlone,"):
        cams.compute("fullgrad", network, images())
