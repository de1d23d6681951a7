"""KPCA-CAM: settings, and the limit in which a kernel is the scalar product."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, of_features
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.errors import InputError
from fcam_jax.models.heads import WGAP


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": "cosine"}, "kernel is 'cosine'; known: polynomial, rbf, sigmoid"),
        ({"gamma": -1.0}, "gamma is -1.0; it must be at least 0"),
    ],
)
def test_settings_outside_their_range_are_named(settings, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        CAMS["kpcacam"](**settings)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "polynomial"])
def test_of_weak_features_it_is_the_principal_component_of_the_centred_ones(kernel):
    values = np.random.default_rng(0).normal(size=(2, 5, 7, 6)).astype(np.float32)
    given = jnp.asarray(1e-6 * values)  # beside whose products the constant of the kernel is lost in float32
    found = CAMS["kpcacam"](kernel=kernel)(of_features(WGAP(6, CLASSES, rngs=nnx.Rngs(0)), given, [0, 1]))
    for one, image in zip(np.asarray(found, np.float64), values, strict=True):
        rows = image.reshape(-1, 6).astype(np.float64)
        rows -= rows.mean(axis=0)
        expected = rows @ np.linalg.svd(rows)[2][0]
        assert abs(np.corrcoef(one.ravel(), expected)[0, 1]) > 1 - 1e-6
        assert one.max() >= -one.min()
