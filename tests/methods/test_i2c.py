"""I2C: pairs and their order, seeds, both distances, the memory of the classes, and the loss on devices."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once
from flax import nnx
from one_device import parameters
from replicated import assert_alike_on_four, trained
from tiny_stages import Tiny

from fcam_jax.errors import InputError
from fcam_jax.methods.i2c import I2C, ClassMemory, consistency, paired_order, pairs, seeds_of
from fcam_jax.models import ENCODERS
from fcam_jax.models.vit import Design, ViT8
from fcam_jax.runtime.random import weight_keys

TOKENS = Design(width=12, heads=2, grid=2, resampling="size", depth=4)
# Reference values computed with numpy alone.
SEEDS = np.sin(0.52 * np.arange(60) + 0.3).reshape(4, 5, 3).transpose(0, 2, 1).astype(np.float32)
BANK = np.array(
    [
        [0.47942554, 0.8084964, -0.68776616, -0.63126664, 0.85043662],
        [0.41211849, -0.95663502, -0.16560418, 0.99930939, -0.09190685],
    ]
)
CENTERS = np.array(
    [
        [0.66194358, 0.00210855, -0.66189805, -0.01640041, 0.66154393],
        [-0.65863238, -0.07342482, 0.65704697, 0.08761193, -0.65515523],
    ]
)
STEPS = CENTERS, [[1.3225646, 0.00421289, -1.32247363, -0.03276805, 1.32176609]], [[1.98318297, 0.00631722]]


def test_images_come_in_pairs_of_a_class_and_every_one_in_an_epoch():
    labels = np.array([0, 1, 2, 0, 1, 0, 2, 1, 1, 3])
    order = paired_order(labels, seed=1)
    places = [order(place) for place in range(36)]
    first, second = np.array(places[0::2]), np.array(places[1::2])
    np.testing.assert_array_equal(labels[first], labels[second])
    epochs = [collections.Counter(places[start : start + 12]) for start in (0, 12, 24)]
    # Classes of three and of one image are filled up to pairs.
    assert all(epoch.keys() == set(range(10)) and sorted(epoch.values())[-2:] == [2, 2] for epoch in epochs)
    assert places[:12] != places[12:24] and order(0) == places[0]
    assert [paired_order(labels, seed=2)(place) for place in range(36)] != places


def test_pairs_hang_neither_on_the_order_of_the_batch_nor_on_whole_classes():
    labels, index = np.array([2, 0, 2, 1, 2, 0, 0, 0]), np.arange(8)

    def found(rows):
        one, other, paired = map(np.asarray, at_once(pairs, labels[rows], index[rows]))
        return [(rows[a], rows[b]) for a, b, there in zip(one, other, paired, strict=True) if there]

    assert found(index) == [(1, 5), (6, 7), (0, 2)] == found(np.array([7, 3, 0, 4, 6, 1, 5, 2]))
    np.testing.assert_array_equal(at_once(pairs, jnp.zeros(3, int), jnp.arange(3))[2], [True, False, False])


def test_seeds_lie_above_the_threshold_are_different_and_repeat_where_there_are_few():
    keys = jax.random.split(jax.random.key(0), 3)
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0].ravel()[[2, 5, 7, 8, 11]] = 3, 4, 2.9, 4, 4
    maps[1].ravel()[[9, 12]] = 1, 0.8
    drawn = jax.jit(lambda maps, keys: seeds_of(maps, keys, 0.7, 3, raster=False))
    found = np.asarray(drawn(maps, keys))
    assert len(set(found[0])) == 3 and set(found[0]) <= {2, 5, 7, 8, 11} and set(found[1]) == {9, 12}
    np.testing.assert_array_equal(found[2], 0)
    other = drawn(maps, keys[::-1])
    assert (np.asarray(other)[0] != found[0]).any()
    raster = at_once(lambda maps: seeds_of(maps, keys, 0.7, 3, raster=True), maps)
    np.testing.assert_array_equal(raster, [[2, 5, 7], [9, 12, 9], [0, 0, 0]])


@jax.jit
def visited(memory, features, labels, index):
    """Both distances, and the memory after the visit."""
    return consistency(features, labels, index, memory), memory


def test_distances_and_memory_have_the_reference_s_values():
    memory, labels, index = ClassMemory(2, 5), np.array([0, 0, 1, 1]), np.arange(4)
    memory.centers[...], memory.visits[...] = jnp.asarray(BANK, jnp.float32), jnp.ones(2, int)
    found, _ = visited(memory, SEEDS, labels, index)
    np.testing.assert_allclose(found, [2.0254187, 1.4923975], rtol=1e-5)
    memory = ClassMemory(2, 5)
    for factor, expected in zip((1, 2, 3), STEPS, strict=True):
        _, memory = visited(memory, factor * SEEDS, labels, index)
        rows, columns = np.shape(expected)
        np.testing.assert_allclose(memory.centers[:rows, :columns], expected, rtol=1e-4)
    np.testing.assert_array_equal(memory.visits[...], 3)


def test_the_pairs_of_a_class_are_one_visit_with_their_mean():
    labels, features = np.array([1, 1, 1, 1, 0]), np.concatenate([SEEDS, SEEDS[:1]])
    _, memory = visited(ClassMemory(3, 5), features, labels, np.arange(5))
    np.testing.assert_allclose(memory.centers[...], [np.zeros(5), CENTERS.mean(0), np.zeros(5)], atol=1e-6)
    np.testing.assert_array_equal(memory.visits[...], [0, 1, 0])


def test_distances_are_those_of_plain_sums():
    memory = ClassMemory(2, 3)
    features = np.zeros((4, 2, 3), np.float32)
    features[1] += [3, 4, 0]
    labels, index = np.array([1, 1, 0, 0]), np.arange(4)
    (apart, away), memory = visited(memory, features, labels, index)
    np.testing.assert_allclose([apart, away], [2.5, 0], atol=1e-5)  # 5 and 0; a first visit counts as 0
    features[2:] += 2
    (apart, away), _ = visited(memory, features, labels, index)
    np.testing.assert_allclose([apart, away], [2.5, 12**0.5 / 2], atol=1e-5)


@pytest.mark.slow
def test_one_device_equals_four_and_the_memory_is_state():
    way = I2C(width=6, stochastic_weight=1.0, global_weight=1.0)
    _, after, logged = assert_alike_on_four(way, lambda: Tiny(rngs=nnx.Rngs(0)))
    assert logged[0].keys() == {"loss", "accuracy", "ce", "stochastic", "global"}
    assert logged[0]["stochastic"] > 0 and logged[0]["global"] == 0 < logged[1]["global"]
    assert after.rest["head"]["memory"]["visits"].max() == 2 and "memory" not in after.params["head"]


def test_parts_of_a_batch_and_a_class_token_are_refused():
    with pytest.raises(InputError, match=r"^train.accumulate"):
        trained(I2C(width=6), Tiny(rngs=nnx.Rngs(0)), 1, steps=1, accumulate=2)
    tokens = nnx.eval_shape(lambda: ViT8(TOKENS, rngs=nnx.Rngs(0)))
    with pytest.raises(InputError, match=r"^the head of ViT8 sees a class token"):
        I2C().head(tokens, 3, rngs=nnx.Rngs(0))


def test_biases_learn_twice_as_fast():
    way = I2C()
    assert way.learning_rate_factor(("head", "conv1", "bias"), 10.0) == 20.0
    assert way.learning_rate_factor(("head", "conv1", "kernel"), 10.0) == 10.0


@pytest.mark.parametrize(
    ("name", "count"), [("vgg16", 4_719_616), ("resnet50", 18_875_392), ("inceptionv3", 7_078_912)]
)
def test_parameters_are_as_many_as_in_the_released_program(name, count):
    def build():
        encoder = ENCODERS[name](rngs=weight_keys(0), **I2C().encoder_settings(ENCODERS[name]))
        return I2C().head(encoder, 200, dtype=jnp.float32, rngs=nnx.Rngs(0))

    assert parameters(nnx.eval_shape(build)) == count + 9_438_208 + 205_000


def test_a_setting_outside_its_range_is_named():
    with pytest.raises(InputError, match=r"^threshold is 2.0; it must lie in \[0, 1\]$"):
        I2C(threshold=2.0)
    with pytest.raises(InputError, match=r"^threshold is 1; it must be below 1"):
        I2C(threshold=1.0)
    with pytest.raises(InputError, match=r"^seeds is 0; it must be at least 1$"):
        I2C(seeds=0)
