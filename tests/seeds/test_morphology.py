import jax.numpy as jnp
import numpy as np
import pytest
import skimage.morphology

from fcam_jax.seeds.morphology import dilate, erode


@pytest.mark.parametrize("size", [1, 3, 7, 11])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_erosion_and_dilation_are_scikit_images(size, share):
    masks = np.random.default_rng(size).random((4, 19, 26)) < share
    square = np.ones((size, size), bool)
    eroded, dilated = np.asarray(erode(jnp.asarray(masks), size)), np.asarray(dilate(jnp.asarray(masks), size))
    for mask, small, large in zip(masks, eroded, dilated, strict=True):
        np.testing.assert_array_equal(small, skimage.morphology.erosion(mask, square, mode="max"))
        np.testing.assert_array_equal(large, skimage.morphology.dilation(mask, square, mode="min"))


def test_the_image_border_does_not_erode():
    assert np.asarray(erode(jnp.ones((1, 8, 8), bool), 5)).all()
