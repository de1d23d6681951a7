"""Measures beside the maps: insertion and deletion of a classifier, by those of any network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.evaluation import faithfulness
from fcam_jax.evaluation.device_measure import InsertionDeletion, WithMeasures
from fcam_jax.evaluation.metric import Means, Scored
from fcam_jax.methods.baselines import Center
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import Small
from fcam_jax.types import Annotation, Batch

SIDE, CLASSES = 16, 3


@pytest.mark.slow
def test_a_localizer_keeps_its_maps_and_gains_the_areas_of_its_model():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    labels = rng.integers(0, CLASSES, 4).astype(np.int32)
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
    given = model, images, plain.maps, labels
    inserted = faithfulness.insertion(*given, steps=4)
    deleted = faithfulness.deletion(*given, steps=4, baseline=encoder.mean)
    np.testing.assert_allclose(found.measures["Insertion"], inserted, atol=1e-6)
    np.testing.assert_allclose(found.measures["Deletion"], deleted, atol=1e-6)


def test_the_metric_is_the_mean_and_knows_no_figure_of_nothing():
    total = Means()
    with pytest.raises(InputError, match="of no image"):
        total.compute()
    for pair in ((0.25, 0.5), (0.75, 0.25)):
        measures = dict(zip(("Insertion", "Deletion"), np.array(pair), strict=True))
        total = total.merge(total.measure(Scored(np.ones((2, 2)), Annotation("a", 0), measures=measures)))
    assert total.compute() == {"Insertion": 50.0, "Deletion": 37.5}
