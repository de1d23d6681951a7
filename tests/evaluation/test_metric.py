"""What every metric demands of thresholds and score maps."""

import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation.metric import thresholds
from fcam_jax.evaluation.score_map import checked_score_map


def test_thresholds_start_at_zero_and_stay_below_one():
    taus = thresholds(0.001)
    assert len(taus) == 1000 and taus[0] == 0 and taus[-1] == 0.999


@pytest.mark.parametrize("step", [0.0, -0.1, 1.5, float("nan")])
def test_a_step_outside_zero_to_one_is_refused(step):
    with pytest.raises(InputError, match="threshold_step is"):
        thresholds(step)


@pytest.mark.parametrize(
    ("score_map", "reason"),
    [
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.zeros((2, 2), np.uint8), "uint8"),
        (np.array([[0, np.nan]]), "NaN"),
        (np.array([[0, np.inf]]), "infinity"),
        (np.array([[0, 1.5]]), r"\[0, 1.5\]"),
        (np.array([[-0.25, 1]]), r"\[-0.25, 1\]"),
    ],
)
def test_an_unusable_score_map_is_refused_by_name(score_map, reason):
    with pytest.raises(InputError, match=f"image birds/7.jpg: .*{reason}"):
        checked_score_map(score_map, "birds/7.jpg")


def test_a_float32_map_is_evaluated_in_float64():
    score_map = np.array([[0.1, 1]], np.float32)
    checked = checked_score_map(score_map, "a")
    assert checked.dtype == np.float64 and (checked == score_map).all()
