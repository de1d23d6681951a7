"""Insertion and deletion against loops over single pixels, and closed forms."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.evaluation.device_measure import InsertionDeletion, WithMeasures, insertion_deletion
from fcam_jax.evaluation.metric import Means, Scored
from fcam_jax.methods.baselines import Center
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import Small
from fcam_jax.types import Annotation, Batch

SIDE, CLASSES = 16, 3
BLANK = np.array([120.0, 110.0, 100.0], np.float32)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    maps = rng.random((4, SIDE, SIDE)).astype(np.float32)
    maps[1] = np.round(4 * maps[1]) / 4  # ties
    weights = rng.normal(size=(SIDE, SIDE, 3, CLASSES)).astype(np.float32) / 2000
    return images, maps, rng.integers(0, CLASSES, 4).astype(np.int32), weights


def areas(data, steps):
    *arrays, weights = map(jnp.asarray, data)
    images, maps, labels = arrays

    def score(shown):
        return jnp.einsum("bhwc,hwck->bk", shown, weights)

    return insertion_deletion(score, images, labels, maps, blank=jnp.asarray(BLANK), steps=steps)


def plain_areas(image, score_map, label, weights, steps):
    """Both areas of one image, pixel after pixel."""

    def probability(shown):
        scores = np.einsum("hwc,hwck->k", shown, weights.astype(np.float64))
        return np.exp(scores[label]) / np.exp(scores).sum()

    blurred = cv2.GaussianBlur(image.astype(np.float64), (11, 11), 5, borderType=cv2.BORDER_REFLECT)
    order = sorted(range(SIDE * SIDE), key=lambda p: (-score_map.flat[p], p))
    curves = []
    for start, end in ((blurred, image), (image, np.broadcast_to(BLANK, image.shape))):
        values = []
        for s in range(steps + 1):
            shown = np.array(start, np.float64)
            for p in order[: -(-s * SIDE * SIDE // steps)]:
                shown[divmod(p, SIDE)] = end[divmod(p, SIDE)]
            values.append(probability(shown))
        curves.append(np.trapezoid(values, dx=1 / steps))
    return curves


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 7, 16])
def test_areas_are_those_of_taking_one_pixel_after_the_other(data, steps):
    images, maps, labels, weights = data
    expected = [plain_areas(*one, weights, steps) for one in zip(images, maps, labels, strict=True)]
    np.testing.assert_allclose(areas(data, steps), expected, atol=1e-5)


def test_a_map_that_follows_the_score_is_better_than_its_opposite(data):
    images, _, labels, weights = data
    own = np.moveaxis(weights[..., labels] - weights.mean(axis=-1, keepdims=True), -1, 0)
    gain = np.einsum("bhwc,bhwc->bhw", images - BLANK, own).astype(np.float32)
    good, bad = (np.asarray(areas((images, sign * gain, labels, weights), 16)) for sign in (1, -1))
    assert (good[:, 1] < bad[:, 1]).all()


@pytest.mark.slow
def test_a_localizer_keeps_its_maps_and_gains_the_areas_of_its_model(data):
    images, _, labels, _ = data
    encoder = Small(final_stride=8, rngs=nnx.Rngs(0))
    model = Classifier(encoder, WGAP(encoder.channels[-1], CLASSES, rngs=nnx.Rngs(1)))
    batch = Batch(images, labels, np.arange(4), np.ones(4, np.float32))
    found = WithMeasures(Center(), [InsertionDeletion(steps=4)]).localize(model, batch)
    plain = Center().localize(model, batch)
    np.testing.assert_array_equal(found.maps, plain.maps)
    whole = jax.nn.softmax(plain.logits)[np.arange(4), labels]
    none = jax.nn.softmax(model(jnp.broadcast_to(jnp.array(encoder.mean), images.shape), train=False)[1])[0][labels]
    one_step = WithMeasures(Center(), [InsertionDeletion(steps=1)]).localize(model, batch).measures
    np.testing.assert_allclose(one_step["Deletion"], (whole + none) / 2, atol=1e-6)
    assert {name: values.shape for name, values in found.measures.items()} == {"Insertion": (4,), "Deletion": (4,)}


def test_the_metric_is_the_mean_and_knows_no_figure_of_nothing():
    total = Means()
    with pytest.raises(InputError, match="of no image"):
        total.compute()
    for pair in ((0.25, 0.5), (0.75, 0.25)):
        measures = dict(zip(("Insertion", "Deletion"), np.array(pair), strict=True))
        total = total.merge(total.measure(Scored(np.ones((2, 2)), Annotation("a", 0), measures=measures)))
    assert total.compute() == {"Insertion": 50.0, "Deletion": 37.5}
