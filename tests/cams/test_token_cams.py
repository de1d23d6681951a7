"""CAMs on a transformer's tokens: recorded values, plain references, and all of them with images of any size."""

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
    top = target.at(5)
    np.testing.assert_array_equal(top.gradient(), 0)
    assert network.cam_stage == NORM1 and np.abs(target.gradient()).min(axis=(1, 2)).max() > 0
    by_default = cams.compute("gradcam", network, pictures, LABELS)
    expected = score_map(CAMS["gradcam"]()(target), (48, 32), "protocol", target.grid)
    np.testing.assert_allclose(by_default, expected, atol=1e-5)
    assert by_default.max() == 1 and CAMS["gradcam"]()(top).max() == 0


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
    for image, label in enumerate(LABELS):
        normed = stage.joined()[image]

        def score(patches, image=image, label=label, normed=normed):
            tokens = jnp.concatenate([normed[:prefix], patches])
            return class_score(
                network, block_of(block, stage.residual[image], tokens, matrices_of(block, tokens)), label
            )

        gradient, values = jax.grad(score)(normed[prefix:]), normed[prefix:]
        gradcam = jax.nn.relu((gradient.mean(axis=0) * values).sum(axis=-1))
        layercam = jax.nn.relu((jax.nn.relu(gradient) * values).sum(axis=-1))
        for name, expected in (("gradcam", gradcam), ("layercam", layercam)):
            found = CAMS[name]()(target)[image].ravel()
            np.testing.assert_allclose(found, expected, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_rollout_and_legrad_are_those_of_all_blocks_by_hand(pool, pictures):
    network = classifier(pool, registers=2)
    target = of_images(network, pictures, LABELS)
    rolled, summed = CAMS["rollout"]()(target), CAMS["legrad"](blocks=3)(target)
    first = network.encoder._embedded(target.inputs).joined()
    for image, label in enumerate(LABELS):
        x, product, relevance = first[image], np.eye(first.shape[1]), np.zeros(first.shape[1])
        for number, block in enumerate(network.encoder.blocks):
            normed = norm(block.norm1, x)
            matrices = matrices_of(block, normed)

            def score(matrices, block=block, x=x, normed=normed, label=label):
                return class_score(network, block_of(block, x, normed, matrices), label)

            if number >= DEPTH - 3:
                for of_head in np.asarray(jax.grad(score)(matrices)):
                    for row in of_head:
                        relevance += np.maximum(row, 0) / (HEADS * len(x))
            product = (np.asarray(matrices).mean(axis=0) + np.eye(len(x))) / 2 @ product
            x = block_of(block, x, normed, matrices)
        row = product[0, -6:] if pool == "token" else product[-6:, -6:].mean(axis=0)
        np.testing.assert_allclose(rolled[image].ravel(), row / row.max(), atol=1e-4)
        np.testing.assert_allclose(summed[image].ravel(), relevance[-6:], atol=1e-4 * relevance.max())
        assert np.ptp(row) / row.max() > 0.05 and np.ptp(relevance[-6:]) > 0


def test_cam_of_a_mean_of_the_patches_sums_up_to_the_score(pictures):
    network = classifier("mean")
    target = of_images(network, pictures, LABELS)
    maps, scores = CAMS["cam"]()(target), network.score(target.stages[-1], 5)
    of_labels = scores[np.arange(2), LABELS] - network.head.fc.bias[...][LABELS]
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), of_labels, atol=1e-5)
    np.testing.assert_allclose(CAMS["hirescam"]()(target) * 6, maps, atol=1e-4)
    assert network.cam_stage == -1 and np.ptp(maps) > 0


def test_cam_of_a_class_token_is_refused_in_one_line(network, pictures):
    message = r"^the CAM 'cam' needs a head on the map, and this one sees the class token alone: let it see .*$"
    with pytest.raises(InputError, match=message):
        cams.compute("cam", network, pictures)


def test_scorecam_masks_the_image_by_every_channel_of_the_patches(network, pictures, target):
    features = np.asarray(target.features)
    found = CAMS["scorecam"](chunk=8)(target)
    scores = np.zeros((2, WIDTH))
    for channel in range(WIDTH):
        masks = minmax(resize_bilinear(target.features[..., channel], (48, 32), target.grid))
        stages = network.stages(target.inputs * masks[..., None])
        scores[:, channel] = network.score(stages[-1], 5)[np.arange(2), LABELS]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.maximum(np.einsum("bhwc,bc->bhw", features, weights), 0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.max(axis=(1, 2)).min() > 0


def test_ablationcam_zeroes_a_channel_of_the_patches_and_leaves_the_prefix(network, target):
    stage, features = target.stages[NORM1], np.asarray(target.features)
    whole = np.asarray(network.score(stage, NORM1))[np.arange(2), LABELS]
    drop = np.zeros((2, WIDTH))
    for channel in range(WIDTH):
        ablated = network.with_map(stage, stage.patches.at[..., channel].set(0))
        drop[:, channel] = (whole - network.score(ablated, NORM1)[np.arange(2), LABELS]) / np.abs(whole)
    expected = np.maximum(np.einsum("bhwc,bc->bhw", features, drop), 0)
    np.testing.assert_allclose(CAMS["ablationcam"]()(target), expected, atol=1e-4 * max(1, expected.max()))


def test_token_stages_are_fused_as_maps_of_one_size(network, target, pictures):
    found = fused(CAMS["layercam"](), ("stage3", "stage5", "stage4"), 6, network.cam_stage)(target)
    np.testing.assert_allclose(found, fuse([CAMS["layercam"]()(target.at(stage)) for stage in (2, 3, 4)]), atol=1e-6)
    assert fused(CAMS["layercam"](), (), 6, network.cam_stage).stages == (NORM1,)
    assert fused(CAMS["rollout"](), (), 6, network.cam_stage).stages == (5,)
    with_image = cams.compute("layercam", network, pictures, LABELS, stages=("stage1", "stage5"))
    assert with_image.shape == (2, 48, 32) and np.isfinite(with_image).all()


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "pool"),
    [
        (name, pool)
        for name in sorted(CAMS)
        for pool in ("token", "mean")
        if name != "fullgrad" and not (name in ("cam", "ccam") and pool == "token")
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


@pytest.mark.parametrize("name", ["gradcam", "rollout", "legrad"])
def test_they_localize_after_stage_1_and_give_seeds_to_f_cam(name, network, pictures):
    cam = fused(CAMS[name](), (), 6, network.cam_stage)
    index, valid = np.arange(2, dtype=np.int32), np.ones(2, np.float32)
    batch = Batch(images=np.asarray(pictures), labels=LABELS.astype(np.int32), index=index, valid=valid)
    found = ClassifierMethod(cam, "protocol", (), 1.0).localize(network, batch)
    np.testing.assert_allclose(found.maps, cams.compute(name, network, pictures, LABELS), atol=1e-5)
    method = FCAMMethod(cam, SeedSettings(0.5, 2, 2, 0.19, 0.19), PixelAlignment({"seeds": Weighted(Seeds(), 1.0)}))
    model = FCAM(network, Decoder((4, 6), (2, 4), (4, 4), rngs=nnx.Rngs(2)))  # which takes no part
    stages = network.stages(network.normalize(batch.images))
    seeds = method.seed_source(model, stages, batch, keys(2))
    target = of_images(network, pictures, LABELS)
    np.testing.assert_allclose(seeds, score_map(cam(target), (48, 32), "fcam", target.grid), atol=1e-5)
    assert seeds.shape == (2, 48, 32) and seeds.max() > 0.5
