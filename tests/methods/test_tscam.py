"""TS-CAM: reference values, the closed forms of its map, the loss, and F-CAM on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once, in_inference
from flax import nnx
from on_tokens import (
    DEPTH,
    assert_alike_on_one_device_and_on_four,
    method_of,
    of_published,
    seeds_of_fcam,
    tiny,
    unchanged_parts,
)
from one_device import conv3x3, parameters
from tiny_stages import batch

from fcam_jax.cams.score_maps import minmax, resize_bilinear, score_map
from fcam_jax.configuration import defaults
from fcam_jax.configuration.components import choose
from fcam_jax.errors import InputError
from fcam_jax.methods.tscam import TSCAM, TokenHead, attended, class_attention
from fcam_jax.models import ENCODERS
from fcam_jax.models.resnet import Small

# Reference values computed with NumPy alone: `tscam_attention`, `tscam_map`, `tscam_logits` of three blocks with two
# heads, a class token and 4 x 4 patches, and of class maps of three classes.
LOGITS = 2 * np.sin(0.37 * np.arange(3 * 2 * 17 * 17) + 0.1).reshape(3, 1, 2, 17, 17)
MATRICES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
SEMANTIC = 1.5 * np.sin(0.9 * np.arange(48) + 0.2).reshape(1, 3, 4, 4)
ATTENTION = [
    [0.310849, 0.462555, 0.548134, 0.508079],
    [0.371320, 0.221370, 0.114311, 0.055543],
    [0.027999, 0.016175, 0.011660, 0.011062],
    [0.013931, 0.022425, 0.042794, 0.087922],
]
MAP_OF_CLASS_1 = [
    [0.417219, 0.143254, -0.524652, -0.761948],
    [-0.336880, 0.082294, 0.156540, 0.073913],
    [0.007979, -0.015794, -0.017478, -0.009812],
    [0.005519, 0.030936, 0.056441, 0.022875],
]
SCORES = [0.1058, 0.102315, -0.158967]


@pytest.fixture(scope="module")
def model():
    """A network that attends to some patches more than to others."""
    model = tiny(TSCAM())
    for block in model.encoder.blocks:
        block.attn.qkv.kernel[...] *= 20
    return model


def test_attention_and_map_are_the_recorded_ones():
    found = sum(class_attention(jnp.asarray(one)) for one in MATRICES)[:, 1:].reshape(1, 4, 4)
    np.testing.assert_allclose(found[0], ATTENTION, atol=2e-6)
    np.testing.assert_allclose(TSCAM().coupled(found, jnp.asarray(SEMANTIC[:, 1]))[0], MAP_OF_CLASS_1, atol=2e-6)
    np.testing.assert_allclose(SEMANTIC.mean((0, 2, 3)), SCORES, atol=1e-6)


def test_the_map_does_not_hang_on_the_order_of_heads_and_is_not_scaled_before_the_product():
    found, turned = (sum(class_attention(jnp.asarray(one)) for one in of) for of in (MATRICES, MATRICES[:, :, ::-1]))
    np.testing.assert_allclose(found, turned, rtol=1e-6)
    attention, semantic = jnp.asarray(ATTENTION)[None], jnp.asarray(SEMANTIC[:, 0])
    more = TSCAM().coupled(attention, semantic + 3) - TSCAM().coupled(attention, semantic)
    np.testing.assert_allclose(more, 3 * attention, atol=1e-5)


@pytest.mark.slow
def test_blocks_that_attend_evenly_leave_the_class_map():
    model, given = tiny(TSCAM()), batch(0)
    for block in model.encoder.blocks:
        block.attn.qkv.kernel[...] = jnp.zeros_like(block.attn.qkv.kernel[...])

    def of_encoder(model):
        _, attention = attended(model.encoder, model.normalize(given.images), train=False)
        own = model.activation(model.stages(model.normalize(given.images))[-1].patches, jnp.asarray(given.labels))
        return attention, minmax(resize_bilinear(own, (16, 16)))

    attention, expected = at_once(of_encoder, model)
    np.testing.assert_allclose(attention, DEPTH / 5, rtol=1e-6)  # of a class token and four patches
    found = at_once(method_of(TSCAM(), model).localize, model, given)
    np.testing.assert_allclose(found.maps, expected, atol=1e-4)


@pytest.mark.slow
def test_scores_are_the_means_of_plain_convolutions_of_the_patches(model):
    images = batch(0).images
    stages, logits = in_inference(model, images)
    maps = conv3x3(model.head.conv, np.asarray(stages[-1].patches, np.float64))
    np.testing.assert_allclose(logits, maps.mean((1, 2)), rtol=1e-3, atol=1e-5)
    labels = jnp.asarray(batch(0).labels)
    expected = maps[np.arange(8), ..., np.asarray(labels)]
    found = at_once(lambda model, patches: model.activation(patches, labels), model, stages[-1].patches)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_it_localizes_by_the_product_and_f_cam_draws_its_seeds_from_it(model):
    given = batch(0)
    labels = jnp.asarray(given.labels)

    def parts(model):
        inputs = model.normalize(given.images)
        attention = sum(block.matrices.mean(axis=1)[:, 0, 1:] for block in model.attentions(inputs)).reshape(8, 2, 2)
        return attention, attention * model.activation(model.stages(inputs)[-1].patches, labels)

    found = at_once(method_of(TSCAM(), model).localize, model, given)
    attention, maps = at_once(parts, model)
    assert attention.std() > 0.01
    np.testing.assert_allclose(found.maps, minmax(resize_bilinear(maps, (16, 16))), atol=1e-4)
    np.testing.assert_allclose(found.logits, in_inference(model, given.images)[1], atol=1e-5)
    np.testing.assert_allclose(seeds_of_fcam(TSCAM(), model, given), score_map(maps, (16, 16), "fcam"), atol=1e-4)


@pytest.mark.slow
def test_a_step_is_alike_on_one_device_and_on_four_and_trains_all_of_it():
    before, after = assert_alike_on_one_device_and_on_four(TSCAM(), set())
    assert unchanged_parts(before, after) == set()
    assert after.params["head"]["conv"]["kernel"].shape == (3, 3, 12, 3)


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("deit_tiny", 200, 345_800),
        ("deit_small", 200, 691_400),
        ("deit_base", 200, 1_382_600),
        ("deit_small", 1000, 3_457_000),
    ],
)
def test_parameters_are_as_many_as_in_the_released_program(name, classes, count):
    head = nnx.eval_shape(lambda: TokenHead(ENCODERS[name].args[0].width, classes, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    assert parameters(head) == count


def test_the_network_is_the_transformer_and_the_head():
    network = of_published(TSCAM(), ENCODERS, "deit_tiny")
    assert parameters(network) == 5_717_416 - 193_000 + 345_800 and network.cam_stage == -1


def test_it_needs_attention():
    with pytest.raises(InputError, match=r"^TS-CAM reads .*, and Small has none; choose one by .*encoder=deit_small$"):
        TSCAM().head(Small((4, 4, 4, 4), rngs=nnx.Rngs(0)), 3, dtype=jnp.float32, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("before", "args", "encoder"),
    [
        ("resnet50", "method=tscam", "deit_small"),
        ("vit_tiny", "method=tscam", "vit_tiny"),
        ("resnet50", "vgg16,method=tscam", "vgg16"),
        ("resnet50", "method=adl", "resnet50"),
    ],
)
def test_it_brings_its_encoder_where_none_of_that_kind_is_chosen(before, args, encoder):
    config = defaults()
    choose(config, f"encoder={before}")
    choose(config, args)
    assert config.model.encoder == encoder
    assert config.model.final_stride == (16 if "it_" in encoder else 8)


@pytest.mark.slow
def test_the_transformer_takes_its_path_drops():
    model = tiny(TSCAM(), drop_path=0.5)
    keys = jax.random.split(jax.random.key(0), 8)
    of_both = jax.jit(lambda model: [model(batch(0).images, train=train, rng=keys)[1] for train in (False, True)])
    kept, dropped = of_both(model)
    assert np.abs(kept - dropped).max() > 0
