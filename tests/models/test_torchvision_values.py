"""Class scores of torchvision's networks, recorded for weights and images made by a formula."""

import by_formula
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.weight_names import named_variables
from fcam_jax.runtime.random import weight_keys

# torchvision 0.29.1 on `by_formula.images(64)`; the first four scores of 1000 of the first image.
SCORES = {
    ("resnet18", False): [-1.272327184677124, 11.656752586364746, -33.06174087524414, -2.358015537261963],
    ("resnext50", False): [-279.25299072265625, -368.4940490722656, 105.01895141601562, 381.2905578613281],
    # replace_stride_with_dilation=[False, True, True]
    ("resnext50", True): [-258.46240234375, -420.42919921875, 146.48939514160156, 287.493408203125],
    ("densenet121", False): [0.2843478322029114, 0.1810445338487625, 0.5887742042541504, 1.0206962823867798],
}


def from_formula(module, names):
    """Set all variables of an abstract module, by their names in a family of files."""
    variables = named_variables(module, names)
    shapes = {name: names.theirs(np.broadcast_to(0, of.shape)).shape for name, of in variables.items()}
    for name, shape in shapes.items():
        variables[name].set_value(jnp.asarray(names.ours(by_formula.weight(name, shape))))


@nnx.jit
def score(classifier, images):
    return classifier.score(classifier.encoder.stage(0, images, train=False), 0)


def case(name, dilate):
    """Dilated networks are also compared with strided ones, and take seconds more."""
    return pytest.param(name, dilate, marks=pytest.mark.long if dilate else ())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dilate"), [case(*key) for key in SCORES])
def test_class_scores(name, dilate):
    def build():
        encoder = ENCODERS[name](final_stride=8 if dilate else 32, dilate=dilate, rngs=weight_keys(0))
        return Classifier(encoder, WGAP(encoder.channels[-1], 1000, rngs=nnx.Rngs(0)))

    classifier = nnx.eval_shape(build)
    from_formula(classifier.encoder, classifier.encoder.weight_names[0])
    from_formula(classifier.head, classifier.encoder.head_names or classifier.head.weight_names[0])
    scores = np.asarray(score(classifier, jnp.asarray(by_formula.images(64))))
    np.testing.assert_allclose(scores[0, :4], SCORES[name, dilate], atol=1e-5 * np.abs(scores).max())
