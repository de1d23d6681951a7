"""DANet: its levels, the two terms of the loss, what it has without a hierarchy, and the map that localizes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import replicated
from abstract import abstract_encoder
from at_once import at_once, in_inference, on_devices
from filled import filled
from flax import nnx
from one_device import CLASSES, InInference, batch, cross_entropy, on_one_device, parameters
from tiny_stages import STAGES, Tiny, decoder

from fcam_jax.cams import CAMS
from fcam_jax.cams.fusion import fused as of_stages
from fcam_jax.cams.score_maps import resample, score_map
from fcam_jax.data.cub_families import CUB_FAMILIES, CUB_ORDERS
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ClassifierMethod, SeedMaps
from fcam_jax.methods.danet import DANet, divergence, drawn, fused, of_groups, scores
from fcam_jax.models import ENCODERS
from fcam_jax.models.fcam import FCAM
from fcam_jax.runtime.random import weight_keys

WAY = DANet(parents=(0, 1, 2), roots=(0, 1, 1), maps=2)
TERMS = {"root", "parent", "child", "divergence"}


def tiny():
    return filled(lambda: Tiny(rngs=nnx.Rngs(0)))


def sine(rate, start, *shape):
    return jnp.asarray(np.sin(rate * np.arange(np.prod(shape)) + start).reshape(shape), jnp.float32)


def channels_last(maps):
    return jnp.moveaxis(maps, -3, -1)


@pytest.mark.slow
def test_the_cosine_term_is_that_of_the_released_program():
    maps = channels_last(sine(0.43, 0.7, 2, 6, 4, 4))
    found = on_one_device(divergence, maps)
    np.testing.assert_allclose(found, 0.16205178, atol=1e-6)  # reference value computed with numpy alone
    np.testing.assert_allclose(on_one_device(divergence, maps[..., :1].repeat(6, axis=-1)), 1, atol=1e-6)
    one, other = np.eye(16).reshape(16, 4, 4)[:2]
    pairs = jnp.asarray(np.stack([one, one, other, other], axis=-1)[None], jnp.float32)
    np.testing.assert_allclose(on_one_device(divergence, pairs), 1 / 3, atol=1e-6)
    assert on_one_device(divergence, pairs[..., :1]) == 0  # no pair
    np.testing.assert_allclose(on_devices(2, divergence, maps), found, atol=1e-6)


def test_maps_of_levels_are_added_at_the_cells_of_the_first():
    root, parent, child = sine(0.3, 0.4, 1, 4, 4, 4), sine(0.7, 0.2, 1, 4, 2, 2), sine(0.5, 0.1, 1, 4, 2, 2)
    found = at_once(fused, [channels_last(one) for one in (root, parent, child)])
    expected = [  # reference values computed with numpy alone
        [0.803725, 0.852941, 0.875014, 0.871527],
        [0.906485, 0.998905, 1.061151, 1.090670],
        [1.071329, 1.066586, 1.140918, 1.195253],
        [1.224769, 1.207955, 1.199776, 1.270600],
    ]
    np.testing.assert_allclose(found[0], expected, atol=2e-6)


def test_half_of_all_maps_are_drawn_for_all_images_alike():
    maps = [np.broadcast_to(np.arange(8.0) + 8 * level, (2, 4 - level, 4 - level, 8)) for level in range(3)]
    draw = jax.jit(drawn)
    first, second = (np.asarray(draw(maps, jax.random.key(seed))) for seed in (0, 1))
    assert first.shape == (2, 4, 4, 12) and len(set(first[0, 0, 0].round())) == 12
    np.testing.assert_allclose(first, np.broadcast_to(first[:1, :1, :1], first.shape), atol=1e-5)
    assert set(first[0, 0, 0].round()) != set(second[0, 0, 0].round())


def test_cub_has_37_families_in_11_orders():
    assert (len(CUB_FAMILIES), max(CUB_FAMILIES), max(CUB_ORDERS)) == (200, 36, 10)
    assert len(set(zip(CUB_FAMILIES, CUB_ORDERS, strict=True))) == 37
    # Albatrosses, an ani, auklets, blackbirds and a bobolink, buntings; the last ones are wrens and a yellowthroat.
    assert CUB_FAMILIES[:17] == (0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4)
    assert CUB_FAMILIES[-8:] == (36,) * 7 + (27,) and CUB_ORDERS[-8:] == (3,) * 8


@functools.cache
def head_of(name, hierarchy, classes, maps):
    way = DANet(hierarchy=hierarchy, maps=maps)
    encoder = nnx.eval_shape(lambda: ENCODERS[name](rngs=weight_keys(0), **way.encoder_settings(ENCODERS[name])))
    return nnx.eval_shape(lambda: way.head(encoder, classes, dtype=jnp.float32, rngs=nnx.Rngs(0)))


@pytest.mark.slow
def test_levels_have_the_parameters_of_the_released_program():
    head = head_of("vgg16", "cub", 200, 8)
    assert [parameters(level) for level in (*head.coarser, head.child)] == [3_585_112, 14_461_224, 15_797_824]
    of_inception = head_of("inceptionv3", "cub", 200, 4)
    widths = [
        (level.conv1.in_features, level.conv2.out_features) for level in (*of_inception.coarser, of_inception.child)
    ]
    assert widths == [(192, 256), (288, 384), (768, 1024)]
    assert [level.out.out_features for level in of_inception.coarser] == [44, 148]
    assert [level.out.out_features for level in head_of("vgg16", "cub", 50, 8).coarser] == [64, 160]  # of 50 species
    assert not head_of("vgg16", "", 200, 8).coarser


@pytest.mark.slow
def test_the_loss_is_half_of_the_levels_cross_entropies_and_the_cosine_term():
    made = replicated.network(WAY, tiny())
    model, given = InInference(made.encoder, made.head), batch()
    loss, logits, terms = on_one_device(WAY.loss, model, given, jax.random.key(0), jnp.asarray(0))

    def levels(model):
        stages, scores = model(given.images, train=False)
        return [level(x) for level, x in zip((*model.head.coarser, model.head.child), stages, strict=True)], scores

    expected, in_full = at_once(levels, model)
    right = [np.array(one)[np.asarray(given.labels)] for one in ((0, 1, 1), (0, 1, 2), (0, 1, 2))]
    for name, maps, groups in zip(("root", "parent", "child"), expected, right, strict=True):
        np.testing.assert_allclose(terms[name], cross_entropy(scores(maps), groups), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        loss, (terms["root"] + terms["parent"] + terms["child"]) / 2 + 0.01 * terms["divergence"], rtol=1e-5
    )
    np.testing.assert_allclose(logits, in_full, rtol=1e-4, atol=1e-5)
    assert terms.keys() == TERMS and 0 < terms["divergence"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("way", [WAY, DANet(maps=2)], ids=["hierarchy", "classes alone"])
def test_it_localizes_and_gives_seeds_by_the_fused_maps(way):
    model, given = replicated.network(way, tiny()), batch()
    first = 0 if way.parents else 2
    source, top = (model.grid(stage, (16, 16)) for stage in (first, 2))

    def expected_maps(model, stages):
        levels = [(model.head.child(stages[2]), given.labels)]
        if way.parents:
            groups = [jnp.asarray(one)[given.labels] for one in ((0, 1, 1), (0, 1, 2))]
            coarser = [level(x) for level, x in zip(model.head.coarser, stages[:2], strict=True)]
            levels = [*zip(coarser, groups, strict=True), *levels]
        maps = fused([of_groups(*level) for level in levels])
        of_cells = resample(maps, (4, 4), source, top)
        return score_map(maps, (16, 16), "fcam", source), score_map(of_cells, (16, 16), "fcam", top)

    def of_way(model):
        method = dataclasses.replace(STAGES["fcam"].method, cam=SeedMaps(way, of_stages(CAMS["cam"](), (), 3)))
        stages, logits = model(given.images, train=False)
        whole = FCAM(model, decoder(model.encoder))
        seeds = method.seed_source(whole, stages, given, jax.random.split(jax.random.key(0), 4))
        return ClassifierMethod(CAMS["cam"](), "protocol", (), 1.0, way).localize(model, given), seeds, logits

    found, seeds, logits = at_once(of_way, model)
    maps, expected = at_once(expected_maps, model, in_inference(model, given.images)[0])
    np.testing.assert_allclose(found.maps, maps, atol=1e-5)
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_allclose(seeds, expected, atol=1e-5)


@pytest.mark.slow
def test_it_is_trained_alike_on_one_device_and_on_four_and_every_level_learns():
    before, one, logged = replicated.assert_alike_on_four(WAY, tiny)
    assert logged[0].keys() == TERMS | {"loss", "accuracy"}
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (one.params, before.params)), strict=True))


def test_biases_learn_twice_as_fast():
    assert WAY.learning_rate_factor(("head", "child", "conv1", "bias"), 10.0) == 20.0
    assert WAY.learning_rate_factor(("head", "child", "conv1", "kernel"), 10.0) == 10.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hierarchy": "wordnet"}, r"^hierarchy is 'wordnet'; known: , cub$"),
        ({"parents": (0, 1)}, r"^parents has 2 and roots 0 entries; each needs a whole number a class, from 0 on$"),
        ({"parents": (0, 0), "roots": (0, 1)}, r"^roots has several for the parent 0; give it one$"),
        ({"maps": 0}, r"^maps is 0; it must be at least 1$"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        DANet(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parents": ("a", "b"), "roots": (0, 1)}, r"^parents has 2 and roots 2 entries; each needs a whole number"),
        ({"parents": (0.5, 1.5), "roots": (0, 1)}, r"^parents has 2 and roots 2 entries; each needs a whole number"),
        ({"hierarchy": ["cub"]}, r"^hierarchy is \['cub'\]; known: "),
    ],
)
def test_a_setting_of_another_type_is_named(request, settings, message):
    if request.config.getoption("--jaxtyping-packages"):
        pytest.skip("types that are checked while tests run refuse it first")
    with pytest.raises(InputError, match=message):
        DANet(**settings)


def test_a_hierarchy_of_too_few_classes_and_a_head_on_a_token_are_refused():
    with pytest.raises(InputError, match=r"^classifier.danet has parents of 2 classes, and the data has 3"):
        DANet(parents=(0, 1), roots=(0, 1)).head(tiny(), CLASSES, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"^classifier.danet.roots is the same of all classes"):
        DANet(parents=(0, 1, 1), roots=(0, 0, 0)).head(tiny(), CLASSES, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"sees a class token"):
        WAY.head(abstract_encoder("deit_tiny"), CLASSES, rngs=nnx.Rngs(0))
