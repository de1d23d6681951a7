"""A run that finds settings of its own, through the job, and what of it is kept."""

import json
import shutil

import pytest

from configs import synthetic
from fcam_jax.configuration import override
from fcam_jax.runs import job
from fcam_jax.runs.trained import load_trained
from fcam_jax.training import search

pytestmark = pytest.mark.slow

SMALL = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 16,
    "data.synthetic.val": 8,
    "data.synthetic.test": 8,
    "model.decoder_widths": (8, 8, 4, 4),
    "classifier.epochs": 1,
    "fcam.epochs": 1,
    "fcam.loss.crf.start": 0,
    "fcam.pictures_epochs": 0,
    "fcam.search.updates": 2,
    "fcam.search.crf": (1.0, 0.0),
    "fcam.search.background_fraction": (0.5, 1.0),
    "fcam.search.color": (1.0, 0.25),
    "evaluation.batch_size": 8,
    "evaluation.pictures": 0,
    "evaluation.examples": 0,
    "evaluation.bootstrap": 0,
    "validation.threshold_step": 0.1,
    "validation.selection": "last",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "run"
    job.train(override(synthetic.get_config(), SMALL), folder)
    return folder


def test_the_model_holds_what_was_found_and_the_folder_every_candidate(run):
    record = json.loads((run / "fcam" / "search.json").read_text())
    tried = [row["settings"] for row in record["candidates"]]
    assert tried[:2] == [{"crf": crf, "background_fraction": 0.5, "color": 1.0} for crf in (1, 0)]
    assert len(tried) == 3 and tried[2]["background_fraction"] == 1.0  # and no share of colour, without boxes
    best = max(record["candidates"], key=lambda row: row["figures"]["score"])
    assert record["chosen"] == best["settings"]
    fitted = load_trained(run).model.fitted
    assert {name: float(one[...]) for name, one in fitted.items()} == record["chosen"]


def test_without_boxes_a_candidate_is_scored_by_its_cut(run):
    for row in json.loads((run / "fcam" / "search.json").read_text())["candidates"]:
        figures = row["figures"]
        assert figures["score"] == (-figures["cut"] if figures["seeds"] <= 0.6931 else -1 - figures["seeds"])


def test_with_boxes_a_candidate_is_scored_by_the_figure_of_least_noise(run, tmp_path):
    by_boxes = {"validation.selection": "MaxBoxAcc", "classifier.from_run": str(run), "fcam.search.crf": (1.0,)}
    one = {"fcam.search.background_fraction": (0.5,), "fcam.search.color": (1.0, 0.0)}
    job.train(override(synthetic.get_config(), SMALL | by_boxes | one), tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "fcam" / "search.json").read_text())["candidates"]
    assert [row["settings"]["color"] for row in rows] == [1.0, 0.0]
    for row in rows:
        figures = row["figures"]
        assert figures["score"] == (figures["MaxBoxAccV2"] if figures["seeds"] <= 0.85 else -1 - figures["seeds"])


def test_a_run_that_stopped_after_its_search_does_not_search_again(run, tmp_path, monkeypatch):
    again = shutil.copytree(run, tmp_path / "run")
    for path in ("fcam/checkpoints", "fcam/metrics.jsonl", "results.json"):
        target = again / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    monkeypatch.setattr(search, "_trained", lambda *_: pytest.fail("a candidate was trained again"))
    job.train(override(synthetic.get_config(), SMALL), again)
    methods = [json.loads((folder / "results.json").read_text())["methods"] for folder in (run, again)]
    assert methods[0] == methods[1]
