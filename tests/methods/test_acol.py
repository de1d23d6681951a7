"""ACoL: erasing, the two branches, the fused map, and where gradients stop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once, in_inference
from flax import nnx
from one_device import (
    CLASSES,
    InInference,
    batch,
    classifier,
    conv1x1,
    conv3x3,
    cross_entropy,
    on_one_device,
    parameters,
)

from fcam_jax.errors import InputError
from fcam_jax.methods.acol import ACoL, ACoLHead, erase
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.runtime.random import weight_keys

LABELS = jnp.array([0, 2])


@pytest.fixture(scope="module")
def head():
    return ACoLHead(5, CLASSES, width=6, threshold=0.7, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).random((2, 6, 7, 5)).astype(np.float32)


def class_maps(branch, x):
    """All maps of a branch, [b, h, w, classes], in float64."""
    for layer in (branch.conv1, branch.conv2):
        x = np.maximum(conv3x3(layer, x), 0)
    return conv1x1(branch.top.conv, x)


def scaled(maps):
    low, high = (extreme(maps, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
    return (maps - low) / (high - low)


def expected(head, features):
    """Labels' maps of both branches and all maps of both, in float64."""
    first = class_maps(head.first, features)
    own = scaled(first[np.arange(2), ..., np.asarray(LABELS)])
    second = class_maps(head.second, np.where(own[..., None] >= head.threshold, 0, features))
    return first, second, np.maximum(own, scaled(second[np.arange(2), ..., np.asarray(LABELS)]))


def test_erased_features_are_those_of_the_released_program(shared):
    golden = np.load(shared / "golden" / "wsol_methods.npz")
    x, erased = (golden[name].transpose(0, 2, 3, 1) for name in ("acol_feat", "acol_erased_07"))
    found = at_once(lambda x, maps: erase(x, maps, 0.7), x, golden["acol_att"][:, 0])
    np.testing.assert_array_equal(found, erased)


def test_nothing_is_erased_by_a_map_that_says_nothing(features):
    found = at_once(lambda x: erase(x, jnp.full((2, 6, 7), 3.0), 0.7), features)
    np.testing.assert_array_equal(found, features)


@pytest.mark.slow
def test_scores_and_the_fused_map_are_those_of_plain_convolutions(head, features):
    first, second, fused = expected(head, features)
    found, of_both, scores = at_once(
        lambda head, x: (head.both(x, LABELS), head.activation(x, LABELS), head(x)), head, features
    )
    np.testing.assert_allclose(found[0], first.mean((1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], second.mean((1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_both, fused, rtol=1e-4, atol=1e-5)
    assert np.abs(fused - scaled(first[np.arange(2), ..., np.asarray(LABELS)])).max() > 0.1  # the second adds something
    np.testing.assert_array_equal(scores, found[0])


@pytest.mark.slow
def test_the_second_branch_teaches_the_first_nothing_and_the_features_only_where_they_are_kept(head, features):
    graph, state = nnx.split(head)

    def second(state, x):
        return nnx.merge(graph, state).both(x, LABELS)[1].sum()

    of_state, of_features = at_once(jax.grad(second, (0, 1)), state, features)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_state["first"]))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(of_state["second"]))
    own = scaled(class_maps(head.first, features)[np.arange(2), ..., np.asarray(LABELS)])
    assert 0 < (own >= 0.7).sum() < own.size
    assert (np.asarray(of_features)[own >= 0.7] == 0).all() and (np.asarray(of_features)[own < 0.7] != 0).any()


@pytest.mark.slow
def test_the_loss_is_the_sum_of_both_cross_entropies():
    tiny = classifier(lambda encoder, rngs: ACoLHead(encoder.channels[-1], CLASSES, width=6, threshold=0.7, rngs=rngs))
    model, given = InInference(tiny.encoder, tiny.head), batch()
    loss, logits, terms = on_one_device(ACoL().loss, model, given, jax.random.key(0), jnp.asarray(0))
    stages, scores = in_inference(model, given.images)
    first, second = at_once(lambda head, x: head.both(x, given.labels), model.head, stages[-1])
    np.testing.assert_allclose(terms["first"], cross_entropy(first, given.labels), rtol=1e-5)
    np.testing.assert_allclose(terms["second"], cross_entropy(second, given.labels), rtol=1e-5)
    np.testing.assert_allclose(loss, terms["first"] + terms["second"], rtol=1e-6)
    np.testing.assert_allclose(logits, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "count"), [("vgg16", 43_440_336), ("resnet50", 80_545_232), ("inceptionv3", 42_410_096)]
)
def test_parameters_are_as_many_as_in_the_released_program(name, count):
    def build():
        encoder = ENCODERS[name](rngs=weight_keys(0), **ACoL().encoder_settings(ENCODERS[name]))
        return Classifier(encoder, ACoL().head(encoder, 200, dtype=jnp.float32, rngs=nnx.Rngs(0)))

    assert parameters(nnx.eval_shape(build)) == count


def test_a_threshold_outside_its_range_is_named():
    with pytest.raises(InputError, match=r"^threshold is 2.0; it must lie in \[0, 1\]$"):
        ACoL(threshold=2.0)
