"""EfficientNet-Lite and MobileNets: counts, names and values of timm's and torchvision's; dilation, real birds."""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import abstract_encoder as abstract
from flax import nnx
from PIL import Image
from safetensors.numpy import save_file

from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS, create_model
from fcam_jax.models.inverted_residual import Group, InvertedResiduals
from fcam_jax.models.mobilenet import MobileNetV1
from fcam_jax.models.mobilenet_v2 import torchvision_name
from fcam_jax.models.weight_names import named_variables
from fcam_jax.runtime.random import weight_keys

# Parameters of timm's networks (tf_efficientnet_lite0 to 4, mobilenetv2_100; torchvision's mobilenet_v2 has as many).
COUNTS = {
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
    "mobilenet_v2": 3_504_872,
}
# Channels and depth of the groups of blocks of timm's networks.
GROUPS = {
    "efficientnet_lite0": [(16, 1), (24, 2), (40, 2), (80, 3), (112, 3), (192, 4), (320, 1)],
    "efficientnet_lite1": [(16, 1), (24, 3), (40, 3), (80, 4), (112, 4), (192, 5), (320, 1)],
    "efficientnet_lite2": [(16, 1), (24, 3), (48, 3), (88, 4), (120, 4), (208, 5), (352, 1)],
    "efficientnet_lite3": [(24, 1), (32, 3), (48, 3), (96, 5), (136, 5), (232, 6), (384, 1)],
    "efficientnet_lite4": [(24, 1), (32, 4), (56, 4), (112, 6), (160, 6), (272, 8), (448, 1)],
    "mobilenet_v2": [(16, 1), (24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1)],
}


def variables(name, family=0):
    encoder = abstract(name)
    return named_variables(encoder, encoder.weight_names[family])


@pytest.mark.parametrize("name", COUNTS)
def test_a_network_has_its_source_s_parameters_groups_and_names(name):
    encoder = abstract(name)
    body = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(encoder, nnx.Param)))
    assert body + 1280 * 1000 + 1000 == COUNTS[name]
    named = variables(name)
    sides = (3, 3, 5, 3, 5, 5, 3) if "lite" in name else (3,) * 7
    before = 32
    for group, (channels, depth) in enumerate(GROUPS[name]):
        layer = "conv_pwl" if group else "conv_pw"
        for position in range(depth):
            assert named[f"blocks.{group}.{position}.{layer}.weight"].shape[-1] == channels
            wide = 6 * before if group else before
            assert named[f"blocks.{group}.{position}.conv_dw.weight"].shape == (sides[group], sides[group], wide, 1)
            before = channels
        assert f"blocks.{group}.{depth}.conv_dw.weight" not in named
    assert named["conv_stem.weight"].shape == (3, 3, 3, 32)
    assert named["conv_head.weight"].shape == (1, 1, before, 1280)
    assert {"bn1.running_var", "bn2.bias", "blocks.0.0.bn2.weight", "blocks.6.0.bn3.running_mean"} <= named.keys()


def test_torchvision_calls_the_layers_by_their_positions():
    named = variables("mobilenet_v2", family=1)
    assert len(named) == 260  # of its state dict, less 52 counters and the classification layer's 2
    shapes = {
        "features.0.0.weight": (3, 3, 3, 32),
        "features.1.conv.0.0.weight": (3, 3, 32, 1),
        "features.1.conv.1.weight": (1, 1, 32, 16),
        "features.1.conv.2.running_var": (16,),
        "features.2.conv.0.0.weight": (1, 1, 16, 96),
        "features.2.conv.1.0.weight": (3, 3, 96, 1),
        "features.2.conv.2.weight": (1, 1, 96, 24),
        "features.17.conv.3.bias": (320,),
        "features.18.0.weight": (1, 1, 320, 1280),
        "features.18.1.weight": (1280,),
    }
    assert {name: named[name].shape for name in shapes} == shapes
    assert torchvision_name(("blocks", 5, 0, "bn2", "mean")) == "features.14.conv.1.1.running_mean"


@pytest.mark.long
@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
def test_strides_are_removed_from_the_top(name):
    for final_stride in (8, 16, 32):
        for dilate in (False, True):
            encoder = abstract(name, final_stride=final_stride, dilate=dilate)
            graph, state = nnx.split(encoder)

            def stages(state, x, graph=graph):
                return nnx.merge(graph, state)(x, train=False)

            shapes = jax.eval_shape(stages, state, jax.ShapeDtypeStruct((1, 224, 193, 3), jnp.float32))
            expected = [min(stride, final_stride) for stride in (2, 4, 8, 16, 32)]
            assert list(encoder.strides) == expected
            assert [stage.shape[1:3] for stage in shapes] == [(-(-224 // s), -(-193 // s)) for s in expected]
            assert tuple(stage.shape[-1] for stage in shapes) == encoder.channels


@pytest.mark.slow
def test_stages_end_after_the_expansion_of_the_next_block():
    """By the maps between blocks and the weights alone: ReLU6 of batch-normalised 1x1 convolutions of them."""
    encoder = nnx.eval_shape(lambda: narrow("SAME")(final_stride=16, rngs=weight_keys(0)))
    for path, variable in nnx.to_flat_state(nnx.state(encoder)):
        name = ".".join(map(str, path)).replace("var", "running_var").replace("scale", "weight")
        variable.set_value(jnp.asarray(_values(name, variable.shape[::-1]).T))

    @nnx.jit
    def run(encoder, x):
        between = {}
        return encoder(x, train=False, at=lambda name, found: between.setdefault(name, found)), between

    stages, between = run(encoder, np.random.default_rng(1).normal(size=(1, 64, 80, 3)).astype(np.float32))
    stages = [np.asarray(stage, np.float64) for stage in stages]
    assert tuple(stage.shape[-1] for stage in stages) == encoder.channels == (48, 48, 48, 48, 1280)
    for stage, before, after in zip(stages, ("0.0", "1.1", "2.1", "4.1"), (1, 2, 3, 5), strict=False):
        block = encoder.blocks[after][0]
        norm = block.bn1
        mean, var, scale, bias = (
            np.asarray(one[...], np.float64) for one in (norm.mean, norm.var, norm.scale, norm.bias)
        )
        expanded = np.asarray(between[f"blocks.{before}"], np.float64) @ np.asarray(
            block.conv_pw.kernel[0, 0], np.float64
        )
        expected = np.clip((expanded - mean) / np.sqrt(var + 1e-3) * scale + bias, 0, 6)
        assert expected.std() > 0.1
        np.testing.assert_allclose(stage, expected, atol=1e-4)


def narrow(padding):
    groups = [Group(side, 8, min(2, n + 1)) for n, side in enumerate((3, 3, 5, 3, 5, 5, 3))]
    return partial(InvertedResiduals, groups, padding=padding, epsilon=1e-3)


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("size", [(64, 80), (72, 88)])
@pytest.mark.parametrize(
    ("build", "padding"),
    [(narrow("SAME"), "SAME"), (narrow(None), None), (partial(MobileNetV1, 0.25), "SAME")],
    ids=["tensorflow", "pytorch", "mobilenet_v1"],
)
def test_a_dilated_network_has_the_strided_one_s_values_among_its_own(build, padding, size):
    """Of heights and widths that are odd nowhere, at the last stage, at that before it, and at both."""
    networks = {}
    for stride in (8, 16, 32):
        networks[stride] = nnx.eval_shape(lambda s=stride: build(final_stride=s, dilate=True, rngs=weight_keys(0)))
        for path, variable in nnx.to_flat_state(nnx.state(networks[stride])):
            name = ".".join(map(str, path)).replace("var", "running_var").replace("scale", "weight")
            values = _values(name, variable.shape[::-1]).T  # scaled by the fan
            depthwise = variable.ndim == 4 and variable.shape[3] == 1 < variable.shape[2]
            variable.set_value(jnp.asarray(values * (variable.shape[2] ** 0.5 if depthwise else 1)))
    images = jnp.asarray(np.random.default_rng(1).normal(size=(1, *size, 3)), jnp.float32)
    stages = {stride: nnx.jit(lambda net, x: net(x, train=False))(net, images) for stride, net in networks.items()}
    strided = stages[32]
    assert all(np.ptp(stage) > 0.1 for stage in strided)

    def first(side, removed):
        """TensorFlow's padding at a stride of 2 puts row i on row 2i + 1 of an even number of rows, else on 2i."""
        found, scale = 0, 1
        for _ in range(removed):
            found += scale * (padding == "SAME" and side % 2 == 0)
            scale, side = 2 * scale, -(-side // 2)
        return found

    for stride, stage, removed in ((16, 4, 1), (8, 3, 1), (8, 4, 2)):
        sides = [-(-side // (32 // 2**removed if stage == 4 else 8)) for side in size]
        rows, columns = (slice(first(side, removed), None, 2**removed) for side in sides)
        np.testing.assert_allclose(stages[stride][stage][:, rows, columns], strided[stage], atol=1e-4)  # of 6


def weights_by_name(name, family):
    """Values that follow from the names alone, so that timm and torchvision can be given the same."""
    found = {}
    for tensor, variable in named_variables(abstract(name), abstract(name).weight_names[family]).items():
        shape = abstract(name).weight_names[family].theirs(np.broadcast_to(0, variable.shape)).shape
        found[tensor] = _values(tensor, shape)
    last = "classifier.1" if family else "classifier"
    return found | {f"{last}.{leaf}": _values(f"{last}.{leaf}", shape) for leaf, shape in _HEAD.items()}


_HEAD = {"weight": (1000, 1280), "bias": (1000,)}


def _values(name, shape):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) > 1:
        return (rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
    return (0.1 * rng.standard_normal(shape) + float(name.endswith("weight"))).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "family", "scores", "mean", "top"),
    [
        ("efficientnet_lite0", 0, (0.82506, 2.33115, 0.33498, 5.12738), 1.436901, (6.0, 3.01245, 0.0, 0.75856)),
        ("mobilenet_v2", 0, (0.52334, 0.20406, -1.70268, 3.37138), 1.469844, (6.0, 0.0, 0.0, 0.0)),
        ("mobilenet_v2", 1, (-1.23501, 1.72111, 5.16612, -1.30771), 1.433006, (0.0, 0.0, 0.0, 0.99962)),
    ],
)
def test_scores_are_those_of_timm_and_torchvision(name, family, scores, mean, top, tmp_path):
    """Recorded from timm 1.0.31 and torchvision 0.29 with PyTorch 2.14, with the weights of `weights_by_name`."""
    save_file(weights_by_name(name, family), tmp_path / "weights.safetensors")
    model = create_model(name, tmp_path / "weights.safetensors")
    images = np.random.default_rng(0).standard_normal((1, 40, 51, 3)).astype(np.float32)
    features = nnx.jit(lambda encoder, x: encoder(x, train=False)[-1])(model.encoder, images)
    np.testing.assert_allclose(features[0, :, :, 3].ravel(), top, atol=1e-4)
    np.testing.assert_allclose(features.mean(), mean, rtol=1e-5)
    np.testing.assert_allclose(model.head(features)[0, :4], scores, atol=1e-4)


@pytest.mark.slow
def test_a_file_of_another_member_of_the_family_is_told(tmp_path, monkeypatch):
    few = {name: ENCODERS[name] for name in ("efficientnet_lite0", "efficientnet_lite1", "mobilenet_v2")}
    monkeypatch.setattr("fcam_jax.models.weight_match.ENCODERS", few)  # all take seconds
    save_file(weights_by_name("efficientnet_lite1", 0), tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"closest supported one is efficientnet_lite1 \(create_model\('efficientnet"):
        create_model("efficientnet_lite0", tmp_path / "weights.safetensors")


# Classes of cub50 that ImageNet has, by the numbers of their folders.
BIRDS = {"001": 146, "002": 146, "003": 146, "014": 14, "047": 11}  # albatrosses, indigo bunting, American goldfinch


def at_224(path):
    """As its publishers evaluate it: the short side 256, by bicubic interpolation, and the centre of that."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)


def test_published_weights_know_the_birds_of_imagenet(shared):
    """All 173 are 97.7 % right; of these ten at most one may be wrong."""
    path = shared / "weights" / "efficientnet_lite0_imagenet.safetensors"
    folder = shared / "data" / "cub50"
    if not path.is_file() or not folder.is_dir():
        pytest.skip(f"no {path} or no {folder}")
    names = (folder / "metadata" / "test" / "image_ids.txt").read_text().split()
    chosen = [name for number in BIRDS for name in [name for name in names if name.startswith(number)][3:20:10]]
    model = create_model("efficientnet_lite0", weights=path)
    assert model.encoder.strides[-1] == 32 and model.encoder.mean == (127.5,) * 3
    images = np.stack([at_224(folder / "images" / name) for name in chosen])
    scores = nnx.jit(lambda model, x: model(x, train=False)[1])(model, images)
    assert scores.shape == (10, 1000)
    right = np.argmax(np.asarray(scores), axis=1) == [BIRDS[name[:3]] for name in chosen]
    assert right.sum() >= 9
