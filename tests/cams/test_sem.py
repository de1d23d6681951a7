"""SEM: likeness to the features where a map is highest."""

import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, of_features
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.cams.score_maps import minmax
from fcam_jax.cams.sem import likeness
from fcam_jax.errors import InputError
from fcam_jax.models.heads import GAP, WGAP

# Reference values computed with numpy alone: of 4x4 positions and six channels, with three peaks.
FEATURES = np.sin(0.77 * np.arange(96) + 0.1).reshape(6, 4, 4).transpose(1, 2, 0)
MAP = np.sin(0.9 * np.arange(16) + 0.2).reshape(4, 4)
EXPECTED = [
    [0.7706515778, 0.9655526636, 1.0, 0.9261857148],
    [0.6050954781, 0.2932989592, 0.9439573583, 0.9982906034],
    [0.8497397991, 1.0, 0.9968867612, 0.9469323576],
    [0.698390547, 0.0, 0.9126762291, 1.0],
]


@pytest.mark.slow
def test_the_map_is_the_likeness_to_the_highest_positions():
    found = likeness(jnp.asarray(FEATURES[None], jnp.float32), jnp.asarray(MAP[None], jnp.float32), 3 / 16)
    np.testing.assert_allclose(minmax(found)[0], EXPECTED, atol=1e-5)


@pytest.mark.parametrize("share", [1e-6, 1 / 36, 1 / 6])
def test_regions_of_one_feature_are_found_whole_and_others_not(share):
    region = np.zeros((2, 6, 6), int)
    region[:, 1:4, 2:6], region[:, 5] = 1, 2
    features = 3.0 * np.eye(4)[region]
    maps = np.zeros((2, 6, 6), np.float32)
    maps[0, 1:4, 3:6], maps[1, 5] = 1, 1  # each image has its own peaks
    maps += 0.01 * np.arange(36).reshape(6, 6)
    found = likeness(jnp.asarray(features, jnp.float32), jnp.asarray(maps), share)
    np.testing.assert_allclose(found, np.stack([region[0] == 1, region[1] == 2]), atol=1e-6)


def test_features_of_zero_are_like_nothing_and_a_constant_map_has_no_peaks():
    features = jnp.asarray(FEATURES[None], jnp.float32).at[0, 0, 0].set(0)
    found = likeness(features, jnp.asarray(MAP[None], jnp.float32), 0.2)
    assert found[0, 0, 0] == 0 and np.isfinite(found).all()
    assert not likeness(features, jnp.ones((1, 4, 4)), 0.2).any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [WGAP, GAP])
def test_its_peaks_are_those_of_cam_where_the_head_averages(kind):
    head = kind(6, CLASSES, rngs=nnx.Rngs(0))
    features = np.abs(np.random.default_rng(0).normal(size=(3, 7, 8, 6))).astype(np.float32)
    target = of_features(head, features, np.array([0, 1, 1]))
    expected = likeness(target.features, CAMS["cam"]()(target), 60 / 784)
    np.testing.assert_allclose(CAMS["sem"]()(target), expected, atol=1e-6)


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"share": 1.5}, {"base": "cam"}])
def test_a_setting_outside_its_range_is_refused_by_name(settings):
    with pytest.raises(InputError, match=f"^{next(iter(settings))} is "):
        CAMS["sem"](**settings)
