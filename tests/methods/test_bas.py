"""BAS: the ratio of scores, what the background's pass teaches, the map that localizes, and the network's layout."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import abstract_encoder
from at_once import at_once, in_inference
from flax import nnx
from one_device import CLASSES, InInference, batch, classifier, cross_entropy, on_one_device, parameters

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import explain
from fcam_jax.cams.score_maps import minmax, resize_bilinear
from fcam_jax.errors import InputError
from fcam_jax.methods.bas import BAS, BASHead, background_scores, covered, foregrounds
from fcam_jax.methods.classifier import SeedMaps
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.resnet import Small
from fcam_jax.runtime.random import weight_keys


def head(encoder, rngs):
    return BASHead(encoder.channels[-1], CLASSES, lower=encoder.channels[-2], width=6, rngs=rngs)


@pytest.fixture(scope="module")
def model():
    tiny = classifier(head)
    return InInference(tiny.encoder, tiny.head)


@pytest.mark.parametrize(("unsuppressed", "second"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_ratio_is_that_of_the_released_programs(unsuppressed, second):
    # Reference values computed with numpy alone.
    found = at_once(BAS(unsuppressed=unsuppressed).ratio, jnp.array([4.0, 2.0, 3.0]), jnp.array([1.0, 2.5, 2.4]))
    np.testing.assert_allclose(found, [0.2499999994, second, 0.7999999973], atol=1e-6)
    if not unsuppressed:
        areas = np.array([0.3, 0.6, 0.25])
        np.testing.assert_allclose((found + BAS().beta * areas).mean(), 0.8099999989, atol=1e-6)


def test_scores_that_no_longer_are_above_zero_suppress_nothing():
    np.testing.assert_array_equal(BAS().ratio(jnp.zeros(1), jnp.zeros(1)), [0])


def test_a_map_is_averaged_as_a_pool_of_2x2_leaves_it():
    pooled = jax.jit(covered, static_argnums=1)
    maps = np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
    expected = maps[:, :4].reshape(2, 2, 2, 3, 2).mean((2, 4))
    np.testing.assert_allclose(pooled(maps, (2, 3)), expected, rtol=1e-6)
    np.testing.assert_allclose(pooled(maps, (5, 6)), maps, rtol=1e-6)
    last = pooled(maps, (3, 3))[:, 2]  # a strided convolution goes on with a row alone
    np.testing.assert_allclose(last, maps[:, 4].reshape(2, 3, 2).mean(-1), rtol=1e-6)


@pytest.mark.slow
def test_the_loss_is_the_sum_of_its_terms(model):
    given, keys = batch(), jax.random.split(jax.random.key(0), 4)
    loss, scores, terms = on_one_device(BAS(beta=1.5).loss, model, given, jax.random.key(0), jnp.asarray(0))
    stages, expected = in_inference(model, given.images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    maps = np.asarray(at_once(foregrounds, model, stages))[np.arange(4), ..., np.asarray(given.labels)]
    hidden = on_one_device(background_scores, model, stages[-2], jnp.asarray(maps), keys)
    class_maps = np.asarray(at_once(lambda head, x: head.maps(x), model.head, stages[-1]))
    assert class_maps.min() == 0 < class_maps.max()
    np.testing.assert_allclose(scores, class_maps.mean((1, 2)), rtol=1e-4, atol=1e-5)
    own, hidden = (np.asarray(of)[np.arange(4), np.asarray(given.labels)] for of in (scores, hidden))
    by_hand = {
        "ce": cross_entropy(scores, given.labels),
        "foreground": cross_entropy((class_maps * maps[..., None]).mean((1, 2)), given.labels),
        "suppression": np.where(hidden >= own, 0, hidden / (own + 1e-8)).mean(),
        "area": maps.mean(),
    }
    for name, value in by_hand.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    whole = by_hand["ce"] + 0.5 * by_hand["foreground"] + by_hand["suppression"] + 1.5 * by_hand["area"]
    np.testing.assert_allclose(loss, whole, rtol=1e-4)


@pytest.mark.slow
def test_the_background_teaches_the_foreground_alone_and_changes_no_statistics():
    graph, params, rest = nnx.split(classifier(head), nnx.Param, ...)
    given, keys = batch(), jax.random.split(jax.random.key(0), 4)

    def scores(params, left):
        model = nnx.merge(graph, params, rest, copy=True)
        stages, scores = model(given.images, train=True)
        before = nnx.state(model, nnx.BatchStat)
        maps = left * foregrounds(model, stages)[..., 0]
        found = background_scores(model, stages[-2], maps, keys)
        return found.sum(), (before, nnx.state(model, nnx.BatchStat), scores, found)

    gradients, (before, after, *_) = on_one_device(jax.grad(scores, has_aux=True), params, 1.0)
    moved = {path[:3] for path, leaf in nnx.to_flat_state(gradients) if np.abs(leaf[...]).max() > 0}
    assert {path[1] for path in moved if path[0] == "head"} == {"foreground"}
    # What the map M is of, and not the stage after it.
    assert {path[2] for path in moved if path[:2] == ("encoder", "blocks")} == {0, 1}
    jax.tree.map(np.testing.assert_array_equal, before, after)

    _, (*_, of_image, of_all_features) = on_one_device(scores, params, 0.0)
    np.testing.assert_allclose(of_image, of_all_features, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [1, 2, 200])
def test_the_mean_of_the_highest_classes_localizes_and_gives_the_seeds(model, top_k):
    given, way = batch(), BAS(top_k=top_k)
    stages, scores = in_inference(model, given.images)
    maps, order = np.asarray(at_once(foregrounds, model, stages)), np.argsort(-np.asarray(scores))[:, :top_k]
    mean = np.stack([one[..., chosen].mean(-1) for one, chosen in zip(maps, order, strict=True)])
    localize = jax.jit(lambda model, given: way.localize(model, given, lambda *_: None))
    found = localize(model, given)
    grid = model.grid(2, (16, 16))
    np.testing.assert_allclose(found.maps, minmax(resize_bilinear(jnp.asarray(mean), (16, 16), grid)), atol=1e-5)
    np.testing.assert_array_equal(found.logits, scores)
    seeds = SeedMaps(way, CAMS["cam"]())
    target = explain(model, given.images, stages, given.labels, jax.random.split(jax.random.key(0), 4))
    np.testing.assert_allclose(at_once(seeds, target), mean, atol=1e-6)
    assert range(4)[seeds.finest] == 2
    other = dataclasses.replace(given, labels=(given.labels + 1) % CLASSES)
    np.testing.assert_array_equal(localize(model, other).maps, found.maps)


def built(name, **settings):
    encoder = ENCODERS[name](rngs=weight_keys(0), **BAS().encoder_settings(ENCODERS[name]), **settings)
    return Classifier(encoder, BAS().head(encoder, 200, dtype=jnp.float32, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("name", "sides", "count"),
    [
        # ResNet50 without its last layer, the map of the foreground, the head's three layers.
        ("resnet50", (28, 14), 23_508_032 + 1_843_400 + 18_875_392 + 9_438_208 + 205_000),
        ("vgg16", (28, 14), 14_714_688 + 921_800 + 4_719_616 + 9_438_208 + 205_000),
    ],
)
def test_at_a_final_stride_of_16_the_foreground_has_twice_the_side_of_the_top_map(name, sides, count):
    model = nnx.eval_shape(functools.partial(built, name, final_stride=16))
    assert parameters(model) == count and model.encoder.strides[-2:] == (8, 16)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
    stages, _ = nnx.eval_shape(lambda model, images: model(images, train=False), model, images)
    assert tuple(stage.shape[1] for stage in stages[-2:]) == sides


def test_a_resnet_s_pool_leaves_the_final_stride_of_8_as_it_is_and_its_cells_lie_between_those_below():
    plain, pooled = (nnx.eval_shape(functools.partial(built, "resnet18", final_stride=side)) for side in (8, 16))
    assert plain.encoder.strides == (2, 4, 8, 8, 8)
    lower, top = (pooled.grid(stage, (224, 224)).first[0] for stage in (-2, -1))
    np.testing.assert_allclose(224 * (top - lower), 4)


def test_biases_learn_twice_as_fast():
    rates = [BAS().learning_rate_factor(("head", "conv1", name), 10.0) for name in ("kernel", "bias")]
    assert rates == [10.0, 20.0]


def test_what_cannot_be_is_named():
    with pytest.raises(InputError, match=r"^beta is -1.0; it must be at least 0$"):
        BAS(beta=-1.0)
    with pytest.raises(InputError, match="set pool=mean"):
        BAS().head(abstract_encoder("deit_tiny"), 3)
    patches = abstract_encoder("deit_tiny", pool="mean")
    assert nnx.eval_shape(lambda: BAS().head(patches, 3, rngs=nnx.Rngs(0))).foreground.in_features == 192
    assert BAS().encoder_settings(Small) == {}
