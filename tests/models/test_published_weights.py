"""What is published for the encoders."""

import pytest
from flax import nnx

from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import ENCODERS, published_stride
from fcam_jax.models.mobilenet import MobileNetV1
from fcam_jax.models.pretrained import Pretrained, Sized, published, torchvision
from fcam_jax.models.weights_by_name import Download, unlike
from fcam_jax.runtime.random import weight_keys

OURS = Pretrained("hub:somebody/something:weights.safetensors", "MIT", side=64, classes=5)


def test_one_size_has_its_own_weights_and_builds_its_encoder():
    small = Sized(MobileNetV1, 0.25, pretrained=(OURS,))
    assert published(small) == (OURS,)
    assert published(Sized(MobileNetV1, 0.5)) == published(MobileNetV1) == ()
    assert small.func is MobileNetV1 and small.args == (0.25,) and small.keywords == {}


def test_an_encoder_of_one_size_has_them_itself():
    class Own(Encoder):
        pretrained = (OURS,)

    assert published(Own) == (OURS,)


def test_those_of_torchvision_by_version():
    first, second = torchvision("ResNet50", IMAGENET1K_V2="resnet50-11ad3fa6.pth", IMAGENET1K_V1="old.pth")
    assert first.name == "torchvision:ResNet50_Weights.IMAGENET1K_V2" and second.file == "old.pth"


@pytest.mark.parametrize("name", ENCODERS)
def test_what_the_encoders_name(name):
    for weights in published(ENCODERS[name]):
        source = weights.name.partition(":")[0]
        assert source in ("timm", "torchvision", "hub")
        assert weights.licence and weights.side > 0 and weights.classes >= 0
        assert bool(weights.file) == (source == "torchvision")


def of(source):
    return [
        (name, weights) for name in ENCODERS for weights in published(ENCODERS[name]) if weights.name.startswith(source)
    ]


def test_the_facts_are_those_of_torchvision():
    models = pytest.importorskip("torchvision.models")
    for _, weights in of("torchvision:"):
        there = models.get_weight(weights.name.partition(":")[2])
        assert there.url == f"https://download.pytorch.org/models/{weights.file}"
        assert there.transforms.keywords["crop_size"] == weights.side
        assert len(there.meta["categories"]) == weights.classes
    first = {weights.name.partition("_Weights")[0]: weights for _, weights in reversed(of("torchvision:"))}
    for weights in first.values():
        there = models.get_weight(weights.name.partition(":")[2])
        assert there is type(there).DEFAULT


def test_the_facts_are_those_of_timm():
    timm = pytest.importorskip("timm")
    for name, weights in of("timm:"):
        there = timm.get_pretrained_cfg(weights.name.partition(":")[2])
        assert there is not None and there.hf_hub_id == weights.name.replace(":", "/"), weights.name
        assert (there.license or "").lower() == weights.licence.lower(), weights.name
        assert (there.test_input_size or there.input_size)[-1] == weights.side or there.input_size[-1] == weights.side
        assert there.num_classes == weights.classes, weights.name
        mean, std = (tuple(255 * value for value in values) for values in (there.mean, there.std))
        build = ENCODERS[name]
        body = nnx.eval_shape(lambda build=build: build(final_stride=published_stride(build), rngs=weight_keys(0)))
        assert unlike(Download("", "", "", 0, "", mean, std), body) == "", weights.name
