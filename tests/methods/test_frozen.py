"""Frozen encoders: what is trained, and whose maps localize."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once
from flax import nnx
from on_tokens import (
    assert_alike_on_one_device_and_on_four,
    fcam_under,
    method_of,
    seeds_of_fcam,
    tiny,
    trained,
    unchanged_parts,
    under,
)
from tiny_stages import Tiny, batch

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import explain
from fcam_jax.cams.score_maps import minmax, score_map
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.frozen import LOST, Frozen, TokenCut
from fcam_jax.training.placed import split_model

WAYS = {"tokencut": TokenCut(), "lost": LOST()}


def network(encoder, way):
    """On a transformer, and on a network of convolutions."""
    return tiny(way) if encoder == "transformer" else under(way, Tiny(rngs=nnx.Rngs(0)))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["transformer", "convolutions"])
def test_a_step_trains_the_head_alone_and_is_alike_on_one_device_and_on_four(encoder):
    way = Frozen()
    before, after = assert_alike_on_one_device_and_on_four(way, set(), network(encoder, way))
    assert set(after.params) == {"head"} and unchanged_parts(before, after) == set()
    for a, b in zip(jax.tree.leaves(before.rest), jax.tree.leaves(after.rest), strict=True):
        np.testing.assert_array_equal(a, b)  # the statistics of BatchNorm, too


def test_the_encoder_is_not_trained():
    model = tiny(Frozen())
    _, params, rest = split_model(model, method_of(Frozen(), model))
    assert set(params) == {"head"} and set(rest) == {"encoder"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WAYS))
def test_its_map_is_that_of_its_name_whatever_the_cam_and_f_cam_draws_its_seeds_from_it(name):
    way, given = WAYS[name], batch(0)
    model = tiny(way)
    images, labels = jnp.asarray(given.images), jnp.asarray(given.labels)

    def maps_of(model):
        stages, logits = model(images, train=False)
        target = explain(model, images, stages, labels, jax.random.split(jax.random.key(0), 8))
        maps, grid = CAMS[name]()(target), model.grid(-1, (16, 16))
        expected = [score_map(maps, (16, 16), kind, grid) for kind in ("protocol", "fcam")]
        return method_of(way, model).localize(model, given), logits, expected

    found, logits, (of_protocol, of_fcam) = at_once(maps_of, model)
    np.testing.assert_allclose(found.maps, of_protocol, atol=1e-4)
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_allclose(seeds_of_fcam(way, model, given), of_fcam, atol=1e-4)


@pytest.mark.slow
def test_a_frozen_encoder_localizes_by_any_cam():
    model, given = tiny(Frozen()), batch(0)
    maps = [
        at_once(ClassifierMethod(CAMS[name](), "protocol", (), 1.0, Frozen()).localize, model, given).maps
        for name in ("gradcam", "rollout")
    ]
    assert maps[0].shape == maps[1].shape == (8, 16, 16) and np.abs(maps[0] - maps[1]).max() > 0.1


@pytest.mark.parametrize(
    ("way", "settings", "words"),
    [(TokenCut, {"tau": -2.0}, "^tau is -2.0"), (LOST, {"candidates": 0}, "^candidates is 0")],
)
def test_a_setting_outside_its_range_is_named(way, settings, words):
    with pytest.raises(InputError, match=words):
        way(**settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Both(LOST):
    """The sum of both maps, so that one step compiles both; patches that only rounding tells apart are alike."""

    def seed_maps(self, target, cam):
        both = minmax(super().seed_maps(target, cam)) + minmax(TokenCut().seed_maps(target, cam))
        return jnp.round(both, 5)


@pytest.mark.long
@pytest.mark.slow
def test_f_cam_learns_from_their_maps_alike_on_one_device_and_on_four():
    model = tiny(Both())
    before, one, metrics = trained(*fcam_under(Both(), model), 1)
    _, four, of_four = trained(*fcam_under(Both(), model), 4)
    for name, value in metrics.items():
        np.testing.assert_allclose(of_four[name], value, rtol=2e-4, atol=1e-5, err_msg=name)
    assert set(one.params) == {"decoder"} and unchanged_parts(before, one) == set()
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(WAYS))
def test_other_networks_have_no_keys(name):
    with pytest.raises(InputError, match="is made of the last block's keys, and the network has none: take a transf"):
        network("convolutions", WAYS[name])
