"""Networks as shapes alone: nothing is initialised or computed. Each is traced once for all tests of a process."""

import functools

from flax import nnx

from fcam_jax.models import ENCODERS
from fcam_jax.runtime.random import weight_keys

# One network of each family, the smallest.
FAMILIES = (
    "resnet18",
    "resnext50",
    "densenet121",
    "vgg16",
    "inceptionv3",
    "mobilenet_v1_025",
    "mobilenet_v2",
    "efficientnet_lite0",
    "convnext_tiny",
    "deit_tiny",
    "dinov2_vits14_reg",
    "small",
)


@functools.cache
def abstract_encoder(name, **settings):
    """An encoder by its name, which no test may change."""
    return nnx.eval_shape(lambda: ENCODERS[name](rngs=weight_keys(0), **settings))
