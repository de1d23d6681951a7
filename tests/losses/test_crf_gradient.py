"""What the CRF term pulls at, against the matrix K written out."""

import jax
import numpy as np
import pytest
from test_pixel_alignment import inputs, with_terms

from fcam_jax.losses import DenseCRF, Evidence, Weighted
from fcam_jax.losses.pixel_alignment import foreground_pull


@pytest.mark.slow
@pytest.mark.parametrize(("start", "end"), [(0, None), (5, 6)])
def test_it_is_the_slope_of_the_weighted_energy_in_the_foreground_whatever_the_epoch(start, end):
    side, weight = 8, 1e-3
    known = inputs(side=side)
    settings = with_terms(crf=Weighted(DenseCRF(form="exact"), weight, start, end))
    probs = np.asarray(known.maps, np.float64)
    scale = side / 224
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2) / (100 * scale)
    pulls = np.asarray(jax.jit(lambda known: foreground_pull(Evidence(**known), settings))(vars(known)))
    for number, found in enumerate(pulls):
        features = np.concatenate([place, np.asarray(known.raw[number], np.float64).reshape(-1, 3) / 15], axis=1)
        kernel = np.exp(-np.square(features[:, None] - features).sum(-1) / 2)
        background, foreground = probs[number].reshape(-1, 2).T
        # R = -f'Kf - (1-f)'K(1-f), so dR/df = -2 K f + 2 K (1-f).
        expected = weight / scale**4 * 2 * kernel @ (background - foreground)
        np.testing.assert_allclose(found, expected.reshape(side, side), rtol=1e-4, atol=1e-4 * abs(expected).max())


def test_without_a_pictured_term_there_is_none():
    assert foreground_pull(inputs(side=8), with_terms(crf=Weighted(DenseCRF(), 0.0))) is None
