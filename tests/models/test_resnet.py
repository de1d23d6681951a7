"""ResNet and ResNeXt: dilated layers in the place of strides."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from fcam_jax.runtime.random import weight_keys

KINDS = {
    "resnet": (BasicBlock, {}),
    "resnext": (Bottleneck, {"groups": 8, "width_of_groups": 4}),
}


@nnx.jit
def run(encoder, images):
    return encoder(images, train=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_dilated_network_computes_the_strided_one_at_more_places(kind, filled):
    block, settings = KINDS[kind]
    images = jnp.asarray(np.random.default_rng(1).normal(size=(1, 50, 75, 3)), jnp.float32)

    def stages(**sampled):
        return run(filled(lambda: ResNet(block, (1, 1, 2, 2), rngs=weight_keys(0), **settings, **sampled)), images)

    strided = stages(final_stride=32)
    for final_stride, steps in ((16, (1, 1, 1, 1, 2)), (8, (1, 1, 1, 2, 4))):
        dilated = stages(final_stride=final_stride, dilate=True)
        for step, ours, expected in zip(steps, dilated, strided, strict=True):
            seen = ours[:, ::step, ::step]
            np.testing.assert_allclose(seen, expected, atol=1e-5 * np.abs(expected).max())
    merely_larger = stages(final_stride=8)
    assert merely_larger[-1].shape == dilated[-1].shape
    assert np.abs(merely_larger[-1][:, ::4, ::4] - strided[-1]).max() > 0.1 * np.abs(strided[-1]).max()
