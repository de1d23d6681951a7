"""Every way from a low-resolution map to the image puts a spot of light where it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import abstract_encoder
from flax import nnx
from point_source import blurring, centre, spot

from fcam_jax import cams
from fcam_jax.cams.fusion import fused
from fcam_jax.cams.score_maps import score_map
from fcam_jax.losses import PixelAlignment, Seeds, Weighted
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.methods.few_shot import FewShot, Saliency
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.types import Batch

pytestmark = pytest.mark.slow

SIZE, PLACE = (96, 80), (50.0, 39.0)
LABELS = np.array([1])


def network(head=WGAP, classes=(2,)):
    """A network that shows the spot as it is, with a map for class 1 that is the mean of all channels."""
    encoder = blurring(abstract_encoder("mobilenet_v1_025"))
    model = Classifier(encoder, head(encoder.channels[-1], *classes, rngs=nnx.Rngs(0)))
    head_state = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1 / leaf.shape[0]), nnx.state(model.head, nnx.Param))
    nnx.update(model.head, head_state)
    return model


def batch(size=SIZE, place=PLACE):
    pixels = 127.5 + 127.5 * spot(size, place, 8.0)
    image = np.floor(pixels).astype(np.uint8)[None, :, :, None].repeat(3, axis=-1)
    return Batch(images=image, labels=LABELS, index=np.array([0]), valid=np.ones(1))


def assert_seen(maps, place=PLACE, atol=0.3):
    np.testing.assert_allclose(centre(maps[0]), place, atol=atol)


@pytest.fixture(scope="module")
def model():
    return network()


@jax.jit
def stages_of(model, images):
    return model(images, train=False)[0]


@pytest.mark.sampled
@pytest.mark.parametrize("convention", ["protocol", "fcam"])
@pytest.mark.parametrize(
    ("name", "stages"), [("layercam", ("stage2", "stage4")), ("cam", ()), ("scorecam", ("stage3",)), ("layercam", ())]
)
def test_cams_of_an_image(model, name, stages, convention):
    assert_seen(cams.compute(name, model, batch().images, LABELS, stages=stages, convention=convention))


def test_the_map_of_a_network_that_does_not_say_is_stretched(model):
    stages = jax.jit(type(model).stages)  # of an object that is no pytree, nothing is compiled as a whole

    class Unplaced:
        normalize, score = model.normalize, model.score

        def stages(self, inputs):
            return stages(model, inputs)

    maps = cams.compute("hirescam", Unplaced(), batch().images, LABELS)
    assert_seen(maps, np.array(PLACE) - 3.5)
    features = np.asarray(stages_of(model, batch().images)[-1]).mean(axis=-1)
    np.testing.assert_allclose(maps, score_map(features, SIZE, "protocol"), atol=1e-4)


@pytest.mark.sampled
@pytest.mark.parametrize("stages", [("stage2", "stage5"), ()])
def test_localization_and_seeds(model, stages):
    cam = fused(cams.LayerCAM(), stages, 5)
    assert_seen(jax.jit(ClassifierMethod(cam, "protocol", (), 1.0).localize)(model, batch()).maps)
    decoder = Decoder(model.encoder.channels, model.encoder.strides, (4,) * 5, rngs=nnx.Rngs(0))
    alignment = PixelAlignment({"seeds": Weighted(Seeds(), 1.0)})
    method = FCAMMethod(cam, SeedSettings(0.5, 2, 2, 0.19, 0.19), alignment, whole_side=98)
    keys = jax.random.split(jax.random.key(0), 1)
    whole, seed_source = FCAM(model, decoder), jax.jit(method.seed_source)
    assert_seen(seed_source(whole, stages_of(model, batch().images), batch(), keys))
    # Of a whole image of 98 pixels, which halve to 49, that is seen through a crop of 96 x 96 of it.
    given = batch((98, 98), (56.0, 42.0))
    cut = dataclasses.replace(
        batch((96, 96)),
        cams=jax.jit(method.whole_maps)(whole, given),
        crop=np.array([[2 / 98, 1 / 98, 96 / 98, 0]], np.float32),
    )
    assert_seen(seed_source(whole, (), cut, keys), (54.0, 41.0))


def test_the_map_of_the_few_shot_baseline():
    model = network(Saliency, ())
    localize = jax.jit(ClassifierMethod(cams.CAM(), "protocol", (), 1.0, FewShot()).localize)
    maps = localize(model, batch()).maps
    assert_seen(maps - maps.min())
