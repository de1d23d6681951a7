"""ICL-form: the triplet, the parts of an image, and what training does to the maps; the form alone can be checked."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import replicated
from at_once import at_once, in_inference, on_devices
from filled import filled
from flax import nnx
from one_device import batch, cross_entropy, on_one_device
from tiny_stages import Tiny

from fcam_jax.errors import InputError
from fcam_jax.methods.icl_form import ICLForm, triplet

TERMS = {"ce", "contrast", "consistency"}


class Still(Tiny):
    """BatchNorm keeps its statistics in training, too."""

    def stage(self, index, x, *, train, **others):
        return super().stage(index, x, train=False, **others)


def network(way, kind=Still):
    return replicated.network(way, filled(lambda: kind(rngs=nnx.Rngs(0))))


@pytest.mark.slow
def test_the_triplet_is_that_of_the_form_and_images_without_a_part_do_not_count():
    # Reference value computed with numpy alone, of three unit vectors.
    z = np.array([[1, 2, 2], [0, 1, 3], [1, 1, 3]]) / np.sqrt([[9], [10], [11]])
    left, whole, background = z[2], z[0], z[1]
    given = jnp.asarray(np.stack([left, whole, background])[:, None], jnp.float32)
    found = on_one_device(lambda: triplet(given, jnp.array([True]), 1.0))
    np.testing.assert_allclose(found, 1.0978571, atol=1e-6)
    e = jnp.eye(3)
    same = jnp.stack([e[0], e[0], e[1]])[:, None]  # as the whole, orthogonal to the background: a distance of 2
    for margin, expected in ((1.0, 0.0), (2.5, 0.5)):
        found_same = on_one_device(lambda m=margin: triplet(same, jnp.array([True]), m))
        np.testing.assert_allclose(found_same, expected, atol=1e-6)
    both = jnp.concatenate([given, same], axis=1)
    for counted, expected in (([True, False], found), ([True, True], found / 2), ([False, False], 0)):
        counted = jnp.array(counted)
        np.testing.assert_allclose(on_one_device(lambda c=counted: triplet(both, c, 1.0)), expected, atol=1e-6)
        of_two = on_devices(2, lambda z, c: triplet(z.swapaxes(0, 1), c, 1.0), both.swapaxes(0, 1), counted)
        np.testing.assert_allclose(of_two, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_maps_lose_peak_and_background_or_are_weighted_by_their_attention(rate):
    way, given = ICLForm(rate=rate), batch()
    model = network(way)
    without = dataclasses.replace(way, contrast=0.0, consistency=0.0)
    (total, logits, terms), none = replicated.losses_of((way, without), model, given)
    x, attentions = model.normalize(given.images), []
    for index in range(3):
        x = at_once(lambda encoder, x, i=index: encoder.stage(i, x, train=False), model.encoder, x)
        mean = np.asarray(x, np.float64).mean(-1)  # blocks begin as the identity
        low, high = (extreme(mean, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
        attention = (mean - low) / np.maximum(high - low, 1e-30)  # all of a map may be dropped
        kept = (attention > way.foreground) & (attention < way.peak)
        weights = kept if rate else 1 / (1 + np.exp(-attention))
        x = x * jnp.asarray(weights, jnp.float32)[..., None]
        attentions.append(attention)
    np.testing.assert_allclose(logits, model.head(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(terms["ce"], cross_entropy(logits, given.labels), rtol=1e-5)
    np.testing.assert_allclose(total, terms["ce"] + terms["contrast"] + terms["consistency"], rtol=1e-5)
    assert terms.keys() == TERMS and terms["consistency"] > 0
    np.testing.assert_allclose(none[0], none[2]["ce"], rtol=1e-6)


@pytest.mark.slow
def test_early_attention_learns_from_late_and_not_the_other_way_round():
    way, given = ICLForm(rate=1.0), batch()
    model = network(way)
    for layers in model.attentions_of_places:
        layers.block.norm.scale[...] = jnp.ones_like(layers.block.norm.scale[...])
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def consistency(params):
        copy = nnx.merge(graph, params, jax.tree.map(jnp.asarray, rest))
        return way.loss(copy, given, jax.random.key(0), jnp.asarray(0))[2]["consistency"]

    gradient = nnx.to_pure_dict(on_one_device(jax.grad(consistency), params))["attentions_of_places"]
    learns = [np.abs(gradient[place]["block"]["out"]["kernel"]).max() > 1e-8 for place in range(3)]
    assert learns == [True, False, False]


@pytest.mark.long
def test_it_is_trained_alike_on_one_device_and_on_four_and_all_of_it_learns():
    before, one, logged = replicated.assert_alike_on_four(ICLForm(width=4), lambda: Tiny(rngs=nnx.Rngs(0)))
    assert logged[0].keys() == TERMS | {"loss", "accuracy"}
    for path in (("encoder", "first", "conv", "kernel"), ("attentions_of_places", 0, "block", "norm", "scale")):
        new, old = one.params, before.params
        for name in path:
            new, old = new[name], old[name]
        assert (new != old).any()


def test_localization_knows_nothing_of_it():
    model, given = network(ICLForm()), batch()
    x = model.normalize(given.images)
    for index in range(3):
        x = at_once(lambda encoder, x, i=index: encoder.stage(i, x, train=False), model.encoder, x)
    np.testing.assert_allclose(in_inference(model, given.images)[1], model.head(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 2.0}, r"^rate is 2.0; it must lie in \[0, 1\]$"),
        ({"background": 0.6}, r"^background is 0.6, foreground 0.5 and peak 0.8; they must rise$"),
        ({"width": 0}, r"^width is 0; it must be at least 1$"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        ICLForm(**settings)
