"""Some images of a split in the place of all."""

import numpy as np
import pytest

from fcam_jax.data.settings import DataSettings
from fcam_jax.data.source import Source, few, share
from fcam_jax.data.synthetic import Synthetic
from fcam_jax.errors import InputError

# 4 classes in turn: 6 images of classes 0 and 1, 5 of the others.
WHOLE = Synthetic(size=32, val=22, num_classes=4).open("val")


@pytest.mark.parametrize(
    ("choose", "amount", "counts"),
    [
        (few, 2, [2, 2, 2, 2]),
        (few, 6, [6, 6, 5, 5]),
        (share, 0.5, [3, 3, 2, 2]),
        (share, 0.01, [1, 1, 1, 1]),
    ],
)
def test_every_class_has_its_part_and_records_are_those_of_the_split(choose, amount, counts):
    part = choose(WHOLE, amount, seed=0)
    assert isinstance(part, Source) and len(part) == sum(counts)
    np.testing.assert_array_equal(np.bincount(part.labels()), counts)
    ids = [record.image_id for record in map(part.__getitem__, range(len(part)))]
    assert ids == sorted(set(ids)) and [part[i].label for i in range(len(part))] == part.labels().tolist()
    images = {WHOLE[i].image_id: WHOLE[i].image for i in range(len(WHOLE))}
    np.testing.assert_array_equal(part[1].image, images[ids[1]])


def test_the_choice_is_that_of_its_seed():
    prints = [few(WHOLE, 3, seed).fingerprint for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2] and WHOLE.fingerprint not in prints
    assert share(WHOLE, 1.0, 0) is WHOLE


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5])
def test_a_share_outside_its_range_is_named(fraction):
    with pytest.raises(InputError, match=rf"^fraction is {fraction}; it must lie in \(0, 1\]$"):
        DataSettings(fraction=fraction)
