"""What the CRF term pulls at, against the matrix K written out."""

import dataclasses

import jax
import numpy as np
import pytest
from test_pixel_alignment import CRF, SETTINGS, inputs

from fcam_jax.losses.pixel_alignment import crf_gradient


@pytest.mark.parametrize(("start", "end"), [(0, None), (5, 6)])
def test_it_is_the_slope_of_the_weighted_energy_in_the_foreground_whatever_the_epoch(start, end):
    side, weight = 8, 1e-3
    logits, _, images, keys = inputs(side=side)
    settings = dataclasses.replace(
        SETTINGS, crf=dataclasses.replace(CRF, weight=weight, start_epoch=start, end_epoch=end)
    )
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    scale = side / 224
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2) / (100 * scale)
    for number, found in enumerate(crf_gradient(jax.nn.softmax(logits), images, keys, settings)):
        features = np.concatenate([place, np.asarray(images[number], np.float64).reshape(-1, 3) / 15], axis=1)
        kernel = np.exp(-np.square(features[:, None] - features).sum(-1) / 2)
        background, foreground = probs[number].reshape(-1, 2).T
        # R = -f'Kf - (1-f)'K(1-f), so dR/df = -2 K f + 2 K (1-f).
        expected = weight / scale**4 * 2 * kernel @ (background - foreground)
        np.testing.assert_allclose(found, expected.reshape(side, side), rtol=1e-4, atol=1e-4 * abs(expected).max())
