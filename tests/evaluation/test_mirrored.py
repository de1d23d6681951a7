"""The mean over an image and its mirror image, against that of two passes by hand."""

import jax.numpy as jnp
import numpy as np

from fcam_jax.evaluation.mirrored import Mirrored
from fcam_jax.types import Batch, Localization


class Lopsided:
    """A map that is the red of the left half; scores are sums of columns."""

    def localize(self, model, batch):
        red = jnp.asarray(batch.images, jnp.float32)[..., 0] / 255
        left = jnp.arange(red.shape[2]) < red.shape[2] // 2
        return Localization(red * left, red.sum(axis=1) if model else None)


def batch():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3)).astype(np.uint8)
    return Batch(images, np.zeros(3, np.int32), np.arange(3), np.ones(3, np.float32))


def test_maps_and_scores_are_means_over_both_sides():
    given = batch()
    found = Mirrored(Lopsided()).localize(True, given)
    red = given.images[..., 0] / np.float32(255)
    # The left half of the mirror image is the right one of the image: every pixel is seen once of twice.
    np.testing.assert_allclose(found.maps, red / 2, rtol=1e-6)
    columns = red.sum(axis=1)
    np.testing.assert_allclose(found.logits, (columns + columns[:, ::-1]) / 2, rtol=1e-6)


def test_a_localizer_without_classes_has_none():
    assert Mirrored(Lopsided()).localize(False, batch()).logits is None
