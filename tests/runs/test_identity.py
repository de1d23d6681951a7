"""A run is told from all others by its identity, wherever its folder lies; checkpoints count in their own run alone."""

import json
import shutil

import jax.numpy as jnp
import pytest

from fcam_jax.errors import InputError
from fcam_jax.runs.classifiers import take_classifier
from fcam_jax.runs.folder import IDENTITY, TAKEN_FROM, RunFolder
from fcam_jax.training.checkpoint import Progress
from fcam_jax.training.step import TrainState

STAGES = ("classifier", "fcam")
JUNK = ["", "[]", "7", "{}", '{"run": 7}', '{"run": null}', "[" * 10**5, "\0", "\xff", '{"run": "a"', '{"run": 1e999}']


def save(folder, step, stages=STAGES):
    """Train stages of a run a step further."""
    state = TrainState(jnp.asarray(step, jnp.int32), {"w": jnp.full(5, float(step))}, *2 * [{"b": jnp.ones(2)}])
    with RunFolder(folder, training=True) as run:
        for name in stages:
            run.stage(name).checkpoints.save_best(state, {"value": float(step)})
            run.stage(name).checkpoints.save(state, Progress(step, 0, "", step, step))
    return folder


def steps(folder):
    """The step that each stage goes on from."""
    with RunFolder(folder) as run:
        found = [run.stage(name).progress for name in STAGES]
    return [None if progress is None else progress.step for progress in found]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs of the same names, steps and shapes."""
    folder = tmp_path_factory.mktemp("two")
    for name in "ab":
        save(folder / name, 4)
    return folder


@pytest.fixture
def runs(two, tmp_path):
    return shutil.copytree(two, tmp_path / "runs")


@pytest.mark.slow
def test_a_run_may_be_copied_and_renamed(runs):
    assert json.loads((runs / "a" / IDENTITY).read_text()) != json.loads((runs / "b" / IDENTITY).read_text())
    shutil.copytree(runs / "a", runs / "copy")
    (runs / "a").rename(runs / "other name")
    for folder in (runs / "copy", runs / "other name"):
        assert steps(folder) == [4, 4]
        assert steps(save(folder, 6)) == [6, 6]


def test_a_lost_identity_is_that_of_the_checkpoints(runs):
    identity = (runs / "a" / IDENTITY).read_text()
    (runs / "a" / IDENTITY).unlink()
    assert steps(runs / "a") == [4, 4] and not (runs / "a" / IDENTITY).exists()
    save(runs / "a", 6)
    assert (runs / "a" / IDENTITY).read_text() == identity
    shutil.rmtree(runs / "a" / "fcam")
    shutil.copytree(runs / "b" / "fcam", runs / "a" / "fcam")
    (runs / "a" / IDENTITY).unlink()
    with pytest.raises(InputError, match=r"a holds the checkpoints of several runs; take out those that were put"):
        steps(runs / "a")


@pytest.mark.parametrize("text", JUNK, ids=lambda text: ascii(text[:12]))
def test_a_damaged_identity_is_named_with_the_cure(runs, text):
    (runs / "a" / IDENTITY).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"^\S*/a/run\.json is damaged \([^()]*(\([^()]*\))?\); delete it: the check"):
        steps(runs / "a")
    (runs / "a" / IDENTITY).unlink()
    assert steps(runs / "a") == [4, 4]


@pytest.mark.parametrize("training", [False, True])
def test_a_stage_of_another_run_is_never_taken_for_one_of_this(runs, caplog, training):
    shutil.rmtree(runs / "a" / "fcam")
    shutil.copytree(runs / "b" / "fcam", runs / "a" / "fcam")
    words = r"none of the checkpoints in \S*/a/fcam/checkpoints/latest is sound"
    with RunFolder(runs / "a", training=training) as run, pytest.raises(InputError, match=words):
        run.last_trained(STAGES)
    assert "fcam/checkpoints/latest/4 is left out: it is another one, which was put there: of run " in caplog.text


def test_stages_exchanged_are_told(runs, caplog):
    (runs / "a/fcam").rename(runs / "a/aside")
    (runs / "a/classifier").rename(runs / "a/fcam")
    (runs / "a/aside").rename(runs / "a/classifier")
    with pytest.raises(InputError, match="none of the checkpoints"):
        steps(runs / "a")
    assert "of stage fcam, not classifier" in caplog.text


def test_a_classifier_in_the_place_of_a_stage_that_is_to_come_is_told(tmp_path, caplog):
    save(tmp_path, 4, ["classifier"])
    with RunFolder(tmp_path) as run:
        assert run.last_trained(STAGES) == "classifier"
        assert "the stage fcam is not trained yet: classifier is taken" in caplog.text
        caplog.clear()
        assert run.last_trained(["classifier"]) == "classifier" and not caplog.text


def test_a_classifier_that_was_taken_counts_in_the_run_that_took_it(runs, caplog):
    take_classifier(runs / "a", runs / "taker", same_cam=True)
    save(runs / "taker", 8, ["fcam"])
    (runs / "taker").rename(runs / "renamed")
    assert steps(runs / "renamed") == [4, 8]
    best = runs / "renamed/classifier/checkpoints/best"
    shutil.rmtree(best)
    shutil.copytree(runs / "b/classifier/checkpoints/best", best)
    with RunFolder(runs / "renamed") as run:
        assert not run.stage("classifier").checkpoints._best.is_sound(4)
    assert "of run " in caplog.text


@pytest.mark.parametrize("text", JUNK, ids=lambda text: ascii(text[:12]))
def test_a_damaged_record_of_a_taken_classifier_is_named(runs, text):
    take_classifier(runs / "a", runs / "taker", same_cam=True)
    (runs / "taker/classifier" / TAKEN_FROM).write_bytes(text.encode("latin-1"))
    with pytest.raises(
        InputError, match=r"^\S*/taken_from\.json is damaged \([^()]*(\([^()]*\))?\); delete \S* to take"
    ):
        steps(runs / "taker")
