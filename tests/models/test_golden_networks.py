"""The three networks of the paper against the outputs of the authors' program for weights made from a formula."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.models import ENCODERS
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import set_weights

# Decoder widths, whether it has a centre block, and how many stages the authors' program counts besides ours: the
# first one of ResNet50 and InceptionV3 is the image itself.
NETWORKS = {
    "resnet50": ((256, 128, 64, 32, 16), False, 1),
    "vgg16": ((256, 128, 64), True, 0),
    "inceptionv3": ((256, 128, 64, 32, 16), False, 1),
}


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def network(request, shared, golden_weights, golden_images):
    """Stages, class scores and map scores, from modules that hold nothing but the imported weights; and the golden."""
    name = request.param
    widths, center, skipped = NETWORKS[name]
    weights = golden_weights(name)
    last_layer = {f"segmentation_head.{key}": array for key, array in weights["segmentation_head"].items()}

    def build():
        rngs = nnx.Rngs(0)
        encoder = ENCODERS[name](rngs=rngs)
        decoder = Decoder(encoder.channels, encoder.strides, widths, center=center, rngs=rngs)
        return encoder, decoder, WGAP(encoder.channels[-1], 200, rngs=rngs)

    encoder, decoder, head = nnx.eval_shape(build)
    set_weights(encoder, weights["encoder"], "encoder")
    set_weights(decoder, weights["decoder"] | last_layer, "decoder")
    set_weights(head, weights["classification_head"], "head")

    @nnx.jit
    def run(encoder, decoder, head, images):
        stages = encoder(images, train=False)
        return stages, head(stages[-1]), decoder(stages, (96, 96), train=False)

    with np.load(shared / "golden" / f"models_{name}.npz") as file:
        return run(encoder, decoder, head, jnp.asarray(golden_images)), dict(file), skipped


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_all_stages(network):
    (stages, _, _), golden, skipped = network
    assert f"stage{len(stages) + skipped}_shape" not in golden
    for index, stage in enumerate(stages, start=skipped):
        n, c, h, w = golden[f"stage{index}_shape"]
        assert stage.shape == (n, h, w, c)
        assert_same(stage.mean((1, 2)), golden[f"stage{index}_mean"])
        assert_same(stage[:, :8, :8, :8], golden[f"stage{index}_corner"])


def test_class_scores(network):
    assert_same(network[0][1], network[1]["logits"])


def test_map_scores(network):
    assert_same(network[0][2], network[1]["fcam_logits"])
