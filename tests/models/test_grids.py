"""Where the cells of every stage lie: a spot of light is seen where it is."""

import itertools
import math

import numpy as np
import pytest
from abstract import abstract_encoder
from point_source import misplaced

from fcam_jax.models import ENCODERS
from fcam_jax.models.encoder import Strided, offset_of

NAMES = ("mobilenet_v1_025", "mobilenet_v2", "efficientnet_lite0", "vgg16", "inceptionv3", "resnet18", "densenet121")
LIGHT = dict.fromkeys(("mobilenet_v2", "efficientnet_lite0"), 1e-4)  # ReLU6, and sums of many residuals


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize(("stride", "dilate"), [(8, False), (16, True)])
@pytest.mark.parametrize("name", NAMES)
def test_a_spot_is_seen_where_it_is(name, stride, dilate):
    """Sides of both parities at every halving; the last of each is one that halves to odd sides."""
    size = {8: (96, 89), 16: (194, 171), 32: (320, 301)}[stride]
    errors = misplaced(name, size, light=LIGHT.get(name, 1), final_stride=stride, dilate=dilate)
    np.testing.assert_allclose(errors, 0, atol=stride / 80)


def test_a_spot_is_seen_where_it_is_by_the_small_encoder():
    np.testing.assert_allclose(misplaced("small", (96, 89), light=1, final_stride=8), 0, atol=0.1)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "stride", "side", "offset"),
    [
        # 1/2 of a cell for every halving of an even side, -1/2 for an odd one, both less 1/3 for trained kernels.
        ("mobilenet_v1_075", 8, 128, (1 + 2 + 4) / 2 - (1 + 2 + 4 + 8 + 8) / 3),
        ("mobilenet_v1_075", 8, 146, (1 - 2 - 4) / 2 - (1 + 2 + 4 + 8 + 8) / 3),  # of 73 and 37 cells
        ("mobilenet_v1_075", 16, 224, 15 / 2 - (15 + 16) / 3),
        ("mobilenet_v1_075", 32, 224, 31 / 2 - 31 / 3),
        ("efficientnet_lite0", 8, 128, 3.5 - 0.4 * (1 + 2 + 4 + 8 + 8)),
        ("efficientnet_lite0", 32, 224, 15.5 - 0.4 * 31),
        ("efficientnet_lite0", 32, 260, -12.5 - 0.4 * 31),  # 65, 33 and 17 are odd
        ("mobilenet_v2", 8, 128, -3.5),
        ("mobilenet_v2", 32, 224, -15.5),
        *(("resnet18", 8, 224, -3.5), ("resnext50", 32, 224, -15.5), ("small", 8, 64, -3.5)),
        *(("densenet121", stride, 224, -1.5) for stride in (8, 16, 32)),
        ("vgg16", 8, 224, 0),
        ("vgg16", 32, 224, 0),
        ("inceptionv3", 8, 224, -3.5),
        ("inceptionv3", 16, 224, -7.5),
        # 3x3 windows without padding: 1 + 2 + 2 + 4 + 4 + 8 + 16 pixels after half a cell.
        ("inceptionv3", 32, 299, 37 - 15.5),
    ],
)
def test_offsets_of_the_top_map(name, stride, side, offset):
    assert abstract_encoder(name, final_stride=stride).offset(side) == pytest.approx(offset)


@pytest.mark.sampled
@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_the_strided_layers_of_every_encoder_make_its_strides(name):
    encoder = abstract_encoder(name)
    strides = [math.prod(layer.stride for layer in layers) for layers in encoder.strided]
    found = tuple(itertools.accumulate(strides, lambda scale, stride: scale * stride))
    assert found == tuple(encoder.strides) or encoder.strided == ()


def test_an_even_grid_and_an_offset_of_one():
    assert offset_of(64, ()) == 0 and offset_of(64, [Strided(4, 4, 0)]) == 0
    assert offset_of(64, [Strided(7, 2, 3), Strided(3, 2, 1)]) == -1.5
    encoder = abstract_encoder("mobilenet_v1_075")
    grid = encoder.grid(-1, (128, 146))
    assert grid.step == (8 / 128, 8 / 146)
    np.testing.assert_allclose(grid.first, [(4 + encoder.offset(side)) / side for side in (128, 146)])
