"""Max-sensitivity: recomputed from what the explainer was given, and closed forms."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation import faithfulness

IMAGES = np.random.default_rng(0).normal(size=(5, 8, 8, 3)) * np.arange(1, 6)[:, None, None, None]
IMAGES = IMAGES.astype(np.float32)
LABELS = np.arange(5)


class Recorded:
    """Maps that are squares of the first channel, and what they were asked of."""

    def __init__(self):
        self.images, self.labels = [], []

    def __call__(self, images, labels):
        self.images.append(np.asarray(images))
        self.labels.append(np.asarray(labels))
        return types.SimpleNamespace(maps=images[..., 0] ** 2)


@pytest.mark.slow
def test_it_is_the_largest_relative_change_of_what_was_asked():
    explain = Recorded()
    found = faithfulness.sensitivity(explain, IMAGES, LABELS, samples=4, radius=0.2)
    clean, *noisy = explain.images
    np.testing.assert_array_equal(clean, IMAGES)
    assert len(noisy) == 4 and all((labels == LABELS).all() for labels in explain.labels)
    changes = [np.linalg.norm((one**2 - clean**2)[..., 0].reshape(5, -1), axis=1) for one in noisy]
    norms = np.linalg.norm((clean**2)[..., 0].reshape(5, -1), axis=1)
    np.testing.assert_allclose(found, np.max(changes, axis=0) / norms, rtol=1e-4)


def test_the_noise_is_uniform_within_the_radius_and_the_range():
    explain = Recorded()
    faithfulness.sensitivity(explain, IMAGES, LABELS, samples=20, radius=0.2)
    clean, *noisy = explain.images
    unit = clean.std(axis=(1, 2, 3), keepdims=True)
    noise = (np.stack(noisy) - clean) / unit
    assert abs(noise).max() <= 0.2 + 1e-4
    np.testing.assert_allclose(noise.std(axis=(0, 2, 3, 4)), 0.2 / np.sqrt(3), rtol=0.05)
    assert (np.stack(noisy).max(axis=(0, 2, 3, 4)) <= clean.max(axis=(1, 2, 3))).all()


def test_batches_change_nothing_and_are_of_one_size():
    explain = Recorded()
    found = faithfulness.sensitivity(explain, IMAGES, LABELS, samples=2, batch_size=2)
    assert {len(images) for images in explain.images} == {2}
    np.testing.assert_allclose(found, faithfulness.sensitivity(Recorded(), IMAGES, LABELS, samples=2), rtol=1e-4)


def test_maps_that_do_not_change_or_appear_out_of_nothing():
    constant = faithfulness.sensitivity(lambda images, labels: jnp.ones((5, 2, 2)), IMAGES, LABELS, samples=1)
    nothing = faithfulness.sensitivity(lambda images, labels: jnp.zeros((5, 2, 2)), IMAGES, LABELS, samples=1)
    assert (constant == 0).all() and (nothing == 0).all()
    first = float(IMAGES[0, 0, 0, 0])

    def appears(images, labels):
        return jnp.zeros((5, 2, 2)).at[0].set(images[0, 0, 0, 0] != first)

    np.testing.assert_array_equal(faithfulness.sensitivity(appears, IMAGES, LABELS, samples=1), [np.inf, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples is 0; it must be a whole number from 1"),
        ({"radius": -0.1}, "radius is -0.1; it must be a number from 0"),
        ({"labels": [1]}, r"labels are int64 of the shape \(1,\); they must be 5 integers"),
        ({"explain": lambda images, labels: images}, r"maps have the shape \(5, 8, 8, 3\); it must be .*"),
        ({"explain": lambda images, labels: images[..., 0] * np.nan}, "maps hold NaN or infinities"),
    ],
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        faithfulness.sensitivity(**{"explain": Recorded(), "images": IMAGES, "labels": LABELS} | changes)
