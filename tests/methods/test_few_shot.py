"""The few-shot baseline: its loss and its map."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_device import InInference, batch, classifier, on_one_device

from fcam_jax.cams import CAMS
from fcam_jax.methods.baselines import Center
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.few_shot import FewShot, Saliency, pixel_cross_entropy
from fcam_jax.types import OBJECT, UNDECIDED

METHOD = ClassifierMethod(CAMS["cam"](), "protocol", (("head",),), 10.0, FewShot())


def network():
    tiny = classifier(lambda encoder, rngs: Saliency(encoder.channels[-1], rngs=rngs))
    return InInference(tiny.encoder, tiny.head)


def test_the_loss_is_the_cross_entropy_of_the_decided_pixels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 5)).astype(np.float32) * 4
    objects = rng.choice(np.array([0, OBJECT, UNDECIDED], np.uint8), (3, 5, 5))
    loss, figures = on_one_device(pixel_cross_entropy, jnp.asarray(logits), jnp.asarray(objects))
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    told = np.where(objects == OBJECT, probability, 1 - probability)[objects != UNDECIDED]
    np.testing.assert_allclose(loss, -np.log(told).mean(), rtol=1e-5)
    np.testing.assert_allclose(figures["accuracy"], 100 * (told > 0.5).mean(), rtol=1e-6)


def test_a_batch_without_a_decided_pixel_teaches_nothing():
    logits, objects = jnp.ones((2, 3, 3)), jnp.full((2, 3, 3), UNDECIDED, jnp.uint8)
    loss, gradient = on_one_device(jax.value_and_grad(lambda x: pixel_cross_entropy(x, objects)[0]), logits)
    assert loss == 0 and not np.asarray(gradient).any()


@pytest.mark.slow
def test_the_map_is_the_probability_that_the_loss_is_of_whatever_the_label():
    model, given = network(), batch()
    found = METHOD.localize(model, given)
    logits = jnp.log(found.maps) - jnp.log1p(-found.maps)
    objects = (np.random.default_rng(1).random(found.maps.shape) < 0.3).astype(np.uint8)
    loss = on_one_device(
        lambda: METHOD.loss(model, dataclasses.replace(given, objects=objects), jax.random.key(0), jnp.asarray(0))[0]
    )
    expected, _ = on_one_device(pixel_cross_entropy, logits, jnp.asarray(objects))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    other = METHOD.localize(model, dataclasses.replace(given, labels=(given.labels + 1) % 3))
    np.testing.assert_array_equal(other.maps, found.maps)
    assert found.maps.shape == (4, 16, 16) and 0 < found.maps.min() < found.maps.max() < 1
    # Halfway between the centres of the map's cells a pixel is no cell's own: the map is enlarged, not repeated.
    assert len(np.unique(np.asarray(found.maps[0]))) > 4


def test_there_are_no_class_scores():
    assert METHOD.localize(network(), batch()).logits is None
    assert Center(classes=False).localize(network(), batch()).logits is None
