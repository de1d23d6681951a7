"""ResNet50, head and decoder against the outputs of the authors' program for weights made from a formula."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.models import ENCODERS
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import TORCH, set_weights

STAGES = range(1, 6)  # stage 0 of the authors' program is the image itself


@pytest.fixture(scope="module")
def outputs(golden_resnet50, golden_images):
    """Stages, class scores and map scores, from modules that hold nothing but the imported weights."""
    weights = golden_resnet50
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

    return run(encoder, decoder, head, jnp.asarray(golden_images))


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
