import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.losses.constraints import ForegroundBounds, barrier, nonnegative_sizes
from fcam_jax.losses.dense_crf import dense_crf
from fcam_jax.losses.partial_cross_entropy import partial_cross_entropy
from fcam_jax.losses.pixel_alignment import CrfTerm, PixelAlignment, Term, pixel_alignment

CRF = CrfTerm(weight=1.2e-9, sigma_xy=100.0, sigma_rgb=15.0, form="exact")
SETTINGS = PixelAlignment(Term(1.0), CRF, Term(0.1), 1.0, 1.01, 10.0)


def inputs(side=14, count=2):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(count, side, side, 2)).astype(np.float32))
    seeds = jnp.asarray(rng.choice([-1, 0, 1], (count, side, side)))
    images = jnp.asarray(rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8))
    return logits, seeds, images, jax.random.split(jax.random.key(0), count)


def loss(settings, epoch=0, **changes):
    return pixel_alignment(*inputs(**changes), jnp.asarray(epoch), settings)


def test_sum_is_the_weighted_terms():
    logits, seeds, images, keys = inputs()
    probs = jax.nn.softmax(logits)
    scale = 14 / 224
    crf = dense_crf(probs, images.astype(jnp.float32), keys, sigma_xy=100 * scale, sigma_rgb=15.0, form="exact").mean()
    size = barrier(nonnegative_sizes(probs), 1.01**3).mean()
    expected = partial_cross_entropy(logits, seeds) + 1.2e-9 / scale**4 * crf + 0.1 * size
    value, terms = loss(SETTINGS, epoch=3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert set(terms) == {"seeds", "crf", "size"}


def test_any_subset_of_terms_runs():
    whole = loss(SETTINGS)[1]
    for name in ("seeds", "crf", "size"):
        others = {
            other: dataclasses.replace(getattr(SETTINGS, other), weight=0.0)
            for other in ("seeds", "crf", "size")
            if other != name
        }
        value, terms = loss(dataclasses.replace(SETTINGS, **others))
        assert set(terms) == {name}
        np.testing.assert_allclose(terms[name], whole[name], rtol=1e-6)
        np.testing.assert_allclose(value, getattr(SETTINGS, name).weight * terms[name], rtol=1e-6)


def test_a_term_counts_from_its_first_epoch_to_its_end():
    settings = dataclasses.replace(
        SETTINGS, crf=dataclasses.replace(CRF, weight=0.0), size=Term(0.0), seeds=Term(2.0, 2, 4)
    )
    values = [float(loss(settings, epoch)[0]) for epoch in range(6)]
    full = 2 * float(loss(settings, 2)[1]["seeds"])
    np.testing.assert_allclose(values, [0, 0, full, full, 0, 0], rtol=1e-6)


def test_a_further_constraint_is_a_term_with_the_schedule_of_the_sizes():
    bounds = ForegroundBounds(0.1, 0.3)
    settings = dataclasses.replace(SETTINGS, constraints=(("bounds", Term(0.5), bounds),))
    (without, _), (value, terms) = loss(SETTINGS, epoch=7), loss(settings, epoch=7)
    expected = barrier(bounds(jax.nn.softmax(inputs()[0])), 1.01**7).mean()
    np.testing.assert_allclose(terms["bounds"], expected, rtol=1e-5)
    np.testing.assert_allclose(value, without + 0.5 * expected, rtol=1e-5)
    off = dataclasses.replace(SETTINGS, constraints=(("bounds", Term(0.0), bounds),))
    assert loss(off)[1].keys() == loss(SETTINGS)[1].keys()


def test_crf_weight_means_the_same_pull_at_every_resolution():
    # The same picture, each pixel repeated 3 x 3 times: sums over pairs grow 81-fold, the term must not.
    logits, seeds, images, keys = inputs(side=16)
    only_crf = dataclasses.replace(SETTINGS, seeds=Term(0.0), size=Term(0.0), crf=dataclasses.replace(CRF, weight=1.0))
    large = [jnp.repeat(jnp.repeat(array, 3, 1), 3, 2) for array in (logits, seeds, images)]
    small_value, _ = pixel_alignment(logits, seeds, images, keys, jnp.asarray(0), only_crf)
    large_value, _ = pixel_alignment(*large, keys, jnp.asarray(0), only_crf)
    # Not exact: the copies of a pixel lie up to two pixels apart.
    np.testing.assert_allclose(large_value, small_value, rtol=5e-3)


def test_the_released_amplitude_is_six_tenths_of_the_exact_one():
    exact, released = (
        loss(dataclasses.replace(SETTINGS, crf=dataclasses.replace(CRF, amplitude=amplitude)))[1]["crf"]
        for amplitude in ("exact", "released")
    )
    np.testing.assert_allclose(released, 0.6 * exact, rtol=1e-6)


def test_at_half_the_scale_the_term_is_that_of_the_shrunk_map_and_image():
    logits, seeds, images, keys = inputs(side=16)
    # Every pixel four times: the shrunk map and image are the small ones, and the term is scaled as theirs is.
    large = [jnp.repeat(jnp.repeat(array, 2, 1), 2, 2) for array in (logits, seeds, images)]
    small = pixel_alignment(logits, seeds, images, keys, jnp.asarray(0), SETTINGS)[1]["crf"]
    half = dataclasses.replace(SETTINGS, crf=dataclasses.replace(CRF, scale=0.5))
    np.testing.assert_allclose(pixel_alignment(*large, keys, jnp.asarray(0), half)[1]["crf"], small, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stride", 0),
        ("scale", 0.0),
        ("scale", 1.5),
        ("form", "lattice"),
        ("amplitude", "paper"),
        ("sigma_rgb", 0.0),
        ("kernel", "cuda"),
    ],
)
def test_a_setting_of_the_crf_outside_its_range_is_named(name, value):
    with pytest.raises(InputError, match=rf"fcam\.loss\.crf\.{name}"):
        dataclasses.replace(CRF, **{name: value})
