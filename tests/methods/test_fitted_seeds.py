"""What a run may fit of F-CAM's seeds, and how maps are judged without boxes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import FCAM_METHOD, images
from tiny_stages import classifier, decoder

from fcam_jax.losses.color_filter import ColorFilter, color_filtered
from fcam_jax.methods.fcam import BACKGROUND, COLOR, judgement
from fcam_jax.models.fcam import FCAM
from fcam_jax.runtime.random import OfImage, stream

KEY = jax.random.key(3)
BATCH = images([4, 1])


def network(**fitted):
    trained = classifier()
    found = FCAM(trained, decoder(trained.encoder), fitted)
    for name, value in fitted.items():
        found.fitted[name][...] = jnp.float32(value)
    return found


def view(method, model):
    return jax.jit(lambda batch: method.view(model, batch, KEY))(BATCH)


def colored(share):
    return dataclasses.replace(FCAM_METHOD, color=ColorFilter(share=share))


def test_seeds_are_drawn_from_the_filtered_cam():
    plain, found = view(FCAM_METHOD, network()), view(colored(0.6), network())
    keys = jax.vmap(lambda index: jax.random.fold_in(KEY, index))(jnp.asarray(BATCH.index))
    landmarks = stream(keys, OfImage.LANDMARKS)
    expected = color_filtered(plain.cams, jnp.asarray(BATCH.images), landmarks, ColorFilter(), 0.6)
    np.testing.assert_allclose(found.cams, expected, atol=1e-6)
    assert abs(found.cams - plain.cams).max() > 0.05


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_fitted_share_takes_the_place_of_the_setting(share):
    np.testing.assert_allclose(
        view(colored(1.0), network(**{COLOR: share})).cams, view(colored(share), network()).cams, atol=1e-6
    )


def test_a_fitted_factor_on_n_is_as_another_n():
    seeds = FCAM_METHOD.seeds
    other = dataclasses.replace(seeds, background_fraction=0.5 * seeds.background_fraction)
    np.testing.assert_array_equal(
        view(FCAM_METHOD, network(**{BACKGROUND: 0.5})).seeds,
        view(dataclasses.replace(FCAM_METHOD, seeds=other), network()).seeds,
    )


def test_numbers_that_are_1_change_no_seed():
    np.testing.assert_array_equal(
        view(FCAM_METHOD, network(**{BACKGROUND: 1.0})).seeds, view(FCAM_METHOD, network()).seeds
    )


@pytest.mark.parametrize("logit", [-3.0, 0.0, 3.0])
def test_a_flood_cuts_nothing_and_explains_the_seeds_by_chance_at_best(logit):
    maps = jnp.stack([jnp.zeros((2, 16, 16)), jnp.full((2, 16, 16), logit)], axis=-1)
    seeds = jnp.full((2, 16, 16), -1).at[:, 2, 2:6].set(1).at[:, 9, 2:6].set(0)
    found = judgement(maps, seeds, jnp.asarray(BATCH.images)[:, :16, :16], jax.random.split(KEY, 2))
    np.testing.assert_allclose(found.cut, 1, atol=1e-5)
    np.testing.assert_allclose(found.seeds, math.log1p(math.exp(logit)) - logit / 2, rtol=1e-5)
    assert (found.seeds >= math.log(2) - 1e-6).all()
