"""Seeds of any CAM: the scale done for the caller, and every mistake in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax import seeds
from fcam_jax.cams.score_maps import score_map
from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Grid
from fcam_jax.seeds import sampling
from fcam_jax.seeds.sampling import SeedSettings

Y, X = np.mgrid[:56, :56]
CAM = np.exp(-((Y - 30) ** 2 + (X - 20) ** 2) / 200).astype(np.float32)
CAMS = np.stack([CAM, CAM[::-1]])
KEYS = jax.vmap(lambda place: jax.random.fold_in(jax.random.key(0), place))(jnp.arange(2))


@pytest.mark.slow
def test_the_squares_are_those_of_training_at_the_maps_size():
    expected = sampling.draw_seeds(KEYS, jnp.asarray(CAMS), SeedSettings(erosion=3 / 56, dilation=0.0))
    for cams in (CAMS, CAMS.tolist(), CAMS[..., None], CAMS.astype(np.float64)):
        np.testing.assert_array_equal(seeds.draw_seeds(cams), expected)
    np.testing.assert_array_equal(seeds.draw_seeds(CAM), expected[0])
    assert (expected == 1).sum() == (expected == 0).sum() == 2 and set(np.unique(expected)) == {-1, 0, 1}
    large = jax.image.resize(CAMS, (2, 224, 224), "linear")
    np.testing.assert_array_equal(seeds.draw_seeds(large), sampling.draw_seeds(KEYS, large, SeedSettings()))


@pytest.mark.slow
def test_a_small_map_is_brought_to_the_size_as_in_training():
    small = 5 * CAMS[:, ::8, ::8] - 2
    expected = sampling.draw_seeds(KEYS, score_map(jnp.asarray(small), (224, 224), "fcam"), SeedSettings())
    np.testing.assert_array_equal(seeds.draw_seeds(small, size=(224, 224)), expected)


def test_a_small_map_is_put_where_its_grid_lies():
    small, grid = 5 * CAMS[:, ::8, ::8] - 2, Grid((0.1, 0.05), (1 / 7, 1 / 7))
    placed = score_map(jnp.asarray(small), (224, 224), "fcam", grid)
    expected = sampling.draw_seeds(KEYS, placed, SeedSettings())
    np.testing.assert_array_equal(seeds.draw_seeds(small, size=(224, 224), grid=grid), expected)


def test_settings_and_keys_are_taken():
    settings = SeedSettings(erosion=5 / 56, dilation=5 / 56)
    found = seeds.draw_seeds(CAMS, 3, settings, foreground_count=4)
    keys = jax.vmap(lambda place: jax.random.fold_in(jax.random.key(3), place))(jnp.arange(2))
    changed = SeedSettings(erosion=5 / 56, dilation=5 / 56, foreground_count=4)
    np.testing.assert_array_equal(found, sampling.draw_seeds(keys, jnp.asarray(CAMS), changed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cams": 3 * CAMS}, r"cams lie in \[.*\]; they must lie in \[0, 1\], or give size="),
        ({"cams": CAMS[0, 0]}, r"cams have the shape \(56,\); it must be .*"),
        ({"cams": CAMS * np.nan}, "cams hold NaN or infinities"),
        ({"cams": np.zeros((0, 4, 4))}, r"cams have the shape \(0, 4, 4\); none of it may be 0"),
        (
            {"grid": Grid((0.1, 0.1), (0.1, 0.1))},
            r"grid says where cells lie .*: give its size, too, such as \(224, 224\)",
        ),
        ({"count": 3}, "unknown setting of seeds: 'count'; known: background_count, .*"),
        ({"erosion": 11.0}, "erosion is 11.0; it must be a share of the image's side, .*: 11 pixels of 224 are 0.049"),
        ({"threshold": "mean"}, "threshold is 'mean'; known: fixed, li, otsu"),
    ],
)
def test_a_mistake_is_told_in_one_line(changes, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        seeds.draw_seeds(**{"cams": CAMS} | changes)


@pytest.mark.slow
def test_what_hangs_on_cams_that_a_jitted_caller_closes_over_is_not_computed_by_the_compiler():
    held = jax.jit(lambda key: seeds.draw_seeds(CAMS, key)).lower(jax.random.key(0))
    given = jax.jit(seeds.draw_seeds).lower(CAMS, jax.random.key(0))
    windows, expected = (one.compile().as_text().count(" reduce-window(") for one in (held, given))
    assert windows == expected > 0
