"""Necks on made stages of tokens: their sizes and parameters by closed forms, transposed convolutions by XLA's, and a
decoder on them that makes a map of the image's size, whatever the patch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models.decoder import WIDTHS, Decoder
from fcam_jax.models.import_weights import export_weights, load_decoder, save_weights
from fcam_jax.models.token_neck import NECKS, Enlarge, is_plain
from fcam_jax.runtime.random import weight_keys

STAGES = 6  # the image, and five of tokens


def plain(width, patch):
    """Channels and strides of the stages of a transformer."""
    return (3, *[width] * (STAGES - 1)), (1, *[patch] * (STAGES - 1))


def abstract(name, width, patch):
    return nnx.eval_shape(lambda: NECKS[name](*plain(width, patch), rngs=weight_keys(0)))


def shapes(width, patch, side, batch=2):
    tokens = jax.ShapeDtypeStruct((batch, side // patch, side // patch, width), jnp.float32)
    return [jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32), *[tokens] * (STAGES - 1)]


def made(width, patch, side, batch=2):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=one.shape), jnp.float32) for one in shapes(width, patch, side, batch)]


def count(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def stem_parameters():
    return 27 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64


@pytest.mark.parametrize(
    ("strides", "expected"),
    [
        ((1, 16, 16, 16, 16, 16), True),
        ((1, 14, 14), True),
        ((1, 2, 4, 8), False),  # VGG16
        ((2, 4, 8, 8, 8), False),
        ((8, 8, 8), False),
        ((1, 8), False),
        ((16,), False),
    ],
)
def test_a_neck_is_for_encoders_whose_stages_have_one_stride(strides, expected):
    assert is_plain(strides) is expected


@pytest.mark.parametrize("name", sorted(NECKS))
@pytest.mark.parametrize(
    ("patch", "side", "sizes"),
    [
        (16, 224, (224, 112, 56, 28, 14, 7)),
        (14, 224, (256, 128, 64, 32, 16, 8)),  # multiples of the tokens
        (8, 224, (224, 112, 56, 28, 14)),  # the stem's second map would be a level's
        (32, 224, (224, 112, 28, 14, 7, 3)),
    ],
)
def test_the_maps_have_the_published_sizes(name, patch, side, sizes):
    if (name, patch) == ("reassemble", 32):
        sizes = (*sizes[:-1], 4)  # a convolution of stride 2 rounds up where max-pooling rounds down
    graph, state = nnx.split(abstract(name, 96, patch))
    found = jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x, train=False), state, shapes(96, patch, side))
    neck = nnx.merge(graph, state)
    assert tuple(x.shape[1] for x in found) == tuple(x.shape[2] for x in found) == sizes
    assert tuple(x.shape[3] for x in found) == neck.channels
    assert len(neck.strides) == len(sizes) and neck.strides[0] == 1


@pytest.mark.parametrize("width", [192, 384, 768])
def test_reassembling_has_the_parameters_of_its_layers(width):
    levels = [width // 8, width // 4, width // 2, width]
    project = sum(width * level + level for level in levels)
    enlarge = 16 * levels[0] ** 2 + levels[0] + 4 * levels[1] ** 2 + levels[1]
    halve = 9 * levels[3] ** 2 + levels[3]
    neck = abstract("reassemble", width, 16)
    assert neck.channels == (32, 64, *levels)  # (96, 192, 384, 768) for the base size
    assert count(neck) == project + enlarge + halve + stem_parameters()


@pytest.mark.parametrize("width", [192, 384, 768])
def test_the_simple_pyramid_has_the_parameters_of_its_layers(width):
    half, quarter = width // 2, width // 4
    enlarge = (4 * width * half + half) + 2 * half + (4 * half * quarter + quarter) + (4 * width * half + half)
    ends = sum(size * 256 + 512 + 9 * 256**2 + 512 for size in (quarter, half, width, width))
    neck = abstract("pyramid", width, 16)
    assert neck.channels == (32, 64, 256, 256, 256, 256)
    assert count(neck) == enlarge + ends + stem_parameters()


@pytest.mark.slow
@pytest.mark.parametrize("side", [2, 4])
def test_enlarging_is_the_transposed_convolution(side):
    layer = Enlarge(5, 3, side, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.array([1.0, -2.0, 3.0])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), jnp.float32)
    # XLA's correlates with the kernel over dilated values, which turns it round.
    expected = jax.lax.conv_transpose(
        x, layer.kernel[::-1, ::-1], (side, side), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer(x), expected + layer.bias[...], atol=1e-5)
    bound = np.sqrt(3 / 5)  # a value has one input value a channel
    assert 0.8 * bound < jnp.abs(layer.kernel[...]).max() <= bound


@pytest.mark.slow
def test_levels_are_of_the_tokens_of_their_own_depth(filled):
    neck = filled(lambda: NECKS["reassemble"](*plain(16, 16), rngs=weight_keys(0)))
    graph, state = nnx.split(neck)
    given = made(16, 16, 32, batch=1)
    run = jax.jit(lambda stages: nnx.merge(graph, state)(stages, train=False))
    before = run(given)
    changes = {}
    for stage in range(STAGES):
        other = [x + 1.0 if place == stage else x for place, x in enumerate(given)]
        changes[stage] = [n for n, (a, b) in enumerate(zip(before, run(other), strict=True)) if (a != b).any()]
    assert changes == {0: [0, 1], 1: [2], 2: [3], 3: [4], 4: [], 5: [5]}


@pytest.mark.parametrize("name", sorted(NECKS))
@pytest.mark.parametrize(("patch", "side", "blocks"), [(16, 64, 5), (14, 56, 5), (8, 32, 4), (32, 96, 6)])
def test_the_decoder_on_a_neck_makes_a_map_of_the_image_s_size(name, patch, side, blocks):
    decoder = nnx.eval_shape(lambda: Decoder(*plain(32, patch), neck=name, rngs=weight_keys(0)))
    assert len(decoder.blocks) == blocks
    assert tuple(block.conv2.conv.out_features for block in decoder.blocks) == (*WIDTHS, 16)[:blocks]
    graph, state = nnx.split(decoder)
    found = jax.eval_shape(
        lambda s, x: nnx.merge(graph, s)(x, (side, side), train=False), state, shapes(32, patch, side)
    )
    assert found.shape == (2, side, side, 2) and found.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NECKS))
def test_every_stage_that_is_taken_reaches_the_map_and_the_rest_may_be_missing(filled, name):
    decoder = filled(lambda: Decoder(*plain(16, 4), (6, 4, 4), neck=name, rngs=weight_keys(0)))
    graph, state = nnx.split(decoder)
    given = made(16, 4, 8, batch=1)
    taken = [x if place in decoder.takes else None for place, x in enumerate(given)]

    @jax.jit
    def energy(stages):
        return (nnx.merge(graph, state)(stages, (8, 8), train=False) ** 2).sum()

    gradients = jax.jit(jax.grad(energy))(given)
    assert energy(given) == energy(taken)
    # Patches of 4 pixels have levels up to the image's size: the stem is not needed.
    expected = [1, 2, 3, 5] if name == "reassemble" else [5]
    assert [place for place, g in enumerate(gradients) if (g != 0).any()] == expected


@pytest.mark.slow
def test_a_token_s_place_is_that_of_its_patch_also_where_the_grid_is_not_the_image_s(filled):
    """The centre of mass of what one token of the finest level changes lies on its patch of 14 pixels."""
    decoder = filled(lambda: Decoder(*plain(8, 14), (4, 4, 4, 4, 4), rngs=weight_keys(0)))
    graph, state = nnx.split(decoder)
    state = jax.tree.map(lambda leaf: jnp.asarray(np.abs(leaf)), state)  # nothing cancels
    side, place = 8 * 14, (5, 2)
    others = jnp.zeros((1, 8, 8, 8))

    @jax.jit
    def scores(tokens):
        stages = jnp.zeros((1, side, side, 3)), tokens, *[others] * (STAGES - 2)
        return nnx.merge(graph, state)(stages, (side, side), train=False)[0, ..., 1]

    token = np.zeros((1, 8, 8, 8), np.float32)
    token[0, place[0], place[1]] = 1.0
    change = np.asarray(scores(token)) - np.asarray(scores(others))
    grid = np.arange(side) + 0.5
    centre = [float((change.sum(axis) * grid).sum() / change.sum()) for axis in (1, 0)]
    np.testing.assert_allclose(centre, [(at + 0.5) * 14 for at in place], atol=2)


def test_a_decoder_with_its_neck_is_saved_and_loaded(filled, tmp_path):
    decoder = filled(lambda: Decoder(*plain(16, 8), (6, 4, 4, 4), rngs=weight_keys(0)))
    save_weights(export_weights(decoder), tmp_path / "decoder.safetensors")
    other = nnx.eval_shape(lambda: Decoder(*plain(16, 8), (6, 4, 4, 4), rngs=nnx.Rngs(1)))
    load_decoder(other, tmp_path)
    for one, same in zip(*(jax.tree.leaves(nnx.state(each)) for each in (decoder, other)), strict=True):
        np.testing.assert_array_equal(one, same)


def test_what_a_neck_cannot_take_is_told():
    with pytest.raises(
        InputError, match=r"^neck is 'reassemble', which joins four stages of tokens; this encoder has 2"
    ):
        Decoder((3, 8, 8), (1, 8, 8), rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="patches of 2 pixels are too small"):
        Decoder((3, 8, 8), (1, 2, 2), neck="pyramid", rngs=nnx.Rngs(0))
