"""A run that finds settings of its own, through the job, and what of it is kept."""

import json
import shutil
from unittest import mock

import jax.numpy as jnp
import pytest

from configs import synthetic
from fcam_jax.configuration import override
from fcam_jax.methods.fcam import Judgement
from fcam_jax.runs import build, experiment, job, stage_evaluation
from fcam_jax.runs.trained import load_trained
from fcam_jax.training import search
from fcam_jax.training.placed import Placed, data_mesh

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
    "fcam.search.crf": (1.0, 3.0, 0.0),
    "fcam.search.background_fraction": (0.5, 1.0),
    "fcam.search.color": (1.0, 0.25),
    "evaluation.batch_size": 8,
    "evaluation.pictures": 0,
    "evaluation.examples": 0,
    "evaluation.threshold_step": 0.1,
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
    assert len(tried) == 3 and tried[2]["background_fraction"] == 1.0
    # Without boxes no stronger CRF is tried, and no share of colour.
    best = max(record["candidates"], key=lambda row: row["figures"]["score"])
    assert record["chosen"] == best["settings"]
    fitted = load_trained(run).model.fitted
    assert {name: float(one[...]) for name, one in fitted.items()} == record["chosen"]


def test_without_boxes_a_candidate_is_scored_by_its_cut(run):
    for row in json.loads((run / "fcam" / "search.json").read_text())["candidates"]:
        figures = row["figures"]
        assert figures["score"] == (-figures["cut"] if figures["seeds"] <= 0.6931 else -1 - figures["seeds"])


@pytest.mark.parametrize("selection", ["last", "MaxBoxAcc"])
def test_maps_that_contradict_their_seeds_count_less_than_any_others(selection):
    plan = build.experiment(override(synthetic.get_config(), SMALL | {"validation.selection": selection}))
    first, stage = plan.stages
    model, mesh = stage.build_model(first.build_model(None)), data_mesh(plan.data.batch_size)
    figures = {"MaxBoxAcc": 60.0, "MaxBoxAccV2": 40.0}
    training = mock.Mock(mesh=mesh, stream=plan.data.stream(0, None), validate=lambda state: figures)

    def scored(seeds):
        def judge(model, batch):
            return Judgement(seeds=jnp.full(len(batch.images), seeds), cut=jnp.full(len(batch.images), 0.3))

        score = experiment._score(plan, stage, model, judge, training, stage.search.by)
        return score(Placed.split(model, stage.method, mesh))["score"]

    sound = -0.3 if selection == "last" else 40.0
    expected = {0.6: sound, 0.8: -1.8 if selection == "last" else sound, 0.9: -1.9}
    assert {seeds: scored(seeds) for seeds in expected} == pytest.approx(expected)


@pytest.mark.long
def test_with_boxes_a_candidate_is_scored_by_the_figure_of_least_noise(run, tmp_path, monkeypatch):
    monkeypatch.setattr(stage_evaluation, "evaluate_stages", lambda *_: "")  # the search is all that is looked at
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
