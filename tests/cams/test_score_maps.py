"""Normalisation and resizing of CAMs against OpenCV, jax.image and the golden values."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from fcam_jax.cams.score_maps import CONVENTIONS, minmax, resize_bicubic, resize_bilinear, score_map
from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Grid

SIZES = [((7, 7), (32, 32)), ((5, 8), (33, 20)), ((1, 1), (6, 5)), ((14, 9), (14, 9)), ((28, 28), (9, 13))]


def random_maps(shape, seed=0, count=2):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), SIZES)
@pytest.mark.parametrize(
    ("resize", "flag"),
    [(resize_bilinear, cv2.INTER_LINEAR), (resize_bicubic, cv2.INTER_CUBIC)],
    ids=["linear", "cubic"],
)
def test_resizing_is_opencvs(resize, flag, source, target):
    maps = random_maps(source)
    expected = [cv2.resize(one.astype(np.float64), target[::-1], interpolation=flag) for one in maps]
    np.testing.assert_allclose(resize(jnp.asarray(maps), target), expected, atol=1e-5)


def test_bilinear_enlargement_is_jax_images():
    maps = jnp.asarray(random_maps((6, 9)))
    np.testing.assert_allclose(
        resize_bilinear(maps, (30, 41)), jax.image.resize(maps, (2, 30, 41), "linear"), atol=1e-5
    )


GRID = Grid(((2 + 3) / 24, (2 - 2) / 36), (4 / 24, 4 / 36))  # cells of 4 pixels, 3 lower and 2 further left than even


def test_cells_are_put_where_the_grid_says_and_repeated_beyond():
    maps = random_maps((6, 9))
    places = np.meshgrid((np.arange(24) - 4.5) / 4, (np.arange(36) + 0.5) / 4, indexing="ij")
    expected = [ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in maps]
    np.testing.assert_allclose(resize_bilinear(jnp.asarray(maps), (24, 36), GRID), expected, atol=1e-5)


@pytest.mark.parametrize("convention", ["protocol", "fcam"])  # a percentile hangs on what is repeated beyond, too
def test_a_grid_moves_the_score_map(convention):
    maps = random_maps((6, 9))
    maps[:, 3, 4], maps[:, 3, 5] = 5, -5  # the extrema lie inside, so that both maps are normalised alike
    even, moved = (np.asarray(score_map(jnp.asarray(maps), (24, 36), convention, grid)) for grid in (None, GRID))
    np.testing.assert_allclose(moved[:, 3:, :-2], even[:, :-3, 2:], atol=1e-5)


def test_minmax_reaches_zero_and_exactly_one():
    maps = random_maps((9, 7), count=200)
    scaled = np.asarray(jax.jit(minmax)(maps))
    assert (scaled.min(axis=(1, 2)) == 0).all() and (scaled.max(axis=(1, 2)) == 1).all()
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(scaled, (maps - low) / (high - low), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_maps_that_say_nothing_become_zero_and_broken_ones_nan(convention):
    maps = random_maps((7, 6), count=6)
    maps[0] = 0
    maps[1] = 0.3
    maps[2, 3, 4] = np.nan
    maps[3, 3, 4] = np.inf
    maps[4] = -np.inf
    result = np.asarray(jax.jit(score_map, static_argnums=(1, 2))(maps, (24, 20), convention))
    assert (result[:3] == 0).all()
    assert np.isnan(result[3:5]).all()
    alone = np.asarray(score_map(jnp.asarray(maps[5:]), (24, 20), convention))
    np.testing.assert_allclose(result[5:], alone, atol=1e-6)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_score_maps_never_leave_zero_to_one(convention):
    # Plateaus at the maximum are where rounding shows.
    noise = random_maps((7, 7), count=300)
    maps = np.concatenate([noise, np.maximum(noise, 0), np.minimum(noise, 0.5)])
    result = np.asarray(jax.jit(score_map, static_argnums=(1, 2))(maps, (29, 29), convention))
    assert result.min() >= 0 and result.max() <= 1
    if convention == "protocol":
        assert (result.max(axis=(1, 2)) == 1).all()


def test_an_unknown_convention_lists_the_known_ones():
    with pytest.raises(InputError, match="'bicubic'; known: fcam, percentile, protocol"):
        score_map(jnp.zeros((1, 2, 2)), (4, 4), "bicubic")


def assert_levels_agree(result, expected):
    """8-bit levels are equal but for a few pixels within float32 rounding of the next level."""
    levels = (result.astype(np.float64) * 255).astype(np.uint8)
    differ = levels != expected
    assert differ.mean() < 1e-4
    assert (np.abs(levels.astype(int) - expected)[differ] == 1).all()


@pytest.mark.parametrize("side", [7, 14, 28, 29])
def test_protocol_maps_are_the_reference_programs(shared, side):
    golden = np.load(shared / "golden/evaluation/cam_upsample.npz")
    low = jnp.asarray(golden[f"low_{side}"])
    enlarged = np.asarray(resize_bicubic(low, (224, 224)))
    expected = golden[f"up_{side}"]
    stride = 224 // expected.shape[1]
    np.testing.assert_allclose(enlarged[:, ::stride, ::stride], expected, atol=1e-5)
    result = np.asarray(score_map(low, (224, 224), "protocol"))
    np.testing.assert_allclose(result[:, ::4, ::4], golden[f"norm_{side}"], atol=1e-5)
    assert_levels_agree(result, golden[f"uint8_{side}"])


@pytest.mark.parametrize("side", [7, 14, 28, 29])
def test_fcam_maps_are_the_reference_programs(shared, side):
    low = jnp.asarray(np.load(shared / "golden/evaluation/cam_upsample.npz")[f"low_{side}"])
    golden = np.load(shared / "golden/evaluation/cam_upsample_fcam.npz")
    result = np.asarray(score_map(low, (224, 224), "fcam"))
    np.testing.assert_allclose(result[:, ::4, ::4], golden[f"bilinear_{side}"], atol=1e-5)
    np.testing.assert_allclose(result.max(axis=(1, 2)), golden[f"max_{side}"], atol=1e-6)
    assert_levels_agree(result, golden[f"uint8_{side}"])
