import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from fcam_jax.seeds.draws import blocks, draw_in_blocks, draw_uniform
from fcam_jax.seeds.sampling import BACKGROUND, FOREGROUND, SeedSettings, draw_seeds

BLOCKS = SeedSettings(0.5, 3, 5, 0.15, 0.0, draw="blocks", block_size=0.2)
TIMES = 3000
# A region of 14 pixels in five blocks of 4 x 4, of which those at the right border are 4 x 2: one weighs little.
WEIGHTS = np.zeros((8, 10), np.float32)
WEIGHTS[1, 1] = WEIGHTS[2:4, 4:6] = WEIGHTS[5, 0:2] = WEIGHTS[5:8, 5] = WEIGHTS[6:8, 8:10] = 1.0
WEIGHTS[5, 0:2] = 0.25, 0.75
BLOCK = np.arange(8)[:, None] // 4 * 3 + np.arange(10) // 4


def many(draw, weights=WEIGHTS, **settings):
    keys = jax.random.split(jax.random.key(0), TIMES)
    return np.asarray(
        jax.jit(lambda keys: draw(keys, jnp.broadcast_to(weights, (TIMES, *weights.shape)), **settings))(keys)
    )


def drawn_seeds(keys, maps, settings):
    return np.asarray(jax.jit(draw_seeds, static_argnums=2)(keys, maps, settings))


def within_five_deviations(hits, expected):
    return (np.abs(hits - expected) <= 5 * np.sqrt(expected)).all()


def test_blocks_cover_every_pixel_once_at_its_place():
    places = blocks((7, 10), 4)
    assert places.shape == (6, 16)
    inside = places[places < 70]
    np.testing.assert_array_equal(np.sort(inside), np.arange(70))
    np.testing.assert_array_equal(places[4][:12], [44, 45, 46, 47, 54, 55, 56, 57, 64, 65, 66, 67])


@pytest.mark.slow
def test_one_pixel_is_one_of_a_random_block_by_weight():
    hits = many(draw_in_blocks, count=1, block_size=4).sum(0)
    assert hits.sum() == TIMES and not hits[WEIGHTS == 0].any()
    expected = WEIGHTS.copy()
    for number in np.unique(BLOCK[WEIGHTS > 0]):
        expected[number == BLOCK] *= TIMES / 5 / WEIGHTS[number == BLOCK].sum()
    assert within_five_deviations(hits, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "per_block"), [(5, (1, 1)), (7, (1, 2)), (99, (1, 4))])
def test_blocks_give_in_turn_what_they_have(count, per_block):
    drawn = many(draw_in_blocks, count=count, block_size=4)
    assert (drawn.sum((1, 2)) == min(count, 14)).all() and not drawn[:, WEIGHTS == 0].any()
    of_block = np.stack([drawn[:, number == BLOCK].sum(1) for number in np.unique(BLOCK[WEIGHTS > 0])], 1)
    assert (of_block.min(), of_block.max()) == per_block
    # Nobody gives another pixel before all have given theirs, or have none left.
    held = np.array([(WEIGHTS[number == BLOCK] > 0).sum() for number in np.unique(BLOCK[WEIGHTS > 0])])
    most = of_block.max(1, keepdims=True)
    assert (of_block >= np.minimum(most - 1, held)).all()


def test_blocks_are_chosen_with_equal_probability():
    drawn = many(draw_in_blocks, count=2, block_size=4)
    of_block = np.stack([drawn[:, number == BLOCK].sum(1) for number in np.unique(BLOCK[WEIGHTS > 0])], 1)
    pairs = (of_block.T @ of_block)[np.triu_indices(5, 1)]
    assert pairs.sum() == TIMES and within_five_deviations(pairs, np.full(10, TIMES / 10))


@pytest.mark.slow
def test_a_block_as_large_as_the_image_is_the_uniform_draw():
    in_one, anywhere = (
        many(draw, count=1, **settings).sum(0)
        for draw, settings in ((draw_in_blocks, {"block_size": 64}), (draw_uniform, {}))
    )
    expected = TIMES * WEIGHTS / WEIGHTS.sum()
    assert within_five_deviations(in_one, expected) and within_five_deviations(anywhere, expected)


@pytest.mark.slow
def test_an_empty_region_gives_nothing():
    assert not many(draw_in_blocks, np.zeros((5, 5), np.float32), count=2, block_size=2).any()


def slopes(count):
    """Maps that rise from one side, in [0, 1], each in a direction of its own."""
    directions = np.random.default_rng(0).normal(size=(count, 2, 1, 1))
    y, x = np.mgrid[:18, :22]
    maps = directions[:, 0] * y + directions[:, 1] * x
    maps -= maps.min((1, 2), keepdims=True)
    return jnp.asarray(maps / maps.max((1, 2), keepdims=True), jnp.float32)


@pytest.mark.slow
def test_an_images_seeds_from_blocks_do_not_depend_on_its_batch_or_device():
    maps, keys = slopes(8), jax.random.split(jax.random.key(5), 8)
    whole = drawn_seeds(keys, maps, BLOCKS)
    assert ((whole == FOREGROUND).sum((1, 2)) == 3).all() and ((whole == BACKGROUND).sum((1, 2)) == 5).all()
    np.testing.assert_array_equal(whole[2:4], drawn_seeds(keys[2:4], maps[2:4], BLOCKS))
    spread = jax.P("data")
    mapped = jax.shard_map(
        lambda keys, maps: draw_seeds(keys, maps, BLOCKS),
        mesh=jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=spread,
        out_specs=spread,
    )
    np.testing.assert_array_equal(whole, jax.jit(mapped)(keys, maps))


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "draw"), [("otsu", "uniform"), ("li", "blocks")])
def test_seeds_of_a_bfloat16_map_are_those_of_its_values(draw, threshold):
    settings = dataclasses.replace(BLOCKS, draw=draw, threshold=threshold)
    maps, keys = slopes(6).astype(jnp.bfloat16), jax.random.split(jax.random.key(1), 6)
    np.testing.assert_array_equal(
        drawn_seeds(keys, maps, settings), drawn_seeds(keys, maps.astype(jnp.float32), settings)
    )
