"""Runs to configurations, commands and what is done."""

import json
import pathlib

import pytest

from fcam_jax.configuration import configuration
from fcam_jax.errors import InputError
from fcam_jax.runs.classifiers import STAGE, take_classifier
from fcam_jax.runs.folder import config_hash
from fcam_jax.runs.sweeps.sweep_file import SweepRun, matching, plan, read_runs

SYNTHETIC = "configs/synthetic.py"


def complaint(*runs, options=None):
    with pytest.raises(InputError) as caught:
        plan(runs, pathlib.Path("w"), options or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


SWEEPS = ["six_cams.py", "six_cams.py:shared", "table1.py", "table1.py:shared", "methods.py", "ablation.py"]
SWEEPS += ["ablation.py:cub,encoder=vgg16,seeds=1", "ablation.py:benchmark=cub50,part=background,cam=layercam"]
SWEEPS += ["methods.py:cub", "methods.py:openimages,vgg16,seeds=1", "methods.py:benchmark=ilsvrc,seeds=1"]
SWEEPS += ["cub50.py:part=weights", "cub50.py:part=weights,encoder=mobilenet_v1_075"]
SWEEPS += [f"search.py:synthetic,{method}" for method in ("cam", "spg", "cutmix")]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_sweeps_that_come_with_the_program_can_be_planned(sweep):
    runs = read_runs(f"configs/sweeps/{sweep}")
    assert [one.run for one in plan(runs, pathlib.Path("w"), {})] == list(runs)


def test_a_command_gives_the_configuration_that_is_planned_and_the_command_line_counts_more():
    overrides = {"seed": 3, "cam.stages": ("stage3", "stage4"), "cam.cache": True, "fcam.loss.crf.weight": 1e-10}
    (one,) = plan([SweepRun("a", SYNTHETIC, overrides)], pathlib.Path("w"), {"seed": "5"})
    assert one.command[3:6] == (f"--config={SYNTHETIC}", f"--workdir={pathlib.Path('w') / 'a'}", "--config.seed=5")
    assert (one.config["seed"], one.config["cam"]["stages"]) == (5, ("stage3", "stage4"))
    assert one.config["cam"]["cache"] is True and one.config["fcam"]["loss"]["crf"]["weight"] == 1e-10
    given = dict(word.removeprefix("--config.").split("=") for word in one.command if word.startswith("--config."))
    assert configuration(SYNTHETIC, given).to_dict() == one.config


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (SweepRun("a", SYNTHETIC, {"sed": 1}), "run a: unknown configuration key config.sed: did you mean 'seed'?"),
        (SweepRun("a", SYNTHETIC, {"seed": "x"}), "run a: config.seed=x: it must be a whole number"),
        (SweepRun("a", "configs/nothing.py"), "run a: config: no such benchmark file: 'configs/nothing.py'"),
        (
            SweepRun("a", "configs/cub50.py:tpu"),
            "run a: config=configs/cub50.py:tpu: unknown config.model.encoder 'tpu'; known: ",
        ),
    ],
)
def test_a_run_that_cannot_be_built_is_named(run, words):
    assert complaint(run).startswith(words)


def test_two_runs_of_one_configuration_are_a_mistake():
    runs = SweepRun("a", SYNTHETIC), SweepRun("b", SYNTHETIC, {"seed": 0}), SweepRun("c", SYNTHETIC, {"seed": 1})
    assert complaint(*runs) == "runs a and b have the same configuration; leave one out"
    assert complaint(*runs[1:], options={"seed": "2"}).startswith("runs b and c have the same configuration")


@pytest.mark.parametrize(
    "overrides",
    [
        {"cam.name": "layercam"},
        {"cam.stages": ("stage3",), "cam.name": "layercam", "cam.convention": "fcam"},
        {"fcam.seeds.background_fraction": 0.6},
        {"model.decoder_widths": (8, 8, 8, 8)},
        {"evaluation.bootstrap": 0, "log_steps": 5},
    ],
)
def test_a_classifier_is_shared_by_runs_that_would_train_the_same(overrides):
    _, one = plan(
        [SweepRun("a", SYNTHETIC), SweepRun("b", SYNTHETIC, overrides, classifier_of="a")],
        pathlib.Path("w"),
        {"seed": "4"},
    )
    assert one.source is not None and one.source.name == "a"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("seed", 1, "seed: 0 in a, 1 in b"),
        ("classifier.epochs", 3, "classifier.epochs: 9 in a, 3 in b"),
        ("classifier.optimizer.learning_rate", 0.1, "classifier.optimizer.learning_rate: 0.05 in a, 0.1 in b"),
        ("model.dtype", "bfloat16", "model.dtype: float32 in a, bfloat16 in b"),
        ("data.synthetic.seed", 1, "data.synthetic.seed: 0 in a, 1 in b"),
        ("validation.selection", "PxAP", "validation.selection:  in a, PxAP in b"),
    ],
)
def test_a_classifier_is_not_shared_by_runs_that_would_train_another(key, value, text):
    message = complaint(SweepRun("a", SYNTHETIC), SweepRun("b", SYNTHETIC, {key: value}, classifier_of="a"))
    assert message == (
        f"run b cannot take the classifier of a, which is trained differently ({text}); leave out classifier_of"
    )


def test_a_run_is_done_when_its_folder_has_results_of_its_configuration(tmp_path):
    (one,) = plan([SweepRun("a", SYNTHETIC)], tmp_path, {})
    results = one.folder / "results.json"
    one.folder.mkdir()
    assert one.results() is None
    for text in ("{", json.dumps({"config_hash": "0" * 12})):
        results.write_text(text)
        assert one.results() is None
    results.write_text(json.dumps({"config_hash": config_hash(one.config)}))
    assert one.results() is not None
    # With the classifier of another run it would be another run.
    source = tmp_path / "b"
    (source / STAGE / "checkpoints").mkdir(parents=True)
    take_classifier(source, one.folder, same_cam=True)
    assert one.results() is None


def test_runs_are_chosen_by_a_pattern():
    runs = [
        SweepRun(f"{cam}-s{seed}", SYNTHETIC, {"cam.name": cam, "seed": seed})
        for cam in ("cam", "gradcam")
        for seed in (0, 1)
    ]
    planned = plan(runs, pathlib.Path("w"), {})
    assert [one.name for one in matching(planned, "*cam-s1")] == ["cam-s1", "gradcam-s1"]
    assert [one.name for one in matching(planned, "cam-s0")] == ["cam-s0"]
    with pytest.raises(InputError, match=r"^--only=cam: no run is called so; there: cam-s0, cam-s1, gradcam-s0, "):
        matching(planned, "cam")
