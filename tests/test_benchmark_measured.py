"""What was measured of a step stands beside the estimate of the very same step."""

import pytest

from benchmarks import measured

STEP = {"stage": "fcam", "encoder": "resnet50", "dtype": "bfloat16", "size": 224, "accumulate": 1, "remat": False}
LINE = STEP | {"batch": 32, "step ms": 10.0}
DEVICE = "NVIDIA H200"
ESTIMATE = STEP | {"images": 32, "devices": 1, "target": "h200", "kernel": "auto"}
ESTIMATE |= {"least ms": 4.0, "CRF %": 7.0, "seeds %": 2.0, "planned GB": 1.0}


def test_a_step_has_its_estimate():
    found = measured.estimated(LINE, DEVICE, [ESTIMATE | {"images": 128}, ESTIMATE])
    assert found["reached %"] == pytest.approx(40)
    assert (found["least ms"], found["estimated CRF %"], found["estimated seeds %"]) == (4, 7, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"images": 16},
        {"dtype": "float32"},
        {"devices": 8},
        {"stage": "classifier"},
        {"target": "a100"},
        {"size": 128},
        {"kernel": "pallas"},
        {"remat": True},
    ],
)
def test_another_steps_estimate_is_not_its(other):
    assert measured.estimated(LINE, DEVICE, [ESTIMATE | other]) == LINE


def test_a_step_that_does_not_compile_has_no_estimate():
    failed = {name: value for name, value in ESTIMATE.items() if name != "least ms"}
    assert measured.estimated(LINE, DEVICE, [failed | {"error": "no memory"}]) == LINE


def test_the_waits_are_those_of_the_log():
    log = "fcam: epoch 0 of 2, val x, waiting for data 0.0 %\nfcam: epoch 1 of 2, loss 1, waiting for data 2.5 %\n"
    assert measured.waits(log + "fcam: nothing has moved\n") == [("fcam", 1, 2.5)]
