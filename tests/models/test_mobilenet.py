"""MobileNetV1 against the same network written out in XLA's operations, and with its real weights on real birds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from fcam_jax.models import ENCODERS
from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import load_classifier, set_weights
from fcam_jax.models.mobilenet import keras_name
from fcam_jax.runtime.random import weight_keys

# ImageNet's bird classes: cock to great grey owl, black grouse to black swan, white stork to albatross.
BIRDS = {*range(7, 25), *range(80, 101), *range(127, 147)}
ALBATROSS = 146


def random_weights(encoder):
    """Tensors by Keras' names; the scales are large enough for ReLU6 to cut."""
    rng = np.random.default_rng(0)
    weights = {}
    for path, leaf in nnx.to_flat_state(nnx.state(encoder, nnx.Any(nnx.Param, nnx.BatchStat))):
        name = keras_name(path)
        values = rng.normal(size=leaf.shape)
        if name.endswith("kernel"):
            values *= (2 / (9 if "depthwise" in name else np.prod(leaf.shape[:3]))) ** 0.5
        elif name.endswith(("gamma", "moving_variance")):
            values = 1.5 + np.abs(values)
        weights[name] = values.astype(np.float32)
    return weights


def written_out(weights, images, strides):
    """MobileNetV1 as Keras defines it, from the tensors' names; the map after every pointwise convolution."""

    def layer(x, name, kernel, stride, groups=1):
        x = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{leaf}"] for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return jnp.clip((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0, 6)

    x = layer(images, "conv1", weights["conv1/kernel"], 2)
    maps = []
    for number, stride in enumerate(strides, start=1):
        depthwise = weights[f"conv_dw_{number}/depthwise_kernel"].transpose(0, 1, 3, 2)
        x = layer(x, f"conv_dw_{number}", depthwise, stride, groups=depthwise.shape[-1])
        x = layer(x, f"conv_pw_{number}", weights[f"conv_pw_{number}/kernel"], 1)
        maps.append(x)
    return maps


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize(
    "final_stride, strides",
    [(8, (1, 2, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1)), (32, (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1))],
)
def test_stages_equal_those_of_the_network_written_out(final_stride, strides):
    encoder = nnx.eval_shape(lambda: ENCODERS["mobilenet_v1_025"](final_stride=final_stride, rngs=weight_keys(0)))
    weights = random_weights(encoder)
    set_weights(encoder, weights, "random")
    images = np.random.default_rng(1).normal(size=(2, 33, 46, 3)).astype(np.float32)
    stages = nnx.jit(lambda encoder, x: encoder(x, train=False))(encoder, images)
    maps = jax.jit(lambda x: written_out(weights, x, strides))(images)
    for stage, number in zip(stages, (1, 3, 5, 11, 13), strict=True):
        np.testing.assert_allclose(stage, maps[number - 1], atol=1e-3)  # of 6: rounding grows from layer to layer


@pytest.fixture(scope="module")
def birds(shared):
    """A dozen test images of different species at 224x224, and their folder names."""
    root = shared / "data" / "cub50"
    if not root.is_dir():
        pytest.skip(f"no birds at {root}")
    names = (root / "metadata" / "test" / "image_ids.txt").read_text().split()[::116]
    pixels = [
        np.asarray(Image.open(root / "images" / name).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
        for name in names
    ]
    return names, np.stack(pixels)


@pytest.fixture(scope="module")
def run(birds, shared):
    """Class scores, and mean and variance of every BatchNorm's input beside its stored statistics."""
    path = shared / "weights" / "mobilenet_v1_075_224_imagenet.safetensors"
    if not path.is_file():
        pytest.skip(f"no weights at {path}")

    def build():
        encoder = ENCODERS["mobilenet_v1_075"](final_stride=32, rngs=weight_keys(0))
        return Classifier(encoder, WGAP(encoder.channels[-1], 1000, rngs=nnx.Rngs(0)))

    classifier = nnx.eval_shape(build)
    load_classifier(classifier, path, keep_head=True)
    original = BatchNorm.__call__

    @nnx.jit
    def observe(classifier, images):
        paths = {id(node): path for path, node in nnx.iter_graph(classifier.encoder) if isinstance(node, BatchNorm)}
        seen = {}

        def recording(self, x, *, train):
            stored = jnp.stack([self.mean[...], self.var[...]])
            seen[paths[id(self)]] = jnp.stack([x.mean((0, 1, 2)), x.var((0, 1, 2))]), stored
            return original(self, x, train=train)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BatchNorm, "__call__", recording)
            return classifier(images, train=False)[1], seen

    return jax.device_get(observe(classifier, jnp.asarray(birds[1])))


def test_what_enters_every_batch_norm_has_the_statistics_stored_in_training(run):
    # Not the first: birds have other colours than ImageNet. Not the last's variance: it tells the classes apart.
    _, seen = run
    assert len(seen) == 27
    for path, ((mean, var), (stored_mean, stored_var)) in seen.items():
        if path[0] == "blocks":
            assert np.corrcoef(mean, stored_mean)[0, 1] > 0.93, path
        if path != ("blocks", 12, "pw_bn"):
            logs = np.log(var + 1e-9), np.log(stored_var + 1e-9)
            assert np.corrcoef(*logs)[0, 1] > 0.85, path


def test_birds_are_recognised_as_birds(run, birds):
    best = np.argsort(-run[0], axis=1)[:, :5]
    assert np.isin(best[:, 0], list(BIRDS)).mean() > 0.8
    assert np.isin(best, list(BIRDS)).mean() > 0.8
    albatrosses = [row for name, row in zip(birds[0], best, strict=True) if "Albatross" in name]
    assert albatrosses and all(ALBATROSS in row for row in albatrosses)
