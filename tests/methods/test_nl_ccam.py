"""NL-CCAM: where its blocks are, that they count everywhere, and the map that localizes and gives the seeds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import replicated
from at_once import at_once, in_inference
from filled import filled
from flax import nnx
from one_device import WIDTHS, batch, parameters
from tiny_stages import STAGES, decoder

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import explain
from fcam_jax.cams.fusion import fused
from fcam_jax.cams.score_maps import score_map
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ClassifierMethod, SeedMaps
from fcam_jax.methods.nl_ccam import NLCCAM, NonLocalClassifier
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import Small
from fcam_jax.models.vgg import VGG16
from fcam_jax.runtime.random import weight_keys

WAY = NLCCAM()
METHOD = ClassifierMethod(CAMS["cam"](), "protocol", (("head",), ("blocks",)), 10.0, WAY)


def small():
    return filled(lambda: Small(WIDTHS, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def model():
    """With blocks that change something."""
    found = replicated.network(WAY, small())
    for number, block in enumerate(found.blocks):
        block.norm.scale[...] = jax.random.normal(jax.random.key(number), block.norm.scale.shape)
        block.norm.bias[...] = jnp.full(block.norm.bias.shape, 0.1)
    return found


def vgg16(final_stride):
    encoder = ENCODERS["vgg16"](final_stride=final_stride, **WAY.encoder_settings(VGG16), rngs=weight_keys(0))
    return NonLocalClassifier(Classifier(encoder, WGAP(encoder.channels[-1], 200, rngs=nnx.Rngs(0))), rngs=nnx.Rngs(0))


def test_vgg16_has_the_layers_of_the_released_program():
    found = nnx.eval_shape(lambda: vgg16(16))
    assert found.places == ("pool2", "pool3", "pool4", "conv5_3") and found.encoder.slope == 0.2
    assert parameters(found.blocks) == 1_369_952
    assert parameters(found) == 14_714_688 + 1_369_952 + 102_600
    assert nnx.eval_shape(lambda: vgg16(8)).places == ("pool2", "pool3", "conv4_3", "conv5_3")
    assert not WAY.encoder_settings(ENCODERS["resnet50"])


@pytest.mark.slow
def test_every_way_through_the_network_passes_the_blocks(model):
    images = batch().images

    def by_hand(model):
        x, found = model.normalize(images), []
        for index in range(4):
            x = model.blocks[index](model.encoder.stage(index, x, train=False), train=False)
            found.append(x)
        return found, Classifier(model.encoder, model.head)(images, train=False)[1]

    def further(model):
        stages = model.stages(model.normalize(images))
        return stages, [model.score(stage, index) for index, stage in enumerate(stages)]

    stages, logits = in_inference(model, images)
    expected, plain = at_once(by_hand, model)
    for stage, x in zip(stages, expected, strict=True):
        np.testing.assert_allclose(x, stage, rtol=1e-4, atol=1e-5)
    for stage, again, scores in zip(stages, *at_once(further, model), strict=True):
        np.testing.assert_allclose(again, stage, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scores, logits, rtol=1e-4, atol=1e-5)
    assert np.abs(plain - logits).max() > 1e-3


@pytest.mark.slow
def test_it_localizes_and_gives_seeds_by_the_combination_whatever_the_label(model):
    given = batch()
    keys = jax.random.split(jax.random.key(0), 4)

    @jax.jit
    def both(model, given):
        stages, logits = model(given.images, train=False)
        target = explain(model, given.images, stages, given.labels, keys)
        maps = CAMS["ccam"]()(target)
        expected = [score_map(maps, (16, 16), kind, target.grid) for kind in ("protocol", "fcam")]
        return METHOD.localize(model, given), logits, expected

    found, logits, (of_protocol, of_fcam) = both(model, given)
    other, _, _ = both(model, dataclasses.replace(given, labels=(given.labels + 1) % 3))
    np.testing.assert_array_equal(found.maps, other.maps)
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_allclose(found.maps, of_protocol, atol=1e-6)
    assert np.ptp(found.maps, axis=(1, 2)).min() > 0.9
    cam = fused(CAMS["layercam"](), ("stage2",), 4)
    method = dataclasses.replace(STAGES["fcam"].method, cam=SeedMaps(WAY, cam))

    def source(model, stages):
        return method.seed_source(FCAM(model, decoder(model.encoder)), stages, given, keys)

    seeds = at_once(source, model, in_inference(model, given.images)[0])
    np.testing.assert_allclose(seeds, of_fcam, atol=1e-5)


@pytest.mark.long
def test_it_is_trained_alike_on_one_device_and_on_four():
    before, one, _ = replicated.assert_alike_on_four(WAY, small, steps=2)
    for block, old in zip(one.params["blocks"].values(), before.params["blocks"].values(), strict=True):
        assert np.abs(block["norm"]["scale"]).max() > 0 and (block["value"]["kernel"] != old["value"]["kernel"]).any()


def test_its_blocks_learn_as_pretrained_layers_do():
    paths = (("blocks", 0, "query", "kernel"), ("head", "fc", "kernel"), ("encoder", "stem", "conv", "kernel"))
    assert [METHOD.learning_rate_factor(path) for path in paths] == [1.0, 10.0, 1.0]


def test_what_it_cannot_do_is_told():
    with pytest.raises(InputError, match=r"^combination is 'cubic'; known: "):
        NLCCAM(combination="cubic")
    transformer = nnx.eval_shape(lambda: ENCODERS["deit_tiny"](rngs=weight_keys(0)))
    with pytest.raises(InputError, match=r"^classifier.method=nl_ccam puts self-attention "):
        replicated.network(WAY, transformer)
