"""CAMs of ResNet50 against those of the authors' program, for weights made from a formula."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.cams.registry import CAMS
from fcam_jax.cams.score_maps import minmax
from fcam_jax.models import ENCODERS
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import TORCH, set_weights


@pytest.fixture(scope="module")
def top(golden_resnet50, golden_images):
    """Features of the top stage, and the head."""
    encoder, head = nnx.eval_shape(lambda: (ENCODERS["resnet50"](rngs=nnx.Rngs(0)), WGAP(2048, 200, rngs=nnx.Rngs(0))))
    set_weights(encoder, golden_resnet50["encoder"], TORCH, "encoder")
    set_weights(head, golden_resnet50["classification_head"], TORCH, "head")
    run = nnx.jit(lambda encoder, images: encoder(images, train=False)[-1])
    return run(encoder, jnp.asarray(golden_images)), head


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "cams_resnet50.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", sorted(CAMS))
def test_maps_are_those_of_the_authors_program(top, golden, name):
    features, head = top
    found = minmax(CAMS[name](features, head, jnp.asarray(golden["classes"])))
    np.testing.assert_allclose(found, golden[name], atol=2e-5)


def test_the_maps_tell_the_cams_and_the_classes_apart(top, golden):
    features, head = top
    found = minmax(CAMS["cam"](features, head, jnp.asarray(golden["classes"][::-1])))
    assert np.abs(found - golden["cam"]).max() > 0.1
    assert np.abs(golden["cam"] - golden["layercam"]).max() > 0.1
