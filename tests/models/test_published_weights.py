"""What is published for the encoders."""

import pytest

from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.mobilenet import MobileNetV1
from fcam_jax.models.pretrained import Pretrained, Sized, published, torchvision

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
