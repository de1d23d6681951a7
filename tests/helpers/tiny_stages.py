"""A tiny classifier and F-CAM, batches and a stream of them, and the two methods, for the tests of training."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.cams.fusion import fused
from fcam_jax.losses import DenseCRF, PixelAlignment, Seeds, Size, Weighted
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Encoder, unchanged
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.layers import ConvBNReLU
from fcam_jax.models.vit import Design, ViT8
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.training.optimizer import SGD
from fcam_jax.training.placed import Placed
from fcam_jax.types import Batch

SIDE, CLASSES, BATCH = 16, 3, 8


def batch(seed):
    rng = np.random.default_rng(seed)
    return Batch(
        images=rng.integers(0, 256, (BATCH, SIDE, SIDE, 3)).astype(np.uint8),
        labels=rng.integers(0, CLASSES, BATCH).astype(np.int32),
        index=np.arange(BATCH, dtype=np.int32) + BATCH * seed,
        valid=np.ones(BATCH, np.float32),
    )


class Tiny(Encoder):
    """Three stages of one convolution each: few arrays, so that a step compiles and a checkpoint is written quickly."""

    channels, strides = (4, 6, 8), (2, 4, 4)

    def __init__(self, *, final_stride=4, dtype=jnp.float32, rngs):
        self.first = ConvBNReLU(3, 4, stride=2, dtype=dtype, rngs=rngs)
        self.second = ConvBNReLU(4, 6, stride=2, dtype=dtype, rngs=rngs)
        self.third = ConvBNReLU(6, 8, side=1, dtype=dtype, rngs=rngs)

    def stage(self, index, x, *, train, rng=None, at=unchanged):
        name = ("first", "second", "third")[index]
        return at(name, getattr(self, name)(x, train=train))


def classifier():
    encoder = Tiny(rngs=nnx.Rngs(0))
    return Classifier(encoder, WGAP(encoder.channels[-1], CLASSES, rngs=nnx.Rngs(1)))


def decoder(encoder, **settings):
    """The decoder of an encoder, with few channels."""
    widths = (6, 4, 4, 4)[: len(encoder.strides)]
    return Decoder(encoder.channels, encoder.strides, widths, **settings, rngs=nnx.Rngs(2))


def fcam(fitted=()):
    trained = classifier()
    return FCAM(trained, decoder(trained.encoder), fitted)


def fcam_on_tokens():
    """F-CAM on a transformer of four blocks and four patches, whose head sees the class token."""
    design = Design(width=12, heads=2, grid=2, resampling="size", depth=4)
    trained = Classifier(ViT8(design, rngs=nnx.Rngs(0)), WGAP(12, CLASSES, rngs=nnx.Rngs(1)))
    body = trained.encoder
    return FCAM(trained, Decoder(body.channels, body.strides, (6, 4, 4, 4), rngs=nnx.Rngs(2)))


def placed(stage, mesh):
    """A stage's model on the devices."""
    return Placed.split(stage.model, stage.method, mesh)


def optimizer(method):
    settings = SGD(learning_rate=0.05, decay_epochs=1)
    return settings.update(settings.schedule(2), method.learning_rate_factor)


STAGES = {
    "classifier": types.SimpleNamespace(
        model=classifier, method=ClassifierMethod(CAMS["cam"](), "protocol", (("head",),), 10.0)
    ),
    "fcam": types.SimpleNamespace(
        model=fcam,
        method=FCAMMethod(
            CAMS["cam"](),
            SeedSettings(0.5, 2, 2, 0.19, 0.19),
            PixelAlignment(
                {
                    "seeds": Weighted(Seeds(), 1.0),
                    "crf": Weighted(DenseCRF(stride=2), 1.2e-9),
                    "size": Weighted(Size(), 0.1),
                }
            ),
        ),
    ),
}


TOKENS = types.SimpleNamespace(
    model=fcam_on_tokens,
    method=dataclasses.replace(STAGES["fcam"].method, cam=fused(CAMS["gradcam"](), (), 6, 4)),
)


class Stream:
    """The batches 0, 1, 2, ... with a state, as the data pipeline gives them."""

    def __init__(self):
        self.position = 0

    def __next__(self):
        self.position += 1
        return batch(self.position - 1)

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]
