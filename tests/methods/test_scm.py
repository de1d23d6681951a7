"""SCM: reference values of its layer, where gradients pass, and the map without the layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once
from flax import nnx
from on_tokens import assert_alike_on_one_device_and_on_four, method_of, of_published, tiny, unchanged_parts
from one_device import on_one_device, parameters
from tiny_stages import batch

from fcam_jax.cams.score_maps import minmax
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import plain
from fcam_jax.methods.scm import SCM, Calibration, diffusion, laplacian
from fcam_jax.methods.tscam import TSCAM
from fcam_jax.models import ENCODERS

# Reference values computed with NumPy alone: `scm_*`, of 3 x 3 positions and class maps of five classes.
SEMANTIC = np.sin(0.57 * np.arange(45) + 0.3).reshape(5, 3, 3)
ATTENTION = [0.598384512, 0.982243008, 0.837662898, 0.322642447, 0, 0.222321725, 0.746652717, 1, 0.705503698]
SPREAD = [0.191444826, -0.025256135, 0.150909066, 0.590808835, 0.837454683, 0.679189914]
SPREAD += [-0.015705085, -0.118088042, -0.043258911]
OUT_ATTENTION = [0.627796206, 0.987935731, 0.855250394, 0.801824138, 1, 0.873799552, 0.752389069, 1, 0.710965753]
OUT_OF_CLASS_3 = [0.018490604, -0.5274079, -0.91683203, -1.468323581, -1.540911716, -0.503099096]
OUT_OF_CLASS_3 += [0.258986846, 0.738230996, 0.990908104]


@pytest.fixture(scope="module")
def given():
    """Attention and class maps of one image."""
    semantic = jnp.asarray(SEMANTIC.transpose(1, 2, 0)[None], jnp.float32)
    return jnp.asarray(ATTENTION, jnp.float32).reshape(1, 3, 3), semantic


@pytest.mark.slow
def test_a_layer_is_the_recorded_one(given):
    attention, semantic = given
    spread = at_once(lambda semantic: diffusion(semantic, 16) @ attention.reshape(1, 9, 1), semantic)
    np.testing.assert_allclose(spread[0, :, 0], SPREAD, atol=1e-5)
    after, raised = at_once(Calibration(16), attention, semantic)
    np.testing.assert_allclose(after[0].ravel(), OUT_ATTENTION, atol=1e-5)
    np.testing.assert_allclose(raised[0, ..., 3].ravel(), OUT_OF_CLASS_3, atol=1e-5)


def test_the_number_of_steps_counts(given):
    assert at_once(lambda maps: jnp.abs(diffusion(maps, 16) - diffusion(maps, 4)).max(), given[1]) > 0.1


def test_neighbours_share_a_side():
    expected = [[2, -1, 0, -1, 0, 0], [-1, 3, -1, 0, -1, 0], [0, -1, 2, 0, 0, -1]]
    np.testing.assert_array_equal(laplacian(2, 3)[:3], expected)
    assert (laplacian(4, 5).sum(axis=0) == 0).all()


def test_gradients_reach_threshold_attention_and_class_maps(given):
    structure, state = nnx.split(Calibration(4))

    def total(state, attention, semantic):
        after, raised = nnx.merge(structure, state)(attention, semantic)
        return (after**2).sum() + raised.sum()

    found = at_once(jax.grad(total, (0, 1, 2)), state, *given)
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("empty", [0, 1])
def test_maps_that_say_nothing_give_no_nan(given, empty):
    def total(attention, semantic):
        after, raised = Calibration(4)(attention, semantic)
        return after.sum() + raised.sum()

    given = [jnp.zeros_like(one) if place == empty else one for place, one in enumerate(given)]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(at_once(jax.grad(total, (0, 1)), *given)))


@pytest.mark.slow
def test_without_layers_it_is_trained_as_ts_cam_is_and_its_map_scales_the_attention():
    way, of_batch = SCM(layers=0), batch(0)
    model = tiny(way)
    key = jax.random.key(0)
    (loss, logits, _), (expected, scores, _) = on_one_device(
        lambda: (way.loss(model, of_batch, key, jnp.asarray(0)), plain(model, of_batch, key))
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(logits, scores, atol=1e-5)
    attention, semantic = jnp.asarray([[[1.0, 3.0], [2.0, 2.0]]]), jnp.asarray([[[2.0, -2.0], [4.0, 6.0]]])
    np.testing.assert_array_equal(way.coupled(attention, semantic), minmax(attention) * semantic)
    assert jnp.abs(way.coupled(attention, semantic) - TSCAM().coupled(attention, semantic)).max() > 1


@pytest.mark.slow
def test_the_network_is_used_without_the_layers():
    with_layers, without = tiny(SCM()), tiny(SCM(layers=0))
    found, expected = (at_once(method_of(SCM(), model).localize, model, batch(0)) for model in (with_layers, without))
    np.testing.assert_array_equal(found.maps, expected.maps)
    np.testing.assert_array_equal(found.logits, expected.logits)


@pytest.mark.long
@pytest.mark.slow
def test_a_step_is_alike_on_one_device_and_on_four_and_trains_the_layers():
    before, after = assert_alike_on_one_device_and_on_four(SCM(layers=2), set())
    assert unchanged_parts(before, after) == set() and len(after.params["head"]["calibration"]) == 2


def test_there_is_one_trained_number_in_each_layer():
    of_scm, of_tscam = (parameters(of_published(way, ENCODERS, "deit_small")) for way in (SCM(), TSCAM()))
    assert of_scm - of_tscam == dataclasses.asdict(SCM())["layers"] == 4


def test_a_number_of_layers_below_none_is_named():
    with pytest.raises(InputError, match=r"^layers is -1; it must be at least 0$"):
        SCM(layers=-1)
