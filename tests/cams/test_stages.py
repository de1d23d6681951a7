"""Maps of the stages below the top one, their gradients, and their fusion."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import classifier, images, keys, of_images

from fcam_jax.cams import CAMS, with_settings
from fcam_jax.cams.contract import Target
from fcam_jax.cams.fusion import fuse, fused
from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Grid

LABELS = np.array([0, 3, 4])


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_gradient_at_a_stage_carries_that_of_the_whole_network(stage):
    """Carried back to the images through the stages below, it is the gradient of the score in the images."""

    @jax.jit
    def both(network):
        target = of_images(network, images(), LABELS, stage)
        _, back = jax.vjp(lambda inputs: network.encoder(inputs, train=False)[stage], target.inputs)

        def score(inputs):
            logits = network.head(network.encoder(inputs, train=False)[-1])
            return logits[jnp.arange(3), LABELS].sum()

        return back(target.gradient())[0], jax.grad(score)(target.inputs)

    carried, expected = both(classifier())
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(carried, expected, atol=1e-5 * np.abs(expected).max())


class Smooth:
    """Two stages without kinks."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.first, self.second, self.last = (rng.normal(size=shape) for shape in ((3, 4), (4, 5), (5, 6)))

    def normalize(self, images):
        return images / 255

    def stages(self, inputs):
        first = jnp.tanh(inputs @ self.first)
        return first, jnp.tanh(first @ self.second)

    def score(self, features, stage):
        top = jnp.tanh(features @ self.second) if stage == 0 else features
        return (top.mean(axis=(1, 2)) ** 2) @ self.last


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1])
def test_gradcam_s_weights_are_finite_differences_of_the_score(stage):
    """w_k = the change of the score over Z h, when h is added to the feature map k."""
    network, label, h = Smooth(), jnp.array([2]), 1e-2
    inputs = jnp.asarray(np.random.default_rng(1).random((1, 4, 6, 3)), jnp.float32)
    target = Target(network, inputs, network.stages(inputs), label, keys(1), stage)
    weights, score = [], jax.jit(target.score)
    for step in h * np.eye(target.features.shape[-1], dtype=np.float32):
        up, down = score(target.features + step), score(target.features - step)
        weights.append(float(up[0] - down[0]) / (2 * h * 24))
    expected = np.maximum(np.asarray(target.features[0]) @ np.array(weights), 0)
    assert expected.max() > 0
    found = jax.jit(lambda: CAMS["gradcam"]()(target))()[0]
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.max())


def random_maps(*sizes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.random((2, *size)) + 0.1, jnp.float32) for size in sizes]


@pytest.mark.slow
def test_fusion_is_the_maximum_of_scaled_maps_of_which_the_shallow_are_squashed():
    maps = random_maps((8, 12), (4, 6), (3, 4))
    for i, found in enumerate(np.asarray(jax.jit(fuse)(maps))):
        fine, middle, coarse = (np.asarray(one[i], np.float64) / float(one[i].max()) for one in maps)
        parts = [np.tanh(2 * fine), cv2.resize(np.tanh(2 * middle), (12, 8)), cv2.resize(coarse, (12, 8))]
        np.testing.assert_allclose(found, np.max(parts, axis=0), atol=1e-5)


@pytest.mark.slow
def test_maps_are_fused_where_their_cells_lie():
    """Cells of 2 and of 8 pixels, these 3 pixels lower and 2 further right, whose values are their places."""
    fine, coarse = Grid((1 / 48, 1 / 64), (2 / 48, 2 / 64)), Grid((7 / 48, 6 / 64), (8 / 48, 8 / 64))
    for axis, (side, first) in enumerate([(48, 6.5), (64, 5.5)]):
        ramp = first + 8 * np.arange(side // 8)
        maps = [np.full((1, 24, 32), 1e-9), np.broadcast_to(np.expand_dims(ramp, 1 - axis), (1, 6, 8))]
        maps[0][0, 0, 0] = 1
        found = np.asarray(fuse([jnp.asarray(one, jnp.float32) for one in maps], [fine, coarse]))[0, 1:, 1:]
        pixels = np.clip(0.5 + 2 * np.arange(1, side // 2), ramp[0], ramp[-1]) / ramp[-1]
        np.testing.assert_allclose(found, np.broadcast_to(np.expand_dims(pixels, 1 - axis), found.shape), atol=1e-5)


@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan])
def test_a_map_that_says_nothing_adds_nothing_to_the_fusion(nothing):
    fine, coarse = random_maps((6, 6), (3, 3))
    expected = jnp.tanh(2 * fine / fine.max(axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(fuse([fine, coarse * nothing]), expected, atol=1e-6)


@pytest.mark.slow
def test_stages_are_chosen_by_name_from_fine_to_coarse():
    target = of_images(classifier(), images(), LABELS)
    targets = [target.at(stage) for stage in (1, 3)]
    maps, grids = [CAMS["layercam"]()(one) for one in targets], [one.grid for one in targets]
    found = fused(CAMS["layercam"](), ("stage4", "stage2", "stage4"), 4)(target)
    np.testing.assert_array_equal(found, fuse(maps, grids))
    np.testing.assert_array_equal(fused(CAMS["layercam"](), ("stage2",), 4)(target.at(0)), maps[0])
    np.testing.assert_array_equal(fused(CAMS["layercam"](), (), 4)(target.at(0)), maps[1])


@pytest.mark.parametrize(
    ("name", "settings", "stages", "message"),
    [
        ("gradcamp", {}, (), "unknown CAM 'gradcamp'; known: ablationcam, cam, .*"),
        ("gradcam", {}, ("stage5",), "stages hold 'stage5'; known: stage1, stage2, stage3, stage4"),
        ("cam", {}, ("stage3", "stage4"), "stages hold 'stage3'; CAM is the head's own map: it takes stage4 alone"),
        ("gradcam", {"samples": 3}, (), "unknown setting of the CAM 'gradcam': 'samples'; known: eigen_smooth"),
        (
            "sscam",
            {"sample": 3},
            (),
            "unknown setting of the CAM 'sscam': 'sample'; known: chunk, eigen_smooth, samples, std",
        ),
        ("gradcampp", {"variant": "mine"}, (), "variant is 'mine'; known: paper, released"),
        ("iscam", {"samples": 0}, (), "samples is 0; it must be at least 1"),
        ("scorecam", {"chunk": 0}, (), "chunk is 0; it must be at least 1"),
        ("sscam", {"std": -1.0}, (), "std is -1.0; it must be at least 0"),
    ],
)
def test_what_does_not_exist_or_fit_is_named(name, settings, stages, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        fused(with_settings(name, settings), stages, 4)
