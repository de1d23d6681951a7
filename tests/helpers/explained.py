"""Small networks, and targets of them, for the tests of CAMs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.cams.attention import AttentionCAM
from fcam_jax.cams.contract import Target, explain
from fcam_jax.cams.fullgrad import FullGrad
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import Small

CLASSES = 5
OF_FEATURES = [name for name in CAMS if not issubclass(CAMS[name], AttentionCAM | FullGrad)]  # of any network
OF_NO_CLASS = {"ccam", "eigencam", "kpcacam", "fem", "randomcam"}
# Fewer noisy passes than the published ones.
FEW = {"sscam": {"samples": 3}, "iscam": {"samples": 3}}


class HeadAlone:
    """A network of one stage, its input."""

    def __init__(self, head):
        self.head = head

    def normalize(self, images):
        return images

    def stages(self, inputs):
        return (inputs,)

    def score(self, features, stage):
        return self.head(features)

    def activation(self, features, labels):
        return self.head.activation(features, labels)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def of_features(head, features, labels):
    """The target of a head whose features are given."""
    features, labels = jnp.asarray(features), jnp.asarray(labels)
    return Target(HeadAlone(head), features, (features,), labels, keys(len(labels)), 0)


def classifier(dtype=jnp.float32, widths=(4, 6, 8, 10)):
    encoder = Small(widths, dtype=dtype, rngs=nnx.Rngs(0))
    return Classifier(encoder, WGAP(encoder.channels[-1], CLASSES, dtype=dtype, rngs=nnx.Rngs(1)))


def images(count=3, height=24, width=32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3)), jnp.uint8)


def of_images(network, pictures, labels, stage=-1):
    """The target of a network's stage for raw images."""
    target = _explained(network, pictures, jnp.asarray(labels))
    return dataclasses.replace(target, network=network, stage=range(len(target.stages))[stage])


@jax.jit
def _explained(network, pictures, labels):
    """The pass as one program: operation by operation it would be a hundred, each of which is compiled."""
    maps = network.stages(network.normalize(pictures))
    return explain(network, pictures, maps, labels, keys(len(labels)))
