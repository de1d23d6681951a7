"""CAMs through crops against enlarging, cutting out and mirroring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.cams.score_maps import cropped_maps, resize_bilinear
from fcam_jax.data.transforms import random_crop


@pytest.mark.parametrize(
    ("cells", "whole", "side"), [((8, 8), 72, 64), ((7, 5), 40, 40), ((28, 28), 256, 224), ((1, 3), 9, 2)]
)
def test_a_crop_of_a_map_is_the_map_enlarged_cut_out_and_mirrored(cells, whole, side):
    rng = np.random.default_rng(0)
    maps = rng.random((6, *cells)).astype(np.float16)
    places = [random_crop(whole, whole, side, rng) for _ in maps]
    crop = np.array([(p.top / whole, p.left / whole, side / whole, p.mirrored) for p in places], np.float32)
    found = jax.jit(cropped_maps, static_argnums=2)(jnp.asarray(maps), jnp.asarray(crop), (side, side))
    enlarged = np.asarray(resize_bilinear(jnp.asarray(maps, jnp.float32), (whole, whole)))
    expected = [
        one[p.top : p.top + side, p.left : p.left + side][:, :: -1 if p.mirrored else 1]
        for one, p in zip(enlarged, places, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert {place.mirrored for place in places} == {False, True}
