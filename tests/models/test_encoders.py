"""Every encoder keeps the contract; parameter counts are those published for torchvision's and Keras' networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import FAMILIES
from abstract import abstract_encoder as abstract
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS
from fcam_jax.models.convnext import CONVNEXTS
from fcam_jax.models.heads import WGAP
from fcam_jax.models.inverted_residual import InvertedResiduals
from fcam_jax.models.resnet import Small
from fcam_jax.models.vit import VITS
from fcam_jax.runtime.random import weight_keys
from fcam_jax.types import DATA_AXIS


def stage_shapes(encoder, *size):
    graph, state = nnx.split(encoder)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)

    def maps(state, x):
        encoder = nnx.merge(graph, state)
        return [encoder.map_of(stage) for stage in encoder(x, train=False)]

    return [stage.shape for stage in jax.eval_shape(maps, state, images)]


def sides(name, side):
    """Sides of the stages at a final stride of 8, from the arithmetic of the layers that halve the map."""
    if name == "vgg16":  # 2x2 windows that must be whole
        return [side, side // 2, side // 4, side // 8]
    if name in CONVNEXTS:  # patches that must be whole
        return [side // 4, *[side // 4 // 2] * 3]
    if name in VITS:
        patch = abstract(name).strides[-1]
        return [side, *[-(-side // patch)] * 5]
    half = -(-side // 2)
    if name == "inceptionv3":  # 3x3 windows at every other position from -1 on, while their centre is in the map
        pooled = half // 2 + 1 if half % 2 == 0 else (half + 1) // 2
        top = pooled // 2 + 1 if pooled % 2 == 0 else (pooled + 1) // 2
        return [half, pooled, top, top, top]
    quarter, eighth = -(-side // 4), -(-side // 8)
    if name == "densenet121":  # the mean over 2x2 windows that must be whole
        eighth = quarter // 2
    return [half, quarter, eighth, eighth] + ([] if name == "small" else [eighth])


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (224, 224), (33, 47), (75, 50)])
@pytest.mark.parametrize("name", FAMILIES)
def test_stages_have_the_stated_channels_and_their_sides_for_any_image(name, size):
    encoder = abstract(name)
    rows, columns = (sides(name, side) for side in size)
    expected = [(2, h, w, c) for h, w, c in zip(rows, columns, encoder.channels, strict=True)]
    assert stage_shapes(encoder, *size) == expected
    assert encoder.strides[-1] == 8 or name in VITS
    for stride, row in zip(encoder.strides, rows, strict=True):
        assert abs(size[0] / stride - row) < 2


@pytest.mark.parametrize(
    "name, expected",
    [
        ("resnet50", [(64, 112), (256, 56), (512, 28), (1024, 28), (2048, 28)]),
        ("vgg16", [(64, 224), (128, 112), (256, 56), (1024, 28)]),
        ("inceptionv3", [(64, 112), (80, 57), (288, 29), (768, 29), (1024, 29)]),
    ],
)
def test_stages_at_224_are_those_of_the_released_program(name, expected):
    assert [(c, h) for _, h, _, c in stage_shapes(abstract(name), 224, 224)] == expected


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name, final_stride, expected",
    [
        (name, stride, expected)
        for name in ("resnet50", "densenet121", "mobilenet_v1_075")
        for stride, expected in ((8, [32, 16, 8, 8, 8]), (16, [32, 16, 8, 4, 4]), (32, [32, 16, 8, 4, 2]))
    ]
    + [
        ("vgg16", 8, [64, 32, 16, 8]),
        ("vgg16", 16, [64, 32, 16, 8, 4]),
        ("vgg16", 32, [64, 32, 16, 8, 4, 2]),
        ("inceptionv3", 16, [32, 17, 9, 5, 5]),
    ],
)
def test_final_stride_removes_the_last_subsamplings_only(name, final_stride, expected):
    encoder = abstract(name, final_stride=final_stride)
    assert [shape[1] for shape in stage_shapes(encoder, 64, 64)] == expected
    assert [64 // side for side in expected] == list(encoder.strides) or name == "inceptionv3"
    assert encoder.strides[-1] == final_stride


@pytest.mark.slow
def test_inception_at_its_own_stride_is_the_published_network():
    encoder = abstract("inceptionv3", final_stride=32)
    # Table 1 of the paper: 299 gives 147, 73, 35, 17 and 8.
    assert [shape[1:] for shape in stage_shapes(encoder, 299, 299)] == [
        (147, 147, 64),
        (73, 73, 80),
        (35, 35, 288),
        (17, 17, 768),
        (8, 8, 2048),
    ]
    assert encoder.new_layers == ()
    assert (encoder.mean[0], encoder.std[0]) == (127.5, 127.5)


@pytest.mark.parametrize("name, final_stride, size", [("vgg16", 8, (7, 40)), ("inceptionv3", 32, (75, 74))])
def test_images_that_leave_nothing_of_a_stage_are_refused(name, final_stride, size):
    with pytest.raises(InputError, match=f"images of {size[0]}x{size[1]} pixels are too small for"):
        stage_shapes(abstract(name, final_stride=final_stride), *size)


def test_an_impossible_final_stride_is_named():
    with pytest.raises(InputError, match="final_stride is 4; it must be 8, 16 or 32"):
        abstract("resnet18", final_stride=4)
    with pytest.raises(InputError, match=r"^final_stride is 16; that of the small encoder is 8"):
        abstract("small", final_stride=16)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name, parameters",
    [
        # torchvision's totals less the 1000-way layer; Keras' trainable totals without top.
        ("resnet18", 11_689_512 - 513_000),
        ("resnet34", 21_797_672 - 513_000),
        ("resnet50", 23_508_032),
        ("resnet101", 44_549_160 - 2_049_000),
        ("resnet152", 60_192_808 - 2_049_000),
        ("resnext50", 25_028_904 - 2_049_000),
        ("densenet121", 7_978_856 - 1_025_000),
        ("mobilenet_v1_100", 3_206_976),
        # The released program's, with the layers that localization adds.
        ("vgg16", 19_434_304),
        ("inceptionv3", 25_482_976),
    ],
)
def test_parameter_counts(name, parameters):
    assert count(abstract(name)) == parameters


@pytest.mark.sampled
@pytest.mark.parametrize("width, total", [("025", 218_544), ("050", 829_536), ("075", 1_832_976), ("100", 3_228_864)])
def test_mobilenets_have_keras_totals_without_top(width, total):
    state = nnx.state(abstract(f"mobilenet_v1_{width}"), nnx.Any(nnx.Param, nnx.BatchStat))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == total


@pytest.mark.parametrize(
    "name, parameters", [("resnet50", 23_917_832), ("vgg16", 19_639_304), ("inceptionv3", 25_687_976)]
)
def test_parameter_counts_with_a_head_of_200_classes(name, parameters):
    encoder = abstract(name)
    head = nnx.eval_shape(lambda: WGAP(encoder.channels[-1], 200, rngs=weight_keys(0)))
    assert count(encoder) + count(head) == parameters


def test_the_published_inception_has_torchvision_s_parameters():
    # In all, less its auxiliary classifier and its 1000-way layer.
    assert count(abstract("inceptionv3", final_stride=32)) == 27_161_264 - 3_326_696 - 2_049_000


@pytest.mark.sampled
@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_the_layers_that_learn_as_new_ones_exist(name):
    expected = {"vgg16": ("conv6",), "inceptionv3": ("SPG_A3_1b", "SPG_A3_2b")}
    encoder = abstract(name)
    assert encoder.new_layers == expected.get(name, ("layer4",) if name.startswith(("resnet", "resnext")) else ())
    assert set(encoder.new_layers) <= nnx.state(encoder, nnx.Param).keys()


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "final_stride"),
    [
        *((name, 8) for name in sorted({*FAMILIES} - VITS.keys())),
        ("vit_tiny", 16),
        ("vgg16", 16),
        ("vgg16", 32),
        ("inceptionv3", 32),
    ],
)
def test_the_places_that_methods_name_exist_in_order_and_recording_them_changes_nothing(name, final_stride):
    graph, state = nnx.split(abstract(name, final_stride=final_stride))
    shapes = {}

    def record(place, x):
        assert place not in shapes
        shapes[place] = x.shape
        return x

    def program(**settings):
        def forward(state, images):
            return nnx.merge(graph, state)(images, train=False, **settings)

        return str(jax.make_jaxpr(forward)(state, jax.ShapeDtypeStruct((2, 96, 96, 3), jnp.float32)))

    assert program(at=record) == program()
    encoder = nnx.merge(graph, state)
    found = encoder.places()
    assert [(place.name, place.channels) for place in found] == [(name, shape[-1]) for name, shape in shapes.items()]
    *lower, top = {place.stage: place.channels for place in found}.values()
    # Stages of inverted residuals, but the top one, end after the expansion of the block that leads to the next one.
    wider = 6 if isinstance(encoder, InvertedResiduals) else 1
    assert (*(wider * channels for channels in lower), top) == encoder.channels
    assert [place.stage for place in found] == sorted(place.stage for place in found)


@pytest.mark.slow
def test_the_encoder_goes_on_with_what_a_place_returns(filled):
    encoder = filled(lambda: Small((4, 8, 8, 16), rngs=weight_keys(0)))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    before = encoder(images, train=False)
    after = encoder(images, train=False, at=lambda place, x: 2 * x if place == "blocks.1" else x)
    for index in (0, 1):
        np.testing.assert_array_equal(after[index], before[index])
    np.testing.assert_array_equal(after[2], 2 * before[2])
    np.testing.assert_array_equal(after[3], encoder.stage(3, 2 * before[2], train=False))


@pytest.mark.sampled
@pytest.mark.parametrize("name, top", [("vgg16", ()), ("vgg16", (512, 512)), ("inceptionv3", ())])
@pytest.mark.parametrize("final_stride", [8, 16])
def test_other_layers_on_top_end_the_last_stage(name, top, final_stride):
    encoder = abstract(name, top=top, final_stride=final_stride)
    expected = [(2, 96 // stride, 96 // stride) for stride in encoder.strides]
    shapes = stage_shapes(encoder, 96, 96)
    assert [shape[-1] for shape in shapes] == list(encoder.channels)
    assert all(abs(shape[1] - want[1]) <= 1 for shape, want in zip(shapes, expected, strict=True))
    assert set(encoder.new_layers) <= nnx.state(encoder, nnx.Param).keys() and len(encoder.new_layers) == len(top)


@pytest.fixture(scope="module")
def top():
    """InceptionV3's two layers on top, at identity weights of few channels, on features of ones."""
    encoder = nnx.eval_shape(lambda: ENCODERS["inceptionv3"](rngs=weight_keys(0)))
    identity = np.zeros((3, 3, 8, 8), np.float32)
    identity[1, 1] = np.eye(8)
    for layer in (encoder.SPG_A3_1b, encoder.SPG_A3_2b):
        layer.kernel.set_value(jnp.asarray(identity))
        layer.bias.set_value(jnp.zeros(8))
        layer.in_features = layer.out_features = 8
    return lambda rng, *, train: np.asarray(encoder.stage(4, jnp.ones((3, 16, 16, 8)), train=train, rng=rng))


@pytest.mark.slow
def test_inception_drops_half_of_its_last_features_twice_in_training_only(top):
    keys = jax.random.split(jax.random.key(0), 3)
    np.testing.assert_array_equal(top(None, train=False), np.ones((3, 16, 16, 8)))
    trained = top(keys, train=True)
    assert set(np.unique(trained)) == {0, 4}  # 1 / .5 / .5
    assert abs((trained > 0).mean() - 0.25) < 0.03
    assert (trained[0] != trained[1]).any()
    np.testing.assert_array_equal(top(keys[::-1], train=True), trained[::-1])  # an image's draw is of its own key
    with pytest.raises(ValueError, match="dropout"):
        top(None, train=True)


def count(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_computes_close_to_float32_with_float32_parameters(filled, train):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 16, 16, 3)), jnp.float32)

    def run(dtype):
        graph, state = nnx.split(filled(lambda: Small((4, 8, 8, 16), dtype=dtype, rngs=weight_keys(0))))
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))

        def apply(shard):
            model = nnx.merge(graph, state, copy=True)
            return model(shard, train=train)[-1], nnx.state(model)

        top, after = jax.jit(jax.vmap(apply, axis_name=DATA_AXIS))(images)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after))
        return top

    exact, coarse = run(jnp.float32), run(jnp.bfloat16)
    assert coarse.dtype == jnp.bfloat16
    difference = jnp.abs(exact - coarse.astype(jnp.float32))
    assert 0 < difference.max() < 0.1 * jnp.abs(exact).max()


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["resnet50", "vgg16", "inceptionv3", "mobilenet_v1_075"])
def test_stages_are_computed_at_bfloat16_from_float32_parameters(name):
    encoder = abstract(name, dtype=jnp.bfloat16)
    graph, state = nnx.split(encoder)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(encoder, nnx.Param)))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    stages = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x, train=False), state, images)
    assert {stage.dtype for stage in stages} == {jnp.dtype(jnp.bfloat16)}
