"""CAMs of networks as users have them, against gradients of functions that were split by hand, and layers by name."""

import functools

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled import filled
from flax import nnx
from flax_networks import CLASSES, CNN, LinenBlock, LinenCNN, ViT, Volumes, linen_cnn, pictures
from tiny_stages import fcam_on_tokens

import fcam_jax as fc
from fcam_jax.cams import CAMS
from fcam_jax.cams.fusion import fuse
from fcam_jax.cams.score_maps import score_map
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import BasicBlock, ResNet

LABELS = np.array([0, 3, 4])
FEW = {"sscam": {"samples": 2}, "iscam": {"samples": 2}, "smooth_gradcampp": {"samples": 2}}
REFUSED = {
    "cam": "the CAM 'cam' needs",
    "ccam": "the CAM 'ccam' needs",
    "rollout": "Attention rollout is made of",
    "legrad": "LeGrad is made of",
    "tokencut": "TokenCut is made of",
    "lost": "LOST is made of",
}


def of_nnx():
    net = CNN()
    net.eval()
    return CNN(), ["blocks[1]"], {}, jax.jit(CNN.head)(net, pictures()), net.tail


def of_linen():
    module, variables = linen_cnn()
    _, found = module.apply(variables, pictures(), train=False, capture_intermediates=True)
    features = found["intermediates"]["second"]["__call__"][0]

    def tail(x):
        return x.mean(axis=(1, 2)) @ variables["params"]["fc"]["kernel"] + variables["params"]["fc"]["bias"]

    return (module, variables), ["second"], {}, features, tail


def of_tokens():
    net = ViT()
    before, normed = jax.jit(lambda net, x: (net.head(x), net.blocks[1].norm1(net.head(x))))(net, pictures())

    def tail(maps):
        tokens = jnp.concatenate([normed[:, :1], maps.reshape(3, 16, 16)], axis=1)
        return net.fc(net.blocks[1].after_norm(before, tokens)[:, 0])

    kwargs = {"reshape": fc.cams.tokens(prefix=1)}
    return ViT(), ["blocks[1].norm1"], kwargs, normed[:, 1:].reshape(3, 4, 4, 16), tail


PLAIN = {"nnx": of_nnx, "linen": of_linen, "tokens": of_tokens}


def enlarged(maps, size=(32, 32)):
    """From minimum to maximum, after OpenCV's bicubic interpolation."""
    found = []
    for one in np.asarray(maps):
        large = cv2.resize(one, size[::-1], interpolation=cv2.INTER_CUBIC)
        found.append((large - large.min()) / (large.max() - large.min()) if one.max() > one.min() else 0 * large)
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_maps_are_those_of_a_network_that_was_split_by_hand(name):
    model, layers, kwargs, features, tail = PLAIN[name]()

    @jax.jit
    def by_hand(features):
        slopes = [
            jax.grad(lambda x, of=of: of(tail(x))[jnp.arange(3), LABELS].sum())(features)
            for of in (lambda scores: scores, jax.nn.softmax)
        ]
        return tail(features), *slopes

    features = np.asarray(features)
    scores, gradient, of_shares = map(np.asarray, by_hand(features))
    assert np.abs(gradient).max() > 0
    weighted = (gradient.mean(axis=(1, 2), keepdims=True) * features).sum(axis=-1)
    found = fc.cams.GradCAM(model, layers, **kwargs)(pictures(), LABELS)
    np.testing.assert_allclose(found.maps, enlarged(np.maximum(weighted, 0)), atol=1e-4)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    np.testing.assert_array_equal(found.labels, LABELS)
    found = fc.cams.HiResCAM(model, layers, **kwargs)(pictures(), fc.cams.Probability(LABELS))
    np.testing.assert_allclose(found.maps, enlarged((of_shares * features).sum(axis=-1)), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["small", pytest.param("mobilenet_v1_025", marks=pytest.mark.long)])
def test_a_classifier_of_the_package_has_the_maps_of_compute(encoder):
    model = fc.create_model(encoder, num_classes=CLASSES)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
    expected, labels = fc.cams.compute("layercam", model, images)
    assert (expected.max(axis=(1, 2)) == 1).all()
    for layers in (["blocks"], [model.encoder.blocks], [], ["stage4" if encoder == "small" else "stage5"]):
        found = fc.cams.LayerCAM(model, layers)(images)
        np.testing.assert_allclose(found.maps, expected, atol=1e-5)
        np.testing.assert_array_equal(found.labels, labels)
    own = fc.cams.compute("cam", model, images)[0]
    np.testing.assert_allclose(fc.cams.CAM(model)(images).maps, own, atol=1e-5)


@pytest.mark.slow
def test_resnets_last_layer_is_that_of_its_last_block():
    def build():
        encoder = ResNet(BasicBlock, (1, 1, 1, 2), final_stride=32, rngs=nnx.Rngs(0))
        return Classifier(encoder, WGAP(encoder.channels[-1], CLASSES, rngs=nnx.Rngs(1)))

    model = filled(build)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    expected = fc.cams.compute("gradcam", model, images)[0]
    assert expected.max() == 1
    np.testing.assert_allclose(fc.cams.GradCAM(model, target_layers=["layer4"])(images).maps, expected, atol=1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "framework"), [*((name, "nnx") for name in CAMS), ("gradcam", "linen"), ("scorecam", "linen")]
)
def test_every_cam_explains_any_network_or_says_why_it_does_not(name, framework):
    model, layers = (CNN(), ["stem", "blocks.1"]) if framework == "nnx" else (linen_cnn(), ["first", "second"])
    if name in REFUSED:
        with pytest.raises(fc.InputError, match=REFUSED[name]):
            CAMS[name](model, layers)
        return
    found = CAMS[name](model, layers, **FEW.get(name, {}))(pictures(), LABELS)
    assert found.maps.shape == (3, 32, 32) and found.maps.min() >= 0
    assert found.maps.max(axis=(1, 2)).any() and found.maps.max() <= 1


@pytest.mark.slow
def test_the_maps_of_several_layers_are_fused_from_coarse_to_fine():
    net = CNN()
    net.eval()

    @jax.jit
    def by_hand(net, images):
        first = net.stem(images)

        def after_first(x):
            return net.blocks[1](net.blocks[0](x))

        def of(score, features):
            slope = jax.grad(lambda x: score(x)[jnp.arange(3), LABELS].sum())(features)
            return jax.nn.relu((jax.nn.relu(slope) * features).sum(axis=-1))

        maps = [of(lambda x: net.tail(after_first(x)), first), of(net.tail, after_first(first))]
        return score_map(fuse(maps), (32, 32), "protocol")

    expected = by_hand(net, pictures())
    for layers in (["stem", "blocks[1]"], [net.blocks[1], net.stem]):
        np.testing.assert_allclose(fc.cams.LayerCAM(net, layers)(pictures(), LABELS).maps, expected, atol=1e-4)


@pytest.mark.slow
def test_the_given_network_stays_as_it_is_and_is_explained_in_inference_mode():
    net, other = CNN(), CNN()
    net.train()
    before = nnx.state(net)
    found = fc.cams.GradCAM(net, [net.stem])(pictures(), LABELS)
    for a, b in zip(numbers(before), numbers(nnx.state(net)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert type(net.stem) is type(CNN().stem) and not net.drop.deterministic and not net.stem.norm.use_running_average
    assert not hasattr(net.stem, "cam_taken")
    other.eval()
    np.testing.assert_allclose(found.scores, jax.jit(CNN.__call__)(other, pictures()), atol=1e-5)


def numbers(state):
    return [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]


class Switched(nnx.Module):
    """Its modes are an attribute of one layer and arguments."""

    def __init__(self):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
        self.training = True

    def __call__(self, x, *, deterministic=False, train=True, scale=1.0):
        assert deterministic and not train and not self.training and scale == 1
        return self.conv(x).mean(axis=(1, 2))


def test_modes_are_set_by_attributes_and_by_arguments_of_the_call():
    net = Switched()
    assert fc.cams.GradCAM(net, ["conv"])(pictures()).scores.shape == (3, 4) and net.training


@pytest.mark.slow
def test_how_a_network_is_called_can_be_given():
    net = CNN()
    net.eval()
    found = fc.cams.GradCAM(CNN(), ["stem"], call=lambda net, x: {"logits": net(2 * x)}["logits"])(pictures())
    np.testing.assert_allclose(found.scores, net(2 * pictures()), atol=1e-5)
    module, variables = linen_cnn()
    found = fc.cams.GradCAM((module, variables), ["first"], call=lambda bound, x: bound(2 * x, train=False))(pictures())
    np.testing.assert_allclose(found.scores, module.apply(variables, 2 * pictures(), train=False), atol=1e-5)


class Jitted(CNN):
    @nnx.jit
    def __call__(self, x):
        return self.tail(self.head(x))


class Remat(CNN):
    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = nnx.remat(lambda block, x: block(x))(block, x)
        return self.tail(x)


@pytest.mark.parametrize("kind", [Jitted, Remat])
def test_transformations_of_nnx_are_no_hindrance(kind):
    expected = fc.cams.GradCAM(CNN(), ["blocks.0"])(pictures()).maps
    np.testing.assert_allclose(fc.cams.GradCAM(kind(), ["blocks.0"])(pictures()).maps, expected, atol=1e-4)


@pytest.mark.parametrize("transform", [nn.remat, nn.jit])
def test_transformations_of_linen_are_no_hindrance(transform):
    module, variables = linen_cnn()
    expected = fc.cams.GradCAM((module, variables), ["second"])(pictures()).maps
    other = LinenCNN(transform(LinenBlock, static_argnums=(2,)))
    bound = other.bind(variables)
    np.testing.assert_allclose(fc.cams.GradCAM(bound, ["second/"])(pictures()).maps, expected, atol=1e-4)


class Difficult(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.twice = nnx.Conv(3, 3, (3, 3), rngs=rngs)
        self.hidden = nnx.Conv(3, 3, (3, 3), rngs=rngs)
        self.side = nnx.Conv(3, 3, (3, 3), rngs=rngs)
        self.unused = nnx.Conv(3, 3, (3, 3), rngs=rngs)
        self.empty = nnx.List([])
        self.pair = Pair()
        self.whole = Whole()

    def __call__(self, x):
        self.side(x)
        self.whole(x)
        x = self.twice(self.twice(x))
        x = jax.checkpoint(lambda x: self.hidden(x))(x)
        x, _ = self.pair(x)
        return x.mean(axis=(1, 2))


class Pair(nnx.Module):
    def __call__(self, x):
        return x, x


class Whole(nnx.Module):
    def __call__(self, x):
        return (x > 0).astype(jnp.int32)


class Shared(nn.Module):
    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(3, (3, 3), name="conv")
        nn.Conv(3, (3, 3), name="side")(x)
        return conv(conv(x)).mean(axis=(1, 2))


def difficult(name, **kwargs):
    return lambda: fc.cams.GradCAM(Difficult(), [name], **kwargs)(pictures())


def shared(name):
    variables = Shared().init(jax.random.key(0), pictures())
    return fc.cams.GradCAM((Shared(), variables), [name])(pictures())


MISTAKES = {
    r"the network has no layer 'blok\[3\]'; near: blocks.1, blocks.0, .*": lambda: fc.cams.GradCAM(CNN(), ["blok[3]"]),
    "several layers are called 'conv': blocks.0.conv, blocks.1.conv, stem.conv": lambda: fc.cams.GradCAM(
        CNN(), ["conv"]
    ),
    "a Block of target_layers is no part of the model; .*": lambda: fc.cams.GradCAM(CNN(), [CNN().stem]),
    "target_layers is missing: name the layer .*": lambda: fc.cams.GradCAM(CNN()),
    "the layer twice is called 2 times; take one that is called once": difficult("twice"),
    "a target layer lies within a function that JAX transforms .*": difficult("hidden"),
    "the layer unused is never called: .*": difficult("unused"),
    "the layer pair gives a tuple, not an array; take a layer in it, or after it": difficult("pair"),
    "the layer whole gives int32, which has no gradient": difficult("whole"),
    "the list empty holds no modules": difficult("empty"),
    "the layer side does not lie on the way to the target: no change of its map changes it": difficult("side"),
    "reshape must only move the values of a layer; .*": difficult("side", reshape=lambda x: 2 * x),
    r"reshape is 3; it must be a function, such as .*": difficult("side", reshape=3),
    "reshape has 2 entries for 1 target layers": difficult("side", reshape=[None, None]),
    r"tokens are \[b, n, c\], and the layer gives .*": difficult("side", reshape=fc.cams.tokens(1)),
    r"the layer fc gives \(3, 5\), and a map has 4 axes.*": lambda: fc.cams.GradCAM(CNN(), ["fc"])(pictures()),
    "the layer conv is called 2 times; .*": lambda: shared("conv"),
    "the layer side does not lie on the way to the target.*": lambda: shared("side"),
    "layers of a Linen network are given by name.*": lambda: fc.cams.GradCAM(linen_cnn(), [nn.Conv(3, (3, 3))]),
    "a Linen module needs its variables: .*": lambda: fc.cams.GradCAM(Shared(), ["conv"]),
    "the variables of a Linen module are a dict with 'params', .*": lambda: fc.cams.GradCAM((Shared(), {}), ["conv"]),
    "int is no network for CAMs: .*": lambda: fc.cams.GradCAM(3, ["conv"]),
    r"the layer gives 17 tokens; without 0 in front, 17 are no grid of 4 x 4: .*": lambda: fc.cams.GradCAM(
        ViT(), ["blocks.0"], reshape=fc.cams.tokens()
    )(pictures()),
    "the layer blocks.1 does not lie on the way .*: a head on the class token .*": lambda: fc.cams.GradCAM(
        ViT(), ["blocks"], reshape=fc.cams.tokens(prefix=1)
    )(pictures()),
    "CAM is the head's own map: leave target_layers out": lambda: fc.cams.CAM(
        fc.create_model("small", num_classes=2), ["blocks"]
    ),
    "Classifier normalizes RGB .* itself: leave preprocess and call out": lambda: fc.cams.GradCAM(
        fc.create_model("small", num_classes=2), ["blocks"], preprocess=np.asarray
    ),
    r"unknown setting of GradCAM: 'chunk'; known: aug_smooth, .*": lambda: fc.cams.GradCAM(CNN(), ["stem"], chunk=3),
    r"unknown setting of EigenCAM: 'eigen_smooth'; known: .*": lambda: fc.cams.EigenCAM(
        CNN(), ["stem"], eigen_smooth=True
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_layer_that_cannot_explain_is_told_in_one_line(message):
    with pytest.raises(fc.InputError, match=f"^{message}$"):
        MISTAKES[message]()


def test_layers_are_listed_by_name_with_the_shapes_of_every_call():
    names = [layer.name for layer in fc.cams.list_layers(CNN())]
    assert names == [
        *("blocks", "blocks.0", "blocks.0.conv", "blocks.0.norm", "blocks.1", "blocks.1.conv", "blocks.1.norm"),
        *("drop", "fc", "stem", "stem.conv", "stem.norm", "unused"),
    ]
    found = {layer.name: layer for layer in fc.cams.list_layers(CNN(), pictures())}
    assert str(found["blocks.1"]) == "blocks.1  Block  (3, 4, 4, 8)" and found["unused"].shapes == ()
    found = {layer.name: layer for layer in fc.cams.list_layers(TwoTimes(), pictures())}
    assert str(found["conv"]) == "conv  Conv  (3, 32, 32, 3), (3, 32, 32, 3)"
    assert str(found["pair"]) == "pair  Pair  no array"
    assert [layer.name for layer in fc.cams.list_layers(linen_cnn())][:2] == ["fc", "first"]
    found = [str(layer) for layer in fc.cams.list_layers(linen_cnn(), pictures())]
    assert found[0] == "first  LinenBlock  (3, 16, 16, 6)" and "Dropout_0  Dropout  (3, 8)" in found


class TwoTimes(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 3, (3, 3), rngs=nnx.Rngs(0))
        self.pair = Pair()

    def __call__(self, x):
        return self.pair(self.conv(self.conv(x)))


class ChannelsFirst(CNN):
    """Its last block gives maps [b, c, h, w]."""

    def __init__(self):
        super().__init__()
        self.turn = Turn()

    def __call__(self, x):
        return self.tail(jnp.moveaxis(self.turn(self.head(x)), 1, -1))


class Turn(nnx.Module):
    def __call__(self, x):
        return jnp.moveaxis(x, -1, 1)


@pytest.mark.slow
def test_channels_may_come_first_and_any_function_may_move_values():
    expected = fc.cams.GradCAM(CNN(), ["blocks"])(pictures()).maps
    for reshape in (fc.cams.channels_first, lambda x: x.transpose(0, 2, 3, 1)):
        found = fc.cams.GradCAM(ChannelsFirst(), ["turn"], reshape=reshape)(pictures())
        np.testing.assert_allclose(found.maps, expected, atol=1e-5)
    vit, layers = ViT(), ["blocks.1.norm1"]
    by_tokens = fc.cams.GradCAM(vit, layers, reshape=fc.cams.tokens(prefix=1, height=4))(pictures())
    by_hand = fc.cams.GradCAM(vit, layers, reshape=lambda x: x[:, 1:].reshape(-1, 4, 4, 16))(pictures())
    np.testing.assert_allclose(by_tokens.maps, by_hand.maps, atol=1e-5)


@functools.cache
def volumes():
    module = Volumes()
    images = pictures(2, (8, 12, 16, 1))
    return (module, jax.jit(module.init)(jax.random.key(0), images)), images


@pytest.mark.slow
def test_maps_of_volumes_are_those_of_a_plain_computation():
    (module, variables), images = volumes()

    @jax.jit
    def by_hand(variables, images):
        _, found = module.apply(variables, images, capture_intermediates=lambda module, _: module.name == "two")
        kernel, raw = variables["params"]["fc"]["kernel"], found["intermediates"]["two"]["__call__"][0]
        return raw, jax.grad(lambda x: (jax.nn.relu(x).mean(axis=(1, 2, 3)) @ kernel)[:, 2].sum())(raw)

    raw, gradient = map(np.asarray, by_hand(variables, images))
    low = np.maximum((gradient.mean(axis=(1, 2, 3), keepdims=True) * raw).sum(axis=-1), 0)
    assert raw.shape == (2, 2, 3, 4, 6) and low.max(axis=(1, 2, 3)).all()
    spans = low.max(axis=(1, 2, 3), keepdims=True) - low.min(axis=(1, 2, 3), keepdims=True)
    expected = jax.image.resize((low - low.min(axis=(1, 2, 3), keepdims=True)) / spans, (2, 8, 12, 16), "linear")
    maps = fc.cams.GradCAM((module, variables), ["two"], convention="fcam")(images, targets=2).maps
    np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CAMS if name not in {*REFUSED, "fullgrad"}])
def test_every_cam_explains_volumes_by_one_layer_or_several(name):
    model, images = volumes()
    maps = CAMS[name](model, ["one", "two"], **FEW.get(name, {}))(images).maps
    assert maps.shape == images.shape[:-1] and maps.max() > 0


@pytest.mark.slow
@pytest.mark.long
def test_tokens_of_the_packages_transformer_are_those_of_its_stage():
    model = filled(lambda: fcam_on_tokens().classifier, lambda path, leaf: leaf.ndim > 1, variance=1.0)
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    last = fc.cams.GradCAM(model, ["blocks[3].norm1"], reshape=fc.cams.tokens(prefix=1))(images, targets=1).maps
    np.testing.assert_allclose(last, fc.cams.compute("gradcam", model, images, [1]), atol=1e-4)
    assert fc.cams.AttentionRollout(model)(images).maps.shape == (1, 32, 32)
