"""Where ADL and SPG sit: as in the authors' programs, and by one rule in every other encoder."""

import functools

import jax.numpy as jnp
import pytest
from abstract import FAMILIES, abstract_encoder
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.methods.adl import attention_places
from fcam_jax.methods.places import three_places
from fcam_jax.methods.spg import SPG, guide_places
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.resnet import Small
from fcam_jax.models.vit import VITS
from fcam_jax.runtime.random import weight_keys

# Places of ADL, those of SPG with their channels, and the width of SPG's branches on them.
KNOWN = {
    "resnet50": (("layer3.0", "layer4.0", "layer4.2"), (("layer3.0", 1024), ("layer3.5", 1024)), 1024),
    "resnet101": (("layer3.0", "layer4.0", "layer4.2"), (("layer3.0", 1024), ("layer3.22", 1024)), 1024),
    "vgg16": (("pool3", "conv4_3", "conv5_3"), (("conv4_3", 512), ("conv5_3", 512)), 512),
    "inceptionv3": (("Mixed_5d", "Mixed_6e", "SPG_A3_2b"), (("Mixed_5d", 288), ("Mixed_6e", 768)), 512),
    "mobilenet_v1_050": (("blocks.4", "blocks.10", "blocks.12"), (("blocks.4", 128), ("blocks.10", 256)), 256),
    "small": (("blocks.0", "blocks.1", "blocks.2"), (("blocks.0", 32), ("blocks.1", 64)), 64),
}


@pytest.fixture(autouse=True)
def asked_once(monkeypatch):
    """The places of an encoder are known by a pass through it, and asked for several times."""
    monkeypatch.setattr(Encoder, "places", functools.cache(Encoder.places))


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_they_are_those_of_the_authors_programs_and_ends_of_stages_elsewhere(name):
    encoder = abstract_encoder(name)
    head = nnx.eval_shape(lambda: SPG().head(encoder, 3, dtype=jnp.float32, rngs=weight_keys(0)))
    guides = tuple((place.name, place.channels) for place in guide_places(encoder))
    assert (attention_places(encoder), guides, head.sides.b1.out_features) == KNOWN[name]


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("final_stride", [8, 16, 32])
@pytest.mark.parametrize("name", sorted({*FAMILIES} - {"small", *VITS}))
def test_they_exist_in_the_order_of_the_maps(name, final_stride):
    encoder = abstract_encoder(name, final_stride=final_stride)
    order = [place.name for place in encoder.places()]
    for places in (attention_places(encoder), [place.name for place in guide_places(encoder)]):
        assert [order.index(place) for place in places] == sorted({order.index(place) for place in places})


class OneStage(Encoder):
    """So many blocks in one stage."""

    def __init__(self, blocks):
        self.channels, self.strides, self.blocks = (3,), (1,), blocks

    def stage(self, index, x, *, train, rng=None, at=None):
        for block in range(self.blocks):
            x = at(f"block{block}", x)
        return x


def test_an_encoder_of_few_stages_has_them_at_its_last_places():
    assert [place.name for place in three_places(OneStage(5), {})] == ["block2", "block3", "block4"]
    assert attention_places(OneStage(3)) == ("block0", "block1", "block2")
    with pytest.raises(InputError, match=r"^OneStage has 2 places .* the method needs 3$"):
        attention_places(OneStage(2))


def test_a_class_below_one_that_is_known_has_the_same():
    class Mine(Small):
        pass

    encoder = nnx.eval_shape(lambda: Mine(rngs=nnx.Rngs(0)))
    assert three_places(encoder, {Small: ("stem", "")})[0].name == "stem"
    assert [place.name for place in three_places(encoder, {Small: ("stem", "")})[1:]] == ["blocks.1", "blocks.2"]
