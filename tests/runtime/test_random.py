"""Named streams: distinct, and the draws that their numbers had before they had names."""

import itertools

import jax
import numpy as np
import pytest

from fcam_jax.runtime.random import OfImage, OfRun, OfStep, OfWeights, named, stream

KEY = jax.random.key(3)


def data(key):
    return jax.random.key_data(key).tolist()


@pytest.mark.parametrize("kind", [OfStep, OfImage, OfWeights, OfRun])
def test_streams_of_one_key_are_distinct(kind):
    assert len({tuple(data(stream(KEY, one))) for one in kind}) == len(kind.__members__)


def test_no_image_of_a_split_has_the_stream_of_something_else():
    assert min(OfStep) > 2**32 - 100  # a position is an int32


def test_the_numbers_are_those_that_a_seed_has_always_meant():
    of_step = {"AUGMENTATION": 2**32 - 1, "BATCH": 2**32 - 2, "HIDDEN": 2**32 - 3}
    for kind, numbers in (
        (OfStep, of_step),
        (OfImage, {"CAM": 2, "DROPOUT": 3}),
        (OfWeights, {"ENCODER": 0, "HEAD": 1, "DECODER": 2}),
        (OfRun, {"CLASSIFIER": 0, "FCAM": 1}),
    ):
        for name, number in numbers.items():
            assert data(stream(KEY, kind[name])) == data(jax.random.fold_in(KEY, number))
    seeds, landmarks = jax.random.split(KEY)
    assert data(stream(KEY, OfImage.SEEDS)) == data(seeds)
    assert data(stream(KEY, OfImage.LANDMARKS)) == data(landmarks)


def test_a_stream_of_many_keys_is_that_of_each():
    keys = jax.random.split(KEY, 5)
    for one, key in zip(stream(keys, OfImage.CAM), keys, strict=True):
        assert data(one) == data(stream(key, OfImage.CAM))


def test_a_component_has_streams_of_its_own_by_name():
    keys = [named(KEY, name) for name in ("mine.mask", "mine.order", "other.mask")]
    for one, other in itertools.combinations([*keys, *(stream(KEY, of) for of in OfStep)], 2):
        assert data(one) != data(other)
    assert data(keys[0]) == data(named(KEY, "mine.mask"))
    assert not np.array_equal(jax.random.uniform(keys[0]), jax.random.uniform(keys[1]))
