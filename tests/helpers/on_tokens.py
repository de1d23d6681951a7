"""A tiny transformer under a way to train stage 1: its classifier, a training step on some devices, and F-CAM on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from at_once import at_once
from filled import filled, is_kernel
from flax import nnx
from jax.sharding import AxisType
from tiny_stages import CLASSES, STAGES, batch, decoder, optimizer

from fcam_jax.cams import CAMS
from fcam_jax.component import defaults_of
from fcam_jax.methods.classifier import ClassifierMethod, SeedMaps, new_layers
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.vit import Design, ViT8
from fcam_jax.runtime.random import weight_keys
from fcam_jax.training.placed import Placed, replicate, spread
from fcam_jax.training.step import initial_state, make_train_step
from fcam_jax.types import DATA_AXIS

DEPTH, HEADS, WIDTH = 4, 2, 12
DESIGN = Design(width=WIDTH, heads=HEADS, grid=2, resampling="size", depth=DEPTH)
GRADCAM = CAMS["gradcam"]()
VARIANCE = 0.005  # over the width: a deviation of 0.02, as that of initial weights


def tiny(way, classes=CLASSES, build=ViT8, **settings):
    """The classifier under a way, with patches of 8 pixels."""
    settings |= way.encoder_settings(build)
    return under(way, filled(lambda: build(DESIGN, rngs=nnx.Rngs(0), **settings), _drawn, VARIANCE), classes)


def _drawn(path, leaf):
    """Kernels, tokens and their positions."""
    return is_kernel(path, leaf) or leaf.ndim > 1


def under(way, encoder, classes=CLASSES):
    """The classifier of an encoder, which may be abstract, under a way."""
    head = way.head(encoder, classes, dtype=jnp.float32, rngs=nnx.Rngs(1))
    head = head or WGAP(encoder.channels[-1], classes, rngs=nnx.Rngs(1))
    return way.extend(Classifier(encoder, head), dtype=jnp.float32, rngs=nnx.Rngs(2))


def method_of(way, model):
    return ClassifierMethod(GRADCAM, "protocol", new_layers(model), 10.0, way)


def of_published(way, encoders, name, classes=200):
    """The network of a published size under a way, as shapes alone."""

    def build():
        settings = way.encoder_settings(encoders[name])
        return under(way, encoders[name](rngs=weight_keys(0), **settings), classes)

    assert way.encoder_settings(encoders[name]).keys() <= {*defaults_of(encoders[name])}
    return nnx.eval_shape(build)


def trained(model, method, devices, steps=1):
    """State before, state and metrics after some steps on so many devices."""
    mesh = jax.make_mesh((devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    state = initial_state(Placed.split(model, method, mesh), optimizer(method))
    before, key = jax.device_get(state), replicate(jax.random.key(7), mesh)
    run = make_train_step(Placed.split(model, method, mesh), method, optimizer(method))
    for number in range(steps):
        state, metrics = run(state, spread(batch(number), mesh), key)
    return before, jax.device_get(state), jax.device_get(metrics)


def assert_alike_on_one_device_and_on_four(way, figures, model=None, steps=1):
    """A step of every device count has the same figures and leaves the same; returns what was and became of one."""
    model = model or tiny(way)
    before, one, metrics = trained(model, method_of(way, model), 1, steps)
    _, four, of_four = trained(model, method_of(way, model), 4, steps)
    assert metrics.keys() == of_four.keys() == {"loss", "accuracy", *figures}
    for name, value in metrics.items():
        assert np.isfinite(value)
        np.testing.assert_allclose(of_four[name], value, rtol=2e-4, atol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    return before, one


def unchanged_parts(before, after):
    """Paths of the trained variables that no step has changed."""
    pairs = zip(jax.tree.leaves_with_path(before.params), jax.tree.leaves(after.params), strict=True)
    return {jax.tree_util.keystr(path, simple=True, separator=".") for (path, a), b in pairs if (a == b).all()}


def fcam_under(way, model):
    """F-CAM on a classifier, and its method with seeds from the way's own map."""
    return FCAM(model, decoder(model.encoder)), dataclasses.replace(STAGES["fcam"].method, cam=SeedMaps(way, GRADCAM))


def seeds_of_fcam(way, model, given):
    """What F-CAM on a classifier draws its seeds from, at the image's size, by the method's own map."""

    def source(model):
        whole, method = fcam_under(way, model)
        stages, _, _ = whole(jnp.asarray(given.images), train=False)
        return method.seed_source(whole, stages, given, jax.random.split(jax.random.key(0), len(given.labels)))

    return at_once(source, model)
