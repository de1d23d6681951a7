"""Sweep files: what they may say, in which order it is done, and the files that come with the program."""

import pathlib

import pytest

from configs import sweeps
from fcam_jax.errors import InputError
from fcam_jax.runs.sweeps.sweep_file import read_runs

FOLDER = pathlib.Path(sweeps.__file__).parent
FILES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
HEAD = "from fcam_jax.runs.sweeps.sweep_file import SweepRun\ndef get_runs(args):\n    return "


def written(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "the file defines no get_runs(args)"),
        ("x = ", "SyntaxError: invalid syntax"),
        ("def get_runs(args):\n    return [nothing]", "NameError: name 'nothing' is not defined"),
        ("from fcam_jax.errors import InputError\ndef get_runs(args):\n    raise InputError('no')", "no"),
        ("def get_runs():\n    return []", "TypeError: get_runs() takes 0 positional arguments but 1 was given"),
        (HEAD + "[]", "get_runs must return one or more fcam_jax.runs.sweeps.sweep_file.SweepRun"),
        (HEAD + "['a']", "get_runs must return one or more"),
        (HEAD + "[SweepRun('a', 'c.py', {'seed': i}) for i in range(2)]", "2 runs are called 'a'; a name is a folder"),
        (HEAD + "[SweepRun('a/b', 'c.py')]", "a run cannot be called 'a/b'"),
        (HEAD + "[SweepRun('..', 'c.py')]", "a run cannot be called '..'"),
        (HEAD + "[SweepRun('a\\n', 'c.py')]", "a run cannot be called 'a\\n'"),
        (HEAD + "[SweepRun('report', 'c.py')]", "a run cannot be called 'report'"),
        (HEAD + "[SweepRun('a', 'c.py', classifier_of='b')]", "run a has classifier_of='b', and no run is called so"),
        (
            HEAD + "[SweepRun('a', 'c.py', classifier_of='a')]",
            "run a has classifier_of='a', which trains no classifier",
        ),
    ],
)
def test_a_file_that_is_no_sweep_gets_one_line(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_runs(path)
    assert str(caught.value).startswith(f"--sweep={path}: {words}") and "\n" not in str(caught.value)


def test_a_sweep_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"^--sweep: no such sweep file: 'nowhere.py'; packaged: ablation, "):
        read_runs("nowhere.py:args")


def test_runs_keep_their_order_but_classifiers_that_others_take_come_first(tmp_path):
    path = written(
        tmp_path, HEAD + "[SweepRun('b', args, classifier_of='c'), SweepRun('a', args), SweepRun('c', args)]"
    )
    runs = read_runs(f"{path}:configs/cub.py:vgg16,cam")
    assert [run.name for run in runs] == ["c", "b", "a"]
    assert runs[0].config == "configs/cub.py:vgg16,cam"


@pytest.mark.parametrize(
    ("sweep", "count", "trained"),
    [
        ("ablation", 33, 3),
        ("ablation:cub50,part=terms", 15, 3),
        ("ablation:part=background,seeds=1", 7, 1),
        ("cub50", 10, 3),
        ("cub50:part=weights,encoder=mobilenet_v1_075", 9, 1),
        ("methods", 54, 54),
        ("six_cams", 18, 18),
        ("six_cams:shared", 18, 3),
        ("table1", 36, 36),
        ("table1:shared", 36, 6),
        ("search:benchmark=cub,method=has", 30, 30),
    ],
)
def test_the_sweeps_that_come_with_the_program(sweep, count, trained):
    name, colon, args = sweep.partition(":")
    assert name in FILES
    runs = read_runs(f"{FOLDER / name}.py{colon}{args}")
    assert (len(runs), sum(run.classifier_of is None for run in runs)) == (count, trained)


@pytest.mark.parametrize(("args", "drawn"), [("cub,has", True), ("cub,cam,deit_tiny", False), ("synthetic,cam", False)])
def test_the_search_draws_a_final_stride_where_the_encoder_has_several(args, drawn):
    runs = read_runs(f"{FOLDER}/search.py:{args}")
    assert {"model.final_stride" in run.overrides for run in runs} == {drawn}


def test_the_ablation_takes_terms_away_and_passes_other_names_to_the_benchmark():
    runs = {run.name: run for run in read_runs(f"{FOLDER}/ablation.py:cub,seeds=1,encoder=vgg16,cam=layercam")}
    assert {run.config for run in runs.values()} == {"cub:encoder=vgg16,cam=layercam"}
    weights = {name: {key for key in run.overrides if key.endswith("weight")} for name, run in runs.items()}
    assert weights["sr-crf-asc-s0"] == set() and weights["sr-crf-s0"] == {"fcam.loss.size.weight"}
    assert weights["sr-s0"] == {"fcam.loss.crf.weight", "fcam.loss.size.weight"}
    third = runs["sr-crf-third-s0"].overrides
    assert third["fcam.loss.size.weight"] == 0 and third["fcam.loss.crf.weight"] == pytest.approx(4e-10)
    assert set(runs["sr-crf-asc-third-s0"].overrides) == {"seed", "fcam.loss.crf.weight"}
    assert "n-0.7-s0" not in runs and runs["n-0.2-s0"].overrides["fcam.seeds.background_fraction"] == 0.2


@pytest.mark.parametrize("args", ["part=half", "seeds=none", "cub51", "seeds=1,seeds=2"])
def test_the_ablation_names_what_it_does_not_know(args):
    with pytest.raises(InputError, match=args.rpartition("=")[2]):
        read_runs(f"{FOLDER}/ablation.py:{args}")


@pytest.mark.parametrize("name", FILES)
def test_a_sweep_answers_an_argument_that_it_does_not_know(name):
    with pytest.raises(InputError, match="'nonsense'"):
        read_runs(f"{FOLDER / name}.py:nonsense")
