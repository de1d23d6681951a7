"""CAMs on a transformer's tokens: recorded values, plain references, and all of them with images of any size."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import FEW, images, keys, of_images
from filled import filled
from flax import nnx

from fcam_jax import cams
from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import Target
from fcam_jax.cams.fusion import fuse, fused
from fcam_jax.cams.score_maps import minmax, resize_bilinear, score_map
from fcam_jax.errors import InputError
from fcam_jax.losses import PixelAlignment, Seeds, Weighted
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.tokens import Tokens
from fcam_jax.models.vit import Design, DINOv2, ViT
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.types import Batch

pytestmark = pytest.mark.slow

WIDTH, HEADS, DEPTH, CLASSES = 32, 2, 4, 5
LABELS = np.array([3, 1])
NORM1 = 4  # the stage before the attention of the last block
# `token_gradcam` and `token_layercam` of the reference values in wsol_systems.npz, computed there with NumPy alone:
# a class token and 4 x 4 patches of 4 channels.
FEATURES, GRADIENT = (np.sin(a * np.arange(68) + b).reshape(17, 4) for a, b in ((0.53, 0.1), (0.27, 0.6)))
GRADCAM = [
    [0.015179452, 0.156590484, 0.0, 0.029936064],
    [0.147408738, 0.0, 0.044516125, 0.137357634],
    [0.0, 0.058833647, 0.126496451, 0.0],
    [0.072804193, 0.114889242, 0.0, 0.086345369],
]
LAYERCAM = [
    [0.660627741, 0.0, 0.0, 0.0],
    [0.0, 2.700682366, 0.347438608, 0.0],
    [0.0, 0.0, 0.0, 2.979972888],
    [0.136963765, 0.0, 0.0, 0.0],
]


@functools.cache
def classifier(pool="token", kind=ViT, registers=0, dtype=jnp.float32):
    """A transformer whose tokens attend to few others, so that its maps tell the images apart."""
    design = Design(
        width=WIDTH, heads=HEADS, grid=3, resampling="size", depth=DEPTH, registers=registers, layer_scale=False
    )

    def build():
        encoder = kind(design, pool=pool, dtype=dtype, rngs=nnx.Rngs(0))
        return Classifier(encoder, WGAP(WIDTH, CLASSES, dtype=dtype, rngs=nnx.Rngs(1)))

    return filled(build, lambda path, leaf: leaf.ndim > 1, variance=1.0)


@pytest.fixture(scope="module")
def network():
    return classifier(registers=2)


@pytest.fixture(scope="module")
def pictures():
    return images(2, 48, 32)


@pytest.fixture(scope="module")
def target(network, pictures):
    return of_images(network, pictures, LABELS, NORM1)


def found(name, target, **settings):
    """The maps of a CAM, by one program."""
    return jax.jit(CAMS[name](**settings))(target)


class Linear:
    """A network of one stage of tokens; the score is their product with a gradient."""

    def normalize(self, images):
        return images

    def stages(self, inputs):
        return (Tokens(jnp.asarray(FEATURES[1:].reshape(1, 4, 4, 4)), jnp.asarray(FEATURES[None, :1])),)

    def score(self, features, stage):
        return jnp.einsum("btd,td->b", features.joined(), jnp.asarray(GRADIENT))[:, None]

    def map_of(self, stage):
        return stage.patches

    def with_map(self, stage, features):
        return Tokens(features, stage.prefix)


@pytest.mark.parametrize(("name", "expected"), [("gradcam", GRADCAM), ("layercam", LAYERCAM)])
def test_maps_of_given_tokens_are_the_recorded_ones(name, expected):
    network, inputs = Linear(), jnp.zeros((1, 8, 8, 3))
    target = Target(network, inputs, network.stages(inputs), jnp.array([0]), keys(1), 0)
    np.testing.assert_allclose(CAMS[name]()(target)[0], expected, atol=1e-6)


def test_the_gradient_is_zero_at_the_end_and_not_before_the_attention_of_the_last_block(network, target, pictures):
    gradcam = CAMS["gradcam"]()
    before, top = jax.jit(lambda target: [(one.gradient(), gradcam(one)) for one in (target, target.at(5))])(target)
    np.testing.assert_array_equal(top[0], 0)
    assert network.cam_stage == NORM1 and np.abs(before[0]).min(axis=(1, 2)).max() > 0
    by_default = cams.compute("gradcam", network, pictures, LABELS)
    expected = score_map(before[1], (48, 32), "protocol", target.grid)
    np.testing.assert_allclose(by_default, expected, atol=1e-5)
    assert by_default.max() == 1 and top[1].max() == 0


def norm(layer, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * layer.scale[...] + layer.bias[...]


def linear(layer, x):
    return jnp.matmul(x, layer.kernel[...], precision="highest") + layer.bias[...]


def matrices_of(block, normed):
    """The softmax matrices [heads, n, n] of one image's tokens, head by head."""
    parts = linear(block.attn.qkv, normed).reshape(len(normed), 3, HEADS, -1)
    size = parts.shape[-1]
    scores = [parts[:, 0, head] @ parts[:, 1, head].T / math.sqrt(size) for head in range(HEADS)]
    return jnp.stack([jnp.exp(one) / jnp.exp(one).sum(axis=1, keepdims=True) for one in scores])


def block_of(block, x, normed, matrices):
    """The tokens of one image after a block, from those before, what norm1 makes of them, and the matrices."""
    parts = linear(block.attn.qkv, normed).reshape(len(normed), 3, HEADS, -1)
    mixed = jnp.concatenate([matrices[head] @ parts[:, 2, head] for head in range(HEADS)], axis=1)
    x = x + linear(block.attn.proj, mixed)
    hidden = linear(block.mlp.fc1, norm(block.norm2, x))
    gelu = hidden * (1 + jax.scipy.special.erf(hidden / math.sqrt(2))) / 2
    return x + linear(block.mlp.fc2, gelu)


def class_score(network, x, label):
    """The score of one image's tokens after a block, of the class token or the mean of the patches."""
    ended = norm(network.encoder.norm, x)
    pooled = ended[0] if network.encoder.pool == "token" else ended[-6:].mean(axis=0)
    return linear(network.head.fc, pooled)[label]


def test_gradcam_and_layercam_are_those_of_the_last_block_by_hand(network, target):
    block, stage = network.encoder.blocks[-1], target.stages[NORM1]
    prefix = stage.prefix.shape[1]
    assert prefix == 3

    @jax.jit
    @jax.grad
    def gradient_of(patches, before, residual, label):
        tokens = jnp.concatenate([before, patches])
        return class_score(network, block_of(block, residual, tokens, matrices_of(block, tokens)), label)

    for image, label in enumerate(LABELS):
        before, values = np.split(np.asarray(stage.joined()[image]), [prefix])
        gradient = np.asarray(gradient_of(values, before, stage.residual[image], label))
        gradcam = np.maximum((gradient.mean(axis=0) * values).sum(axis=-1), 0)
        layercam = np.maximum((np.maximum(gradient, 0) * values).sum(axis=-1), 0)
        for name, expected in (("gradcam", gradcam), ("layercam", layercam)):
            np.testing.assert_allclose(found(name, target)[image].ravel(), expected, atol=1e-4 * float(expected.max()))


@pytest.mark.sampled
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_rollout_and_legrad_are_those_of_all_blocks_by_hand(pool, pictures):
    network = classifier(pool, registers=2)
    target = of_images(network, pictures, LABELS)
    rollout, legrad = CAMS["rollout"](), CAMS["legrad"](blocks=3)
    rolled, summed = jax.jit(lambda target: (rollout(target), legrad(target)))(target)
    first = jax.jit(lambda network, inputs: network.encoder._embedded(inputs).joined())(network, target.inputs)

    @jax.jit
    def of_block(block, x, label):
        """The matrices of a block, the gradient of the score of what comes out of it in them, and what comes out."""
        normed = norm(block.norm1, x)
        matrices = matrices_of(block, normed)
        slope = jax.grad(lambda matrices: class_score(network, block_of(block, x, normed, matrices), label))(matrices)
        return matrices, slope, block_of(block, x, normed, matrices)

    for image, label in enumerate(LABELS):
        x, product, relevance = first[image], np.eye(first.shape[1]), np.zeros(first.shape[1])
        for number, block in enumerate(network.encoder.blocks):
            matrices, slope, x = map(np.asarray, of_block(block, x, label))
            if number >= DEPTH - 3:
                for of_head in slope:
                    for row in of_head:
                        relevance += np.maximum(row, 0) / (HEADS * len(x))
            product = (matrices.mean(axis=0) + np.eye(len(x))) / 2 @ product
        row = product[0, -6:] if pool == "token" else product[-6:, -6:].mean(axis=0)
        np.testing.assert_allclose(rolled[image].ravel(), row / row.max(), atol=1e-4)
        np.testing.assert_allclose(summed[image].ravel(), relevance[-6:], atol=1e-4 * relevance.max())
        assert np.ptp(row) / row.max() > 0.05 and np.ptp(relevance[-6:]) > 0


@functools.partial(jax.jit, static_argnums=2)
def score_of_stage(network, stage, number):
    return network.score(stage, number)


def test_cam_of_a_mean_of_the_patches_sums_up_to_the_score(pictures):
    network = classifier("mean")
    target = of_images(network, pictures, LABELS)
    maps, scores = np.asarray(found("cam", target)), np.asarray(score_of_stage(network, target.stages[-1], 5))
    of_labels = scores[np.arange(2), LABELS] - np.asarray(network.head.fc.bias[...])[LABELS]
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), of_labels, atol=1e-5)
    np.testing.assert_allclose(np.asarray(found("hirescam", target)) * 6, maps, atol=1e-4)
    assert network.cam_stage == -1 and np.ptp(maps) > 0


def test_cam_of_a_class_token_is_refused_in_one_line(network, pictures):
    message = r"^the CAM 'cam' needs a head on the map, and this one sees the class token alone: let it see .*$"
    with pytest.raises(InputError, match=message):
        cams.compute("cam", network, pictures)


def test_scorecam_masks_the_image_by_every_channel_of_the_patches(network, pictures, target):
    features = np.asarray(target.features)
    maps = found("scorecam", target, chunk=8)

    @jax.jit
    def score(network, inputs, features):
        masks = minmax(resize_bilinear(features, (48, 32), target.grid))
        return network.score(network.stages(inputs * masks[..., None])[-1], 5)

    scores = np.zeros((2, WIDTH))
    for channel in range(WIDTH):
        of_masked = score(network, target.inputs, features[..., channel])
        scores[:, channel] = np.asarray(of_masked)[np.arange(2), LABELS]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.maximum(np.einsum("bhwc,bc->bhw", features, weights), 0)
    np.testing.assert_allclose(maps, expected, atol=1e-4)
    assert expected.max(axis=(1, 2)).min() > 0


def test_ablationcam_zeroes_a_channel_of_the_patches_and_leaves_the_prefix(network, target):
    stage, features = target.stages[NORM1], np.asarray(target.features)
    whole = np.asarray(score_of_stage(network, stage, NORM1))[np.arange(2), LABELS]
    drop = np.zeros((2, WIDTH))
    for channel in range(WIDTH):
        without = features * (np.arange(WIDTH) != channel).astype(np.float32)
        scores = np.asarray(score_of_stage(network, network.with_map(stage, without), NORM1))
        drop[:, channel] = (whole - scores[np.arange(2), LABELS]) / np.abs(whole)
    expected = np.maximum(np.einsum("bhwc,bc->bhw", features, drop), 0)
    np.testing.assert_allclose(found("ablationcam", target), expected, atol=1e-4 * max(1, expected.max()))


def test_token_stages_are_fused_as_maps_of_one_size(network, target, pictures):
    cam, layercam = fused(CAMS["layercam"](), ("stage3", "stage5", "stage4"), 6, network.cam_stage), CAMS["layercam"]()
    maps, alone = jax.jit(lambda target: (cam(target), [layercam(target.at(stage)) for stage in (2, 3, 4)]))(target)
    np.testing.assert_allclose(maps, fuse(alone), atol=1e-6)
    assert fused(CAMS["layercam"](), (), 6, network.cam_stage).stages == (NORM1,)
    assert fused(CAMS["rollout"](), (), 6, network.cam_stage).stages == (5,)
    with_image = cams.compute("layercam", network, pictures, LABELS, stages=("stage1", "stage5"))
    assert with_image.shape == (2, 48, 32) and np.isfinite(with_image).all()


OF_ANY_HEAD = sorted(CAMS.keys() - {"fullgrad", "cam", "ccam"})


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "pool"),
    [
        *(("cam", "mean"), ("ccam", "mean")),
        *((name, "token") for name in OF_ANY_HEAD),
        *(pytest.param(name, "mean", marks=pytest.mark.long) for name in OF_ANY_HEAD),
    ],
)
def test_every_cam_takes_images_of_any_size_registers_and_half_precision(name, pool):
    exact, coarse = (classifier(pool, DINOv2, 1, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    given, labels = images(CLASSES, 40, 57), np.arange(CLASSES)  # 3 x 5 patches, the last ones in part
    maps = cams.compute(name, coarse, given, labels, **FEW.get(name, {}))
    assert maps.shape == (CLASSES, 40, 57) and maps.dtype == jnp.float32
    # A sum over tokens of both signs may be nowhere positive, so that its ReLU is 0, but not of all classes.
    assert np.isfinite(maps).all() and np.ptp(maps, axis=(1, 2)).max() > 0.5
    if name in ("cam", "gradcam", "layercam", "legrad", "rollout"):
        close = cams.compute(name, exact, given, labels)
        assert np.corrcoef(close.ravel(), maps.ravel())[0, 1] > 0.9


def test_fullgrad_refuses_a_transformer(network, pictures):
    with pytest.raises(InputError, match=r"^FullGrad is for convolutional networks; take 'legrad', 'gradcam' or"):
        cams.compute("fullgrad", network, pictures)


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["gradcam", "rollout", "legrad"])
def test_they_localize_after_stage_1_and_give_seeds_to_f_cam(name, network, pictures):
    cam = fused(CAMS[name](), (), 6, network.cam_stage)
    index, valid = np.arange(2, dtype=np.int32), np.ones(2, np.float32)
    batch = Batch(images=np.asarray(pictures), labels=LABELS.astype(np.int32), index=index, valid=valid)
    localized = jax.jit(ClassifierMethod(cam, "protocol", (), 1.0).localize)(network, batch)
    np.testing.assert_allclose(localized.maps, cams.compute(name, network, pictures, LABELS), atol=1e-5)
    method = FCAMMethod(cam, SeedSettings(0.5, 2, 2, 0.19, 0.19), PixelAlignment({"seeds": Weighted(Seeds(), 1.0)}))
    model = FCAM(network, Decoder((4, 6), (2, 4), (4, 4), rngs=nnx.Rngs(2)))  # which takes no part
    target = of_images(network, pictures, LABELS)
    seeds = jax.jit(method.seed_source)(model, target.stages, batch, keys(2))
    np.testing.assert_allclose(seeds, score_map(jax.jit(cam)(target), (48, 32), "fcam", target.grid), atol=1e-5)
    assert seeds.shape == (2, 48, 32) and seeds.max() > 0.5
