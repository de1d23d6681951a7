"""CAMs of the paper's networks against those of the authors' program, for weights made from a formula."""

import jax.numpy as jnp
import numpy as np
import pytest
from explained import of_features
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.cams.score_maps import minmax
from fcam_jax.models import ENCODERS
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import set_weights
from fcam_jax.runtime.random import weight_keys

pytestmark = pytest.mark.slow

# By the name in the golden file: the CAM and its settings.
GOLDEN = {
    "cam": ("cam", {}),
    "gradcam": ("gradcam", {}),
    "xgradcam": ("xgradcam", {}),
    "layercam": ("layercam", {}),
    "gradcam_pp_released": ("gradcampp", {"variant": "released"}),
}


@pytest.fixture(scope="module", params=["inceptionv3", "resnet50", "vgg16"])
def network(request, shared, golden_weights, golden_images):
    """Features of the top stage, the head, and the golden maps."""
    name = request.param

    def build():
        encoder = ENCODERS[name](rngs=weight_keys(0))
        return encoder, WGAP(encoder.channels[-1], 200, rngs=nnx.Rngs(0))

    encoder, head = nnx.eval_shape(build)
    weights = golden_weights(name)
    set_weights(encoder, weights["encoder"], "encoder")
    set_weights(head, weights["classification_head"], "head")
    run = nnx.jit(lambda encoder, images: encoder(images, train=False)[-1])
    with np.load(shared / "golden" / f"cams_{name}.npz") as file:
        return run(encoder, jnp.asarray(golden_images)), head, dict(file)


@pytest.mark.parametrize("name", GOLDEN)
def test_maps_are_those_of_the_authors_program(network, name):
    features, head, golden = network
    cam, settings = GOLDEN[name]
    found = minmax(CAMS[cam](**settings)(of_features(head, features, golden["classes"])))
    np.testing.assert_allclose(found, golden[name], atol=2e-5)


def test_the_maps_tell_the_cams_and_the_classes_apart(network):
    features, head, golden = network
    found = minmax(CAMS["cam"]()(of_features(head, features, golden["classes"][::-1])))
    assert np.abs(found - golden["cam"]).max() > 0.1
    assert np.abs(golden["cam"] - golden["layercam"]).max() > 0.1
    assert np.abs(golden["gradcam_pp_released"] - golden["layercam"]).max() > 0.01
