"""What a run may fit of F-CAM's seeds, and how maps are judged without boxes."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once
from filled import filled
from test_methods import FCAM_METHOD, images
from tiny_stages import classifier, decoder

from fcam_jax.losses.color_filter import ColorFilter, color_filtered
from fcam_jax.methods.fcam import BACKGROUND, COLOR, judgement
from fcam_jax.models.fcam import FCAM
from fcam_jax.runtime.random import OfImage, stream

KEY = jax.random.key(3)
BATCH = images([4, 1])


def network(**fitted):
    def build():
        trained = classifier()
        return FCAM(trained, decoder(trained.encoder), fitted)

    found = filled(build)
    for name, value in fitted.items():
        found.fitted[name].set_value(jnp.float32(value))
    return found


@functools.cache
def seeing(share, fraction):
    """The map and the seeds of networks by a share of the filter and a factor on n-; compiled once for those alike."""
    seeds = dataclasses.replace(FCAM_METHOD.seeds, background_fraction=fraction * FCAM_METHOD.seeds.background_fraction)
    method = dataclasses.replace(FCAM_METHOD, seeds=seeds, color=ColorFilter(share=share))

    def seen(model):
        view = method.view(model, BATCH, KEY)
        return view.cams, view.seeds

    return jax.jit(seen)


def cams_and_seeds(share=0.0, fraction=1.0, **fitted):
    return seeing(share, fraction)(network(**fitted))


@pytest.mark.slow
def test_seeds_are_drawn_from_the_filtered_cam():
    (plain, _), (found, _) = cams_and_seeds(), cams_and_seeds(share=0.6)
    keys = jax.vmap(lambda index: jax.random.fold_in(KEY, index))(jnp.asarray(BATCH.index))
    landmarks = stream(keys, OfImage.LANDMARKS)
    images = jnp.asarray(BATCH.images)
    expected = at_once(lambda cams: color_filtered(cams, images, landmarks, ColorFilter(), 0.6), plain)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(found - plain).max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_fitted_share_takes_the_place_of_the_setting(share):
    found, expected = cams_and_seeds(share=1.0, **{COLOR: share})[0], cams_and_seeds(share=share)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_a_fitted_factor_on_n_is_as_another_n():
    np.testing.assert_array_equal(cams_and_seeds(**{BACKGROUND: 0.5})[1], cams_and_seeds(fraction=0.5)[1])


def test_numbers_that_are_1_change_no_seed():
    np.testing.assert_array_equal(cams_and_seeds(**{BACKGROUND: 1.0})[1], cams_and_seeds()[1])


@pytest.mark.parametrize("logit", [-3.0, 0.0, 3.0])
def test_a_flood_cuts_nothing_and_explains_the_seeds_by_chance_at_best(logit):
    maps = jnp.stack([jnp.zeros((2, 16, 16)), jnp.full((2, 16, 16), logit)], axis=-1)
    seeds = jnp.full((2, 16, 16), -1).at[:, 2, 2:6].set(1).at[:, 9, 2:6].set(0)
    found = at_once(judgement, maps, seeds, jnp.asarray(BATCH.images)[:, :16, :16], jax.random.split(KEY, 2))
    np.testing.assert_allclose(found.cut, 1, atol=1e-5)
    np.testing.assert_allclose(found.seeds, math.log1p(math.exp(logit)) - logit / 2, rtol=1e-5)
    assert (found.seeds >= math.log(2) - 1e-6).all()
