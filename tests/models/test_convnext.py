"""ConvNeXt against values of timm's; its names in files; its grids and maps at removed strides."""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import abstract_encoder
from flax import nnx
from point_source import centre, spot

from fcam_jax.errors import InputError
from fcam_jax.models import convnext
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.convnext import ConvNeXt
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, load_classifier, save_weights, set_weights
from fcam_jax.models.weight_names import named_variables
from fcam_jax.runtime.random import weight_keys

DEPTHS, WIDTHS = (1, 1, 2, 1), (8, 12, 16, 24)
# timm 1.0.31, `ConvNeXt(num_classes=3, depths=DEPTHS, dims=WIDTHS, output_stride=...)` with the weights and the image
# below, by final stride: class scores, and the first three channels of `forward_features` at the row and column given.
SCORES = {
    32: [-1.5857317447662354, -0.29128310084342957, -0.08271598815917969],
    16: [-1.4769902229309082, -0.19234147667884827, 0.6664904952049255],
    8: [-1.5476183891296387, -0.015879198908805847, 0.31940871477127075],
}
TOP = {
    32: ((1, 2), [-0.6074452996253967, -0.2519710063934326, 0.40457236766815186]),
    16: ((1, 2), [1.0107954740524292, -1.618643045425415, 1.3897204399108887]),
    8: ((1, 2), [0.19461363554000854, 1.0453382730484009, 0.25020280480384827]),
}


def build(final_stride=32, depths=DEPTHS, widths=WIDTHS, **settings):
    return ConvNeXt(depths, widths, final_stride=final_stride, rngs=nnx.Rngs(0), **settings)


def value(name, shape):
    """A tensor of a file, by its name in timm and its shape there."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) >= 2:
        values *= (1 / np.prod(shape[1:])) ** 0.5
    else:
        values = 1 + 0.1 * values if name.endswith("weight") else 0.3 * values
    return values.astype(np.float32)


def filled(**settings):
    """A small classifier with these values."""
    encoder = nnx.eval_shape(lambda: build(**settings))
    timm, head = encoder.weight_names[0], nnx.eval_shape(lambda: WGAP(WIDTHS[-1], 3, rngs=weight_keys(0)))
    shapes = {name: timm.theirs(np.zeros(of.shape)).shape for name, of in named_variables(encoder, timm).items()}
    set_weights(encoder, {name: value(name, shape) for name, shape in shapes.items()}, "values")
    of_head = {"fc.weight": value("head.fc.weight", (3, WIDTHS[-1])), "fc.bias": value("head.fc.bias", (3,))}
    set_weights(head, of_head, "values")
    return Classifier(encoder, head)


def image():
    return jnp.asarray(np.random.default_rng(0).standard_normal((1, 64, 96, 3)), jnp.float32)


@nnx.jit
def run(classifier, x):
    stages = classifier.encoder(x, train=False)
    return stages, classifier.score(stages[0], 0)


@pytest.fixture(scope="module")
def classifier():
    """At its own stride; no test changes it."""
    return filled()


@pytest.fixture(scope="module")
def results():
    """Stages and class scores by final stride, dilated."""
    return {stride: run(filled(final_stride=stride, dilate=True), image()) for stride in (32, 16, 8)}


@pytest.mark.slow
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_maps_and_scores_are_timm_s(results, stride):
    stages, scores = results[stride]
    np.testing.assert_allclose(scores[0], SCORES[stride], atol=2e-5)
    (row, column), expected = TOP[stride]
    np.testing.assert_allclose(stages[-1][0, row, column, :3], expected, atol=2e-5)


@pytest.mark.long
def test_a_dilated_network_has_the_values_of_the_strided_one(results):
    """Where its docstring says: the two-by-two kernels and the depthwise ones are dilated."""
    strided, middle, fine = (results[stride][0] for stride in (32, 16, 8))
    np.testing.assert_allclose(middle[3][:, ::2, ::2], strided[3], atol=1e-5)
    np.testing.assert_allclose(fine[2][:, ::2, ::2], strided[2], atol=1e-5)
    np.testing.assert_allclose(fine[3][:, 1::4, 1::4], strided[3], atol=1e-5)
    undilated = run(filled(final_stride=8), image())[0]
    assert undilated[3].shape == fine[3].shape and np.abs(undilated[3] - fine[3]).max() > 0.1


class Same(nnx.Module):
    def __call__(self, x):
        return x


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize(
    ("stride", "dilate", "offset"), [(32, False, 0), (16, False, 8), (8, False, 0), (16, True, 8), (8, True, 4)]
)
def test_a_spot_of_light_is_seen_where_the_grid_says(stride, dilate, offset, monkeypatch):
    """Norms leave their input alone, branches are off, and patches are averaged."""
    monkeypatch.setattr(convnext, "layer_norm", lambda *_, **__: Same())
    encoder = nnx.eval_shape(lambda: build(stride, (1, 1, 1, 1), (1, 1, 1, 1), dilate=dilate))
    for path, leaf in nnx.to_flat_state(nnx.state(encoder, nnx.Param)):
        kernel = path[-1] == "kernel" and len(leaf.shape) == 4
        leaf.set_value(jnp.asarray(np.full(leaf.shape, 1 / math.prod(leaf.shape[:3]) if kernel else 0.0, np.float32)))
    size, place = (320, 352), (163.0, 190.5)
    x = jnp.asarray(spot(size, place, 1.5 * stride)[None, :, :, None].repeat(3, axis=-1), jnp.float32)
    for index, stage in enumerate(nnx.jit(lambda encoder, x: encoder(x, train=False))(encoder, x)):
        cells = centre(np.asarray(stage)[0, :, :, 0])
        grid = encoder.grid(index, size)
        found = [n * (first + step * cell) - 0.5 for n, first, step, cell in zip(size, *grid, cells, strict=True)]
        np.testing.assert_allclose(found, place, atol=0.2)
    assert encoder.offset(size[0]) == offset


# Parameters of torchvision's networks less their last layer.
@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "total", "width"),
    [
        ("convnext_tiny", 28_589_128, 768),
        ("convnext_small", 50_223_688, 768),
        ("convnext_base", 88_591_464, 1024),
    ],
)
def test_parameters_and_maps(name, total, width):
    encoder = abstract_encoder(name)
    parameters = nnx.state(encoder, nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) == total - 1000 * width - 1000
    assert not jax.tree.leaves(nnx.state(encoder, nnx.BatchStat))
    assert encoder.strides == (4, 8, 8, 8) and encoder.channels[-1] == width
    assert abstract_encoder(name, final_stride=32).strides == (4, 8, 16, 32)


# Names and shapes as they stand in timm's, torchvision's and the authors' files, written out here and nowhere else.
FILES = {
    "timm's": {
        "stem.0.weight": (8, 3, 4, 4),
        "stem.1.weight": (8,),
        "stages.1.downsample.0.bias": (8,),
        "stages.1.downsample.1.weight": (12, 8, 2, 2),
        "stages.2.blocks.1.conv_dw.weight": (16, 1, 7, 7),
        "stages.2.blocks.1.norm.weight": (16,),
        "stages.2.blocks.1.mlp.fc1.weight": (64, 16),
        "stages.2.blocks.1.mlp.fc2.weight": (16, 64),
        "stages.2.blocks.1.gamma": (16,),
        "head.norm.weight": (24,),
    },
    "torchvision's": {
        "features.0.0.weight": (8, 3, 4, 4),
        "features.0.1.weight": (8,),
        "features.2.0.bias": (8,),
        "features.2.1.weight": (12, 8, 2, 2),
        "features.5.1.block.0.weight": (16, 1, 7, 7),
        "features.5.1.block.2.weight": (16,),
        "features.5.1.block.3.weight": (64, 16),
        "features.5.1.block.5.weight": (16, 64),
        "features.5.1.layer_scale": (16, 1, 1),
        "classifier.0.weight": (24,),
    },
    "the authors'": {
        "downsample_layers.0.0.weight": (8, 3, 4, 4),
        "downsample_layers.0.1.weight": (8,),
        "downsample_layers.1.0.bias": (8,),
        "downsample_layers.1.1.weight": (12, 8, 2, 2),
        "stages.2.1.dwconv.weight": (16, 1, 7, 7),
        "stages.2.1.norm.weight": (16,),
        "stages.2.1.pwconv1.weight": (64, 16),
        "stages.2.1.pwconv2.weight": (16, 64),
        "stages.2.1.gamma": (16,),
        "norm.weight": (24,),
    },
}
LAST = {"timm's": "head.fc", "torchvision's": "classifier.2", "the authors'": "head"}


@pytest.mark.slow
@pytest.mark.parametrize("family", FILES)
def test_a_file_of_each_family_fills_the_network(family, classifier, tmp_path):
    source = classifier
    names = next(names for names in source.encoder.weight_names if names.family == f"{family} ConvNeXt")
    file = {
        name: np.ascontiguousarray(names.theirs(np.asarray(of[...])))
        for name, of in named_variables(source.encoder, names).items()
    }
    file = {name: array[:, None, None] if "layer_scale" in name else array for name, array in file.items()}
    assert {name: file[name].shape for name in FILES[family]} == FILES[family]
    file |= {
        f"{LAST[family]}.{leaf}": value(f"head.fc.{leaf}", (3, 24)[: 1 + (leaf == "weight")])
        for leaf in ("weight", "bias")
    }
    save_weights(file, tmp_path / "convnext.safetensors")
    other = nnx.eval_shape(lambda: Classifier(build(), WGAP(24, 3, rngs=weight_keys(0))))
    imported = load_classifier(other, tmp_path / "convnext.safetensors", keep_head=True)
    assert (imported.family, imported.head, imported.untouched) == (names.family, "kept", ())
    expected, found = export_weights(source), export_weights(other)
    assert expected.keys() == found.keys() and set(FILES["timm's"]) < expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.slow
def test_a_cam_is_the_share_of_every_position_in_the_score(results, classifier):
    stages, scores = results[32]
    cam = classifier.activation(stages[-1], jnp.array([2]))
    np.testing.assert_allclose(cam.mean() + classifier.head.fc.bias[2], scores[0, 2], atol=1e-5)


@pytest.mark.slow
def test_paths_are_dropped_by_each_image_s_key_in_training_alone():
    encoder = filled(drop_path=0.5).encoder
    x = np.tile(np.asarray(image())[:, :32, :32], (6, 1, 1, 1))
    keys = jax.random.split(jax.random.key(1), 6)
    top = nnx.jit(lambda encoder, x, keys, train: encoder(x, train=train, rng=keys)[-1], static_argnames="train")
    plain, trained = top(encoder, x, keys, train=False), top(encoder, x, keys, train=True)
    np.testing.assert_allclose(plain, np.broadcast_to(plain[:1], plain.shape), atol=1e-6)
    assert len(np.unique(np.asarray(trained)[:, 0, 0, 0].round(4))) > 2
    np.testing.assert_allclose(top(encoder, x, keys[::-1], train=True), trained[::-1], atol=1e-6)
    with pytest.raises(ValueError, match="key for every image"):
        top(encoder, x, None, train=True)
    rates = [block.drop_path for group in encoder.stages for block in group.blocks]
    np.testing.assert_allclose(rates, [0, 0.125, 0.25, 0.375, 0.5])
    with pytest.raises(InputError, match=r"^drop_path is 1.0; it must be from 0 on and below 1"):
        build(drop_path=1.0)


@pytest.mark.parametrize("final_stride", [8, 32])
def test_the_decoder_takes_its_stages_to_the_image_s_size(final_stride):
    encoder = nnx.eval_shape(lambda: build(final_stride))
    decoder = nnx.eval_shape(lambda: Decoder(encoder.channels, encoder.strides, (4,) * 5, rngs=weight_keys(1)))
    networks, variables = nnx.split((encoder, decoder))

    def forward(variables, x):
        encoder, decoder = nnx.merge(networks, variables)
        return decoder(encoder(x, train=False), x.shape[1:3], train=False)

    shape = jax.eval_shape(forward, variables, jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)).shape
    assert shape == (2, 64, 96, 2)


@pytest.mark.long
def test_bfloat16_computes_close_to_float32(results):
    exact, coarse = results[32][0][-1], run(filled(dtype=jnp.bfloat16), image())[0][-1]
    assert coarse.dtype == jnp.bfloat16
    assert np.abs(exact - coarse.astype(jnp.float32)).max() < 0.05 * np.abs(exact).max()
