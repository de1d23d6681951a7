"""One class: its probability is a sigmoid, and there is nothing to train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fcam_jax.configuration import configuration
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import class_probabilities, cross_entropy
from fcam_jax.runs import build_model


def test_a_single_score_has_a_sigmoid_and_several_a_softmax():
    np.testing.assert_allclose(class_probabilities(jnp.array([[-4.0], [0.0]])), [[0.017986], [0.5]], rtol=1e-4)
    scores = jnp.array([[1.0, 2.0, -1.0]])
    np.testing.assert_allclose(class_probabilities(scores), jax.nn.softmax(scores))


def test_one_class_cannot_be_trained():
    with pytest.raises(InputError, match=r"there is one class, .* add images without it as a second class"):
        jax.jit(cross_entropy)(jnp.zeros((2, 1)), jnp.zeros(2, int))
    config: ConfigDict = configuration("synthetic", {"model.encoder": "small"})
    config.data.num_classes = 1
    with pytest.raises(InputError, match=r"^data\.num_classes is 1: there is one class"):
        build_model.classifier(config)
