"""Steps that train classifier and decoder together: alike on any number of devices, in parts, with less memory."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from stepping import assert_same, run
from tiny_stages import STAGES, classifier, decoder, optimizer, placed

from fcam_jax.losses import Classification, Entropy, PixelAlignment, Reconstruction, Weighted
from fcam_jax.models.fcam import FCAM
from fcam_jax.training.placed import data_mesh
from fcam_jax.training.step import initial_state

pytestmark = pytest.mark.slow


def joint_stage():
    trained = classifier()
    model = FCAM(trained, decoder(trained.encoder, reconstruction=True))
    method = dataclasses.replace(
        STAGES["fcam"].method,
        alignment=PixelAlignment(
            STAGES["fcam"].method.alignment.terms
            | {
                "entropy": Weighted(Entropy(), 0.1),
                "reconstruction": Weighted(Reconstruction(), 0.5),
                "classification": Weighted(Classification(), 0.5),
            }
        ),
        classifier_factor=0.1,
    )
    return types.SimpleNamespace(name="joint", model=model, method=method, optimizer=optimizer(method))


def start(stage):
    return jax.device_get(initial_state(placed(stage, data_mesh(8)), stage.optimizer))


def test_four_devices_equal_one():
    four = run(joint_stage(), 4)
    assert {"entropy", "reconstruction", "classification", "accuracy"} < four[1][0].keys()
    assert_same(run(joint_stage(), 1), four)


@pytest.mark.long
def test_neither_the_number_of_devices_nor_rematerialisation_changes_what_parts_give():
    assert_same(run(joint_stage(), 1, accumulate=2), run(joint_stage(), 4, accumulate=2, remat=True))


def test_every_parameter_and_the_classifiers_statistics_change():
    before, after = start(joint_stage()), run(joint_stage(), 1)[0]
    assert set(after.params) == {"classifier", "decoder"}
    for part in ("params", "rest"):
        for old, new in zip(*(jax.tree.leaves(getattr(state, part)) for state in (before, after)), strict=True):
            # What the images are normalised by, and the like, is among the rest.
            assert part == "rest" or not np.array_equal(old, new)
    statistics = [jax.tree.leaves(state.rest["classifier"]) for state in (before, after)]
    assert all(not np.array_equal(old, new) for old, new in zip(*statistics, strict=True))
