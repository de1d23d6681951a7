"""SPG: masks of what a map is sure of, the side branches, the loss, and where gradients stop."""

import functools

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
from fcam_jax.methods.spg import SPG, SPGHead, guidance_mask, guide_places
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import GAP
from fcam_jax.runtime.random import weight_keys

TERMS = ("b2", "b1", "c")
mask_of = jax.jit(guidance_mask, static_argnums=(1, 2))


def side_branches(encoder, rngs):
    guides = [place.channels for place in guide_places(encoder)]
    return SPGHead(encoder.channels[-1], CLASSES, guides=guides, width=6, rngs=rngs)


@pytest.mark.parametrize(("low", "name"), [(0.01, "spg_mask_h07_l001"), (0.1, "spg_mask_h07_l01")])
def test_masks_are_those_of_the_released_program(shared, low, name):
    golden = np.load(shared / "golden" / "wsol_methods.npz")
    found = np.asarray(mask_of(golden["spg_attention"][:, 0].astype(np.float32), 0.7, low))
    np.testing.assert_array_equal(np.where(found < 0, 255, found), golden[name][:, 0])


@pytest.mark.parametrize("bright", [29, 30])
def test_a_foreground_of_few_pixels_is_taken_from_the_map_s_own_maximum(bright):
    rng = np.random.default_rng(0)
    maps = rng.random((1, 20, 20)).astype(np.float32) * 0.69
    maps.ravel()[rng.permutation(400)[:bright]] = 0.8
    found = np.asarray(mask_of(maps, 0.7, 0.1))
    foreground = maps > (0.7 if bright == 30 else np.float32(0.7) * np.float32(0.8))
    np.testing.assert_array_equal(found, np.where(maps < 0.1, 0, np.where(foreground, 1, -1)))
    assert (found == 1).sum() == bright or (bright == 29 and (found == 1).sum() > 40)


def test_background_wins_over_the_fallback_s_foreground():
    assert (np.asarray(mask_of(jnp.full((1, 4, 4), 0.005), 0.7, 0.01)) == 0).all()


@pytest.mark.slow
def test_the_loss_is_that_of_the_released_program(shared):
    golden = np.load(shared / "golden" / "wsol_methods.npz")
    features, labels = golden["spg_feat"].transpose(0, 2, 3, 1), golden["spg_label"]
    maps = features[np.arange(2), ..., labels], *(golden[f"spg_{name}"][:, 0] for name in ("b1", "b2", "c"))
    guided = functools.partial(SPG().guided, size=(224, 224))
    terms = on_one_device(guided, *map(jnp.asarray, maps))
    loss = cross_entropy(features.mean((1, 2)), labels) + sum(float(term) for term in terms.values())
    np.testing.assert_allclose(loss, golden["spg_loss"], rtol=1e-6)


@pytest.fixture(scope="module")
def maps():
    """The label's map and scores of B1, B2 and C; of the images' size, so that nothing is resized."""
    return jnp.asarray(np.random.default_rng(1).normal(size=(4, 2, 12, 12)) * 2, jnp.float32)


@pytest.mark.slow
def test_every_branch_learns_what_its_teacher_decides_and_no_teacher_learns(maps):
    def terms(maps):
        found = on_one_device(functools.partial(SPG().guided, size=(12, 12)), *maps)
        return jnp.stack([found[name] for name in TERMS])

    gradients = np.asarray(at_once(jax.jacobian(terms), maps))
    probabilities = 1 / (1 + np.exp(-np.asarray(maps, np.float64)))
    low, high = (extreme(np.asarray(maps[0]), axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
    teachers = (maps[0] - low) / (high - low), probabilities[2], probabilities[1:3].mean(0)
    expected = np.zeros((3, 4, 2, 12, 12))
    for term, (learner, teacher, thresholds) in enumerate(
        zip((2, 1, 3), teachers, ((0.7, 0.01), (0.5, 0.05), (0.7, 0.1)), strict=True)
    ):
        mask = np.asarray(mask_of(jnp.asarray(teacher, jnp.float32), *thresholds))
        assert {-1, 0, 1} == set(np.unique(mask))
        expected[term, learner] = np.where(mask < 0, 0, probabilities[learner] - mask) / (mask >= 0).sum()
    np.testing.assert_allclose(gradients, expected, atol=1e-6)


@pytest.mark.slow
def test_the_side_branches_are_plain_convolutions_with_shared_layers():
    sides = SPGHead(7, CLASSES, guides=(4, 5), width=6, rngs=nnx.Rngs(0)).sides
    rng = np.random.default_rng(0)
    lower, upper, top = (
        rng.normal(size=(2, side, side + 1, c)).astype(np.float32) for side, c in ((8, 4), (6, 5), (6, 7))
    )
    found = at_once(sides, lower, upper, top)

    def twice(own, x):
        hidden = np.maximum(conv3x3(sides.shared, np.maximum(conv3x3(own, x), 0)), 0)
        return conv1x1(sides.shared_map, hidden)[..., 0]

    expected = (
        twice(sides.b1, lower),
        twice(sides.b2, upper),
        conv1x1(sides.c_map, np.maximum(conv3x3(sides.c, top), 0))[..., 0],
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_loss_reads_the_places_of_the_encoder_and_the_label_s_map():
    tiny = classifier(side_branches)
    model, given = InInference(tiny.encoder, tiny.head), batch()
    loss, _, terms = on_one_device(SPG().loss, model, given, jax.random.key(0), jnp.asarray(0))
    stages, scores = in_inference(model, given.images)
    guidance = at_once(model.head.sides, *stages[1:])
    class_map = at_once(lambda model, x: model.activation(x, given.labels), model, stages[3])
    grids = [model.grid(stage, (16, 16)) for stage in (3, 1, 2, 3)]
    expected = on_one_device(functools.partial(SPG().guided, size=(16, 16), grids=grids), class_map, *guidance)
    for name in TERMS:
        np.testing.assert_allclose(terms[name], expected[name], rtol=1e-5)
    np.testing.assert_allclose(terms["ce"], cross_entropy(scores, given.labels), rtol=1e-5)
    np.testing.assert_allclose(loss, sum(terms.values()), rtol=1e-6)


def test_inference_costs_nothing_for_the_side_branches():
    def flops(head):
        graph, state = nnx.split(classifier(head))
        forward = jax.jit(lambda state, images: nnx.merge(graph, state)(images, train=False))
        return forward.lower(state, batch().images).compile().cost_analysis()["flops"]

    alone = flops(lambda encoder, rngs: GAP(encoder.channels[-1], CLASSES, background=False, rngs=rngs))
    assert flops(side_branches) == alone > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("vgg16", 28_977_162), ("resnet50", 61_671_690), ("inceptionv3", 37_634_986)]
)
def test_parameters_are_as_many_as_in_the_released_program(name, count):
    def build():
        encoder = ENCODERS[name](rngs=weight_keys(0), **SPG().encoder_settings(ENCODERS[name]))
        return Classifier(encoder, SPG().head(encoder, 200, dtype=jnp.float32, rngs=nnx.Rngs(0)))

    assert parameters(nnx.eval_shape(build)) == count


def test_a_threshold_outside_its_range_is_named():
    with pytest.raises(InputError, match=r"^b2 is 1.5"):
        SPG(b2=(1.5, 0.05))
