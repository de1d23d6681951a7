"""A metric of one class outside of the package, registered and named: in figures, intervals, parts, tables, report."""

import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation import METRICS, Figure, Metric, evaluate_arrays
from fcam_jax.evaluation.evaluator import evaluate
from fcam_jax.evaluation.metrics import columns
from fcam_jax.evaluation.settings import EvaluationSettings, ValidationSettings
from fcam_jax.runs.report.record import save_record
from fcam_jax.runs.report.runs import read_record
from fcam_jax.runs.report.tables import results_table
from fcam_jax.types import Annotation, Batch, Localization

N, SIDE = 5, 8


class Inside(Metric):
    """Share of a map's mass that lies in the true boxes, as a mean over images.

    Counts: ``parts``, sums of shares in units of a millionth.
    """

    figures = (Figure("Inside"),)
    needs = ("boxes",)

    def count(self, image):
        """Counts of one image."""
        mask = np.zeros(image.score_map.shape, bool)
        for x0, y0, x1, y1 in image.annotation.boxes:
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
        return {"parts": round(1e6 * image.score_map[mask].sum() / image.score_map.sum())}

    def compute(self):
        """The mean in percent."""
        return {"Inside": 100 * int(self.counts["parts"]) / 1e6 / self.images}


@pytest.fixture
def registered():
    """The metric, known for one test."""
    METRICS.register("Inside")(Inside)
    yield
    del METRICS["Inside"]


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    maps = rng.random((N, SIDE, SIDE)).astype(np.float32)
    boxes = [np.array([[0, 0, 3, i]]) for i in range(N)]
    return maps, boxes, [Annotation(f"{i}.png", i % 2, box) for i, box in enumerate(boxes)]


def evaluated(split, also):
    maps, _, truths = split
    batch = Batch(np.zeros((N, SIDE, SIDE, 3), np.uint8), np.arange(N) % 2, np.arange(N), np.ones(N, np.float32))
    wanted = EvaluationSettings(also=also, threshold_step=0.1, bootstrap=20).wanted
    return evaluate(lambda _: {"mine": Localization(maps, None)}, [(batch, truths)], wanted)["mine"]


def shares(maps):
    return [100 * one[: i + 1, :4].sum(dtype=np.float64) / one.sum(dtype=np.float64) for i, one in enumerate(maps)]


def test_its_figure_stands_beside_the_others(registered, split):
    found, plain = evaluated(split, "Inside"), evaluated(split, "")
    assert found.metrics.keys() - plain.metrics.keys() == {"Inside"}
    assert found.metrics["Inside"] == pytest.approx(np.mean(shares(split[0])), abs=1e-4)
    low, high = found.intervals["Inside"]
    assert low < found.metrics["Inside"] < high
    assert found.by_class[1]["Inside"] == pytest.approx(np.mean(shares(split[0])[1::2]), abs=1e-4)
    assert evaluate_arrays(split[0], boxes=split[1], also="Inside").metrics["Inside"] == found.metrics["Inside"]


def test_it_is_a_column_of_the_printed_table_and_of_the_report(registered, split, tmp_path):
    found = evaluated(split, "Inside")
    header, row = results_table({"mine": found.metrics}).splitlines()
    assert header.split()[-1] == "Inside" and row.split()[-1] == f"{found.metrics['Inside']:.1f}"
    save_record(tmp_path, "mine", found, images=N)
    record = read_record(tmp_path / "evaluation" / "mine.json")
    assert record.figures["Inside"] == found.metrics["Inside"]


def test_a_report_knows_the_columns_of_metrics_that_its_own_program_has_not(split):
    names = [
        "Inside",
        "Inside_at_val",
        "top1_cls",
        "MaxBoxAcc",
        "BoxAccV2_30",
        "MaxBoxAcc_threshold",
        "threshold_at_val",
    ]
    assert columns(names) == ["MaxBoxAcc", "top1_cls", "Inside"]
    assert columns(["images", "top1_loc_at_best", "Inside", "PxAP", "BoxAcc_at_best"]) == [
        *("BoxAcc_at_best", "PxAP", "top1_loc_at_best", "Inside")
    ]


def test_the_model_may_be_chosen_by_it(registered):
    assert Inside in ValidationSettings(selection="Inside").wanted.kinds
    assert Inside not in ValidationSettings().wanted.kinds


def test_what_is_not_registered_is_not_known(split):
    with pytest.raises(InputError, match="also names 'Inside'; known: InsertionDeletion, MeanBestIoU, PointingGame"):
        evaluated(split, "Inside")
    with pytest.raises(InputError, match="the metric 'PointingGame' is there already"):
        METRICS.register("PointingGame")(Inside)
