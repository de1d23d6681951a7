"""ResNet50, head and decoder against the outputs of the authors' program for weights made from a formula."""

import json
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.models import ENCODERS
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import TORCH, set_weights

STAGES = range(1, 6)  # stage 0 of the authors' program is the image itself


def regenerated(tensors):
    """The weights that shared/golden/README.md describes."""
    weights = {}
    for name, tensor in tensors.items():
        key, shape = tensor["seed_key"], tensor["shape"]
        values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
        if key.endswith("running_var"):
            values = 0.5 + np.abs(values)
        elif key.endswith("running_mean"):
            values = 0.1 * values
        elif len(shape) >= 2:
            values = values * np.sqrt(2 / np.prod(shape[1:]))
        else:
            values = 1 + 0.1 * values if key.endswith("weight") else 0.05 * values
        weights[name] = values.astype(np.float32)
    return weights


@pytest.fixture(scope="module")
def outputs(shared):
    """Stages, class scores and map scores, from modules that hold nothing but the imported weights."""
    groups = json.loads((shared / "golden" / "state_dict_keys_resnet50.json").read_text())
    weights = {group: regenerated(tensors) for group, tensors in groups.items()}
    last_layer = {f"head.{name[2:]}": array for name, array in weights["segmentation_head"].items()}

    def build():
        rngs = nnx.Rngs(0)
        encoder = ENCODERS["resnet50"](rngs=rngs)
        decoder = Decoder(encoder.channels, encoder.strides, (256, 128, 64, 32, 16), rngs=rngs)
        return encoder, decoder, WGAP(2048, 200, rngs=rngs)

    encoder, decoder, head = nnx.eval_shape(build)
    set_weights(encoder, weights["encoder"], TORCH, "encoder")
    set_weights(decoder, weights["decoder"] | last_layer, TORCH, "decoder")
    set_weights(head, weights["classification_head"], TORCH, "head")

    @nnx.jit
    def run(encoder, decoder, head, images):
        stages = encoder(images, train=False)
        return stages, head(stages[-1]), decoder(stages, (96, 96), train=False)

    images = np.random.default_rng(0).standard_normal((2, 3, 96, 96)).astype(np.float32)
    return run(encoder, decoder, head, jnp.asarray(images.transpose(0, 2, 3, 1)))


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "models_resnet50.npz") as file:
        return dict(file)


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("index", STAGES)
def test_stages(outputs, golden, index):
    stage = outputs[0][index - 1]
    n, c, h, w = golden[f"stage{index}_shape"]
    assert stage.shape == (n, h, w, c)
    assert_same(stage.mean((1, 2)), golden[f"stage{index}_mean"])
    assert_same(stage[:, :8, :8, :8], golden[f"stage{index}_corner"])


def test_class_scores(outputs, golden):
    assert_same(outputs[1], golden["logits"])


def test_map_scores(outputs, golden):
    assert_same(outputs[2], golden["fcam_logits"])
