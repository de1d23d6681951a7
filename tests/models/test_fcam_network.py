"""Classifier and F-CAM as networks: normalisation, the head and its map, and that a frozen classifier stays frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import Small
from fcam_jax.runtime.random import weight_keys
from fcam_jax.types import DATA_AXIS


def classifier(dtype=jnp.float32):
    rngs = nnx.Rngs(0)
    return Classifier(Small((4, 6, 8, 10), dtype=dtype, rngs=rngs), WGAP(10, 3, dtype=dtype, rngs=rngs))


def fcam(dtype=jnp.float32):
    decoder = Decoder((4, 6, 8, 10), (2, 4, 8, 8), (6, 6, 4, 4), dtype=dtype, rngs=nnx.Rngs(1))
    return FCAM(classifier(dtype), decoder)


@nnx.jit
def infer(model, given):
    return model(given, train=False)


def images(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.mark.slow
def test_uint8_and_float_images_are_normalised_alike_and_as_the_encoder_expects(filled):
    given = images(2, 8, 8)
    model = filled(classifier)
    normalised = model.normalize(jnp.asarray(given))
    expected = (given / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    np.testing.assert_array_equal(model.normalize(jnp.asarray(given, jnp.float32)), normalised)

    mobilenet = nnx.eval_shape(
        lambda: Classifier(ENCODERS["mobilenet_v1_025"](rngs=weight_keys(0)), WGAP(256, 3, rngs=weight_keys(0)))
    )
    np.testing.assert_allclose(mobilenet.normalize(jnp.asarray(given)), given / 127.5 - 1, atol=1e-6)


@pytest.mark.slow
def test_the_mean_of_the_head_s_map_and_the_bias_are_the_score():
    head = WGAP(5, 4, rngs=nnx.Rngs(0))
    head.fc.bias[...] = jnp.arange(4.0)
    features = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 6, 5)), jnp.float32)
    labels = jnp.array([2, 0, 3])
    share = head.activation(features, labels).mean((1, 2))
    scores = head(features)[jnp.arange(3), labels]
    np.testing.assert_allclose(share + labels, scores, atol=1e-5)


def test_the_head_starts_as_pytorch_s_linear_layer():
    kernel = np.asarray(WGAP(100, 50, rngs=nnx.Rngs(0)).fc.kernel[...])
    assert 0.099 < np.abs(kernel).max() <= 0.1
    np.testing.assert_allclose(kernel.std(), 0.1 / np.sqrt(3), rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_scores_are_float32_and_maps_have_the_size_of_the_images(filled, dtype):
    stages, class_logits, map_logits = infer(filled(lambda: fcam(dtype)), jnp.asarray(images(2, 16, 24)))
    assert [stage.dtype for stage in stages] == [dtype] * 4
    assert (class_logits.shape, class_logits.dtype) == ((2, 3), jnp.float32)
    assert (map_logits.shape, map_logits.dtype) == ((2, 16, 24, 2), jnp.float32)


@pytest.mark.slow
def test_training_fcam_leaves_the_classifier_as_it_was(filled):
    model = filled(fcam)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    batch = jnp.asarray(images(2, 4, 16, 16))

    def loss(params, shard):
        copy = nnx.merge(graph, params, rest, copy=True)
        _, class_logits, map_logits = copy(shard, train=True)
        # Class scores too: even a loss that reads them must not reach a frozen classifier.
        value = (jax.nn.log_softmax(map_logits)[..., 1] ** 2).mean() + (class_logits**2).mean()
        return value, (nnx.state(copy, nnx.BatchStat), class_logits)

    step = jax.vmap(lambda shard: jax.grad(loss, has_aux=True)(params, shard), axis_name=DATA_AXIS)
    gradients, (stats, class_logits) = jax.jit(step)(batch)

    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients["classifier"]))
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradients["decoder"]))
    before = nnx.state(model, nnx.BatchStat)
    for old, new in zip(jax.tree.leaves(before["classifier"]), jax.tree.leaves(stats["classifier"]), strict=True):
        np.testing.assert_array_equal(new, jnp.stack([old, old]))
    for old, new in zip(jax.tree.leaves(before["decoder"]), jax.tree.leaves(stats["decoder"]), strict=True):
        assert (new != old).any()
    frozen = jnp.stack([infer(model.classifier, shard)[1] for shard in batch])
    np.testing.assert_allclose(class_logits, frozen, atol=1e-5)


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("size", [(75, 50), (33, 97)])
@pytest.mark.parametrize("name", ["resnet50", "vgg16", "inceptionv3"])
def test_the_maps_of_the_paper_s_networks_have_the_size_of_any_image(name, size):
    widths = (8, 6, 4) if name == "vgg16" else (8, 6, 4, 4, 4)

    def build():
        encoder = ENCODERS[name](rngs=weight_keys(0))
        decoder = Decoder(encoder.channels, encoder.strides, widths, center=name == "vgg16", rngs=nnx.Rngs(0))
        return FCAM(Classifier(encoder, WGAP(encoder.channels[-1], 5, rngs=nnx.Rngs(0))), decoder)

    graph, state = nnx.split(nnx.eval_shape(build))
    given = jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8)
    _, scores, maps = jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x, train=False), state, given)
    assert (scores.shape, maps.shape) == ((2, 5), (2, *size, 2))
