"""CAMs through crops against enlarging, cutting out and mirroring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.cams.score_maps import cropped_maps, resize_bilinear
from fcam_jax.data.transforms import random_crop
from fcam_jax.models.encoder import Grid


@pytest.mark.parametrize(
    ("cells", "whole", "side", "grid"),
    [
        ((8, 8), 72, 64, None),
        ((7, 5), 40, 40, None),
        ((28, 28), 256, 224, None),
        ((1, 3), 9, 2, None),
        ((9, 9), 72, 64, Grid((7.5 / 72, 0.5 / 72), (8 / 72, 8 / 72))),
        ((19, 19), 146, 128, Grid((1.5 / 146, 1.5 / 146), (8 / 146, 8 / 146))),
    ],
)
def test_a_crop_of_a_map_is_the_map_enlarged_cut_out_and_mirrored(cells, whole, side, grid):
    rng = np.random.default_rng(0)
    maps = rng.random((6, *cells)).astype(np.float16)
    places = [random_crop(whole, whole, side, rng) for _ in maps]
    crop = np.array([(p.top / whole, p.left / whole, side / whole, p.mirrored) for p in places], np.float32)
    found = jax.jit(cropped_maps, static_argnums=(2, 3))(jnp.asarray(maps), jnp.asarray(crop), (side, side), grid)
    enlarged = np.asarray(resize_bilinear(jnp.asarray(maps, jnp.float32), (whole, whole), grid))
    expected = [
        one[p.top : p.top + side, p.left : p.left + side][:, :: -1 if p.mirrored else 1]
        for one, p in zip(enlarged, places, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert {place.mirrored for place in places} == {False, True}
