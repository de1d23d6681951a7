"""EIL and MEIL: what is erased, where, what the branches cost, and whose statistics are kept."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import replicated
from abstract import abstract_encoder
from flax import nnx
from one_device import batch, cross_entropy, on_one_device, parameters
from tiny_stages import Tiny

from fcam_jax.errors import InputError
from fcam_jax.methods import METHODS
from fcam_jax.methods.adl import attention_dropout
from fcam_jax.methods.eil import EIL, MEIL
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP

# Reference values computed with numpy alone: a map of four channels and 4 x 4 positions, and the loss of class 1.
FEATURES = """
0.112083 0.973685 1.546073 0.495644 0.247773 1.508297 2.142354 0.435204 0.298155 1.116591 1.288009 0.107484 0.292871
0.564161 0.455371 0.047126 0.446668 1.118838 0.867692 0.294216 0.595265 1.514579 0.911466 0.687715 0.538913 0.980143
0.338070 0.658854 0.433389 0.428559 0.021955 0.403632 0.563271 0.717978 0.234138 0.940494 0.652257 0.781719 0.764233
1.475016 0.516672 0.365368 0.776852 1.103659 0.362405 0.083813 0.422176 0.563158 0.404988 0.033268 1.221705 1.127794
0.390936 0.332634 2.066974 1.542484 0.242286 0.427713 1.512657 1.009859 0.114561 0.301836 0.660277 0.447853
"""
KEPT = [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
WEIGHTS = np.sin(0.4 * np.arange(12) + 0.9).reshape(3, 4)
LOSS = 4.296833


class Still(Tiny):
    """BatchNorm keeps its statistics in training, too."""

    def stage(self, index, x, *, train, **others):
        return super().stage(index, x, train=False, **others)


def network(way, kind=Still):
    return replicated.network(way, kind(rngs=nnx.Rngs(0)))


@pytest.mark.slow
def test_what_is_attended_to_most_is_erased_as_in_the_released_program():
    x = jnp.asarray(np.array(FEATURES.split(), np.float32).reshape(4, 4, 4).transpose(1, 2, 0)[None])
    erased = attention_dropout(x, jnp.asarray(True), EIL().threshold)
    np.testing.assert_array_equal(erased, x * np.array(KEPT)[None, ..., None])
    pooled = (np.asarray(one).mean((1, 2)) @ WEIGHTS.T for one in (x, erased))
    np.testing.assert_allclose(sum(cross_entropy(one, [1]) for one in pooled), LOSS, atol=2e-5)
    small = jnp.array([[1, 0.5], [0.71, 0.2]])[None, ..., None]
    np.testing.assert_array_equal(attention_dropout(small, jnp.asarray(True), 0.7)[0, ..., 0] > 0, [[0, 1], [0, 1]])
    assert not attention_dropout(jnp.ones((1, 2, 2, 3)), jnp.asarray(True), 0.7).any()  # nothing stands out: all goes


@pytest.mark.slow
@pytest.mark.parametrize(("way", "names"), [(EIL(), ("second",)), (MEIL(threshold=0.8), ("first", "second", "third"))])
def test_the_rest_of_the_network_classifies_what_is_left(way, names):
    model, given = network(way), batch()
    ((loss, logits, terms),) = replicated.losses_of((way,), model, given)
    np.testing.assert_allclose(logits, model(given.images, train=False)[1], rtol=1e-5, atol=1e-6)
    expected = {"whole": cross_entropy(logits, given.labels)}
    for name in names:

        def at(place, x, erased=name):
            return attention_dropout(x, jnp.asarray(True), way.threshold) if place == erased else x

        expected[name] = cross_entropy(model(given.images, train=False, at=at)[1], given.labels)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5)
    np.testing.assert_allclose(loss, sum(expected.values()), rtol=1e-5)
    assert all(abs(expected[name] - expected["whole"]) > 1e-4 for name in names)


@pytest.mark.slow
def test_the_gradient_passes_to_the_layers_before_and_not_through_what_is_erased():
    model, given = network(EIL()), batch()
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def copy(params):
        return nnx.merge(graph, params, jax.tree.map(jnp.asarray, rest))

    def term(params):
        return EIL().loss(copy(params), given, jax.random.key(0), jnp.asarray(0))[2]["second"]

    gradient = nnx.to_pure_dict(on_one_device(jax.grad(term), params))
    assert np.abs(gradient["encoder"]["first"]["conv"]["kernel"]).max() > 0

    def everything_erased(params):
        way = EIL(threshold=0.0)  # no mean of ReLUs is below 0: the scores are those of zeros
        return way.loss(copy(params), given, jax.random.key(0), jnp.asarray(0))[2]["second"]

    value, gradient = on_one_device(jax.value_and_grad(everything_erased), params)
    assert np.isfinite(value) and not np.abs(nnx.to_pure_dict(gradient)["encoder"]["first"]["conv"]["kernel"]).any()


@pytest.mark.parametrize(
    ("name", "stride", "places"),
    [
        ("vgg16", 16, ("pool3", "pool4", "conv5_3")),
        ("vgg16", 8, ("pool3", "conv4_3", "conv5_3")),
        ("resnet50", 8, ("layer3.0", "layer4.0", "layer4.2")),
    ],
)
def test_places_are_those_of_the_program_and_of_one_rule_elsewhere(name, stride, places):
    encoder = abstract_encoder(name, final_stride=stride)
    assert tuple(place.name for place in MEIL().places(encoder)) == places
    assert tuple(place.name for place in EIL().places(encoder)) == places[1:2]


def test_vgg16_has_the_layers_of_the_released_program():
    model = nnx.eval_shape(lambda: Classifier(abstract_encoder("vgg16"), WGAP(1024, 200, rngs=nnx.Rngs(0))))
    assert parameters(model) == 14_714_688 + 4_719_616 + 205_000


@pytest.mark.slow
def test_it_is_trained_alike_on_one_device_and_on_four_with_statistics_of_whole_images():
    tiny = {"build": lambda: Tiny(rngs=nnx.Rngs(0))}
    _, one, logged = replicated.assert_alike_on_four(MEIL(), **tiny, steps=1)
    assert logged[0].keys() == {"loss", "accuracy", "whole", "first", "second", "third"}
    _, plain, _ = replicated.trained(METHODS["cam"](), tiny["build"](), 1, steps=1)
    for a, b in zip(jax.tree.leaves(one.rest), jax.tree.leaves(plain.rest), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(plain.params), strict=True))


def test_places_behind_a_class_token_are_refused():
    with pytest.raises(InputError, match=r"sees a class token"):
        MEIL().extend(mock.Mock(spec=Classifier, encoder=abstract_encoder("deit_tiny")))


def test_a_threshold_outside_its_range_is_named():
    with pytest.raises(InputError, match=r"^threshold is 2.0; it must lie in \[0, 1\]$"):
        MEIL(threshold=2.0)
