"""Helpers for the tests of what classifiers are trained by: one device, a tiny classifier, layers in plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import unchanged
from fcam_jax.models.resnet import Small
from fcam_jax.types import DATA_AXIS, Batch

CLASSES, WIDTHS = 3, (4, 6, 8, 10)


def on_one_device(function, *arguments):
    """The result of what reduces over the mesh axis, on a mesh of one device."""
    mapped = jax.vmap(lambda _, given: function(*given), (0, None), axis_name=DATA_AXIS)
    return jax.tree.map(lambda leaf: leaf[0], jax.jit(mapped)(jnp.zeros(1), arguments))  # given, not folded in


def classifier(head):
    """A tiny classifier; `head` is called with the encoder and a source of initial weights."""
    encoder = Small(WIDTHS, rngs=nnx.Rngs(0))
    return Classifier(encoder, head(encoder, nnx.Rngs(1)))


class InInference(Classifier):
    """A classifier whose BatchNorm keeps its statistics when it trains, too."""

    def __call__(self, images, *, train, rng=None, at=unchanged):
        return super().__call__(images, train=False, at=at)


def batch(count=4, side=16):
    rng = np.random.default_rng(0)
    return Batch(
        images=jnp.asarray(rng.integers(0, 256, (count, side, side, 3)), jnp.uint8),
        labels=jnp.asarray(rng.integers(0, CLASSES, count), jnp.int32),
        index=jnp.arange(count, dtype=jnp.int32),
        valid=jnp.ones(count),
    )


def conv3x3(layer, x):
    """A 3x3 convolution with zeros around the map, as nine shifted products in float64."""
    kernel, bias = np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64)
    rows, columns = x.shape[1:3]
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return bias + sum(padded[:, i : i + rows, j : j + columns] @ kernel[i, j] for i in range(3) for j in range(3))


def conv1x1(layer, x):
    """A 1x1 convolution in float64."""
    return x @ np.asarray(layer.kernel[0, 0], np.float64) + np.asarray(layer.bias[...], np.float64)


def cross_entropy(logits, labels):
    """Mean cross-entropy in float64."""
    logits = np.asarray(logits, np.float64)
    return np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), np.asarray(labels)])


def parameters(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
