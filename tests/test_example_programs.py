"""The examples run, at tiny size."""

import os
import pathlib
import subprocess
import sys
import warnings

import PIL.Image
import pytest
from program import QUICKLY_COMPILED

pytestmark = pytest.mark.slow
EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"


def test_both_stages_train_by_hand(tmp_path):
    picture = tmp_path / "by_hand.png"
    command = [
        sys.executable,
        EXAMPLES / "train_by_hand.py",
        "--epochs=1",
        "--images=16",
        "--tests=8",
        f"--out={picture}",
    ]
    environment = os.environ | {"XLA_FLAGS": QUICKLY_COMPILED, "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Classifier epoch 1 of 1" in done.stdout and "FCAM epoch 1 of 1" in done.stdout
    assert "CAM MaxBoxAcc" in done.stdout and "F-CAM MaxBoxAcc" in done.stdout
    with PIL.Image.open(picture) as drawn:
        assert drawn.width > 400


def executed(name, folder, monkeypatch):
    """The code cells of a notebook, which keeps no outputs, after they have run."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("XLA_FLAGS", QUICKLY_COMPILED)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's client, not of this package
        nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    return code


def pictures_of(code):
    return [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]


@pytest.mark.long
def test_the_quickstart_notebook_runs(tmp_path, monkeypatch):
    code = executed("quickstart.ipynb", tmp_path, monkeypatch)
    assert any("%|" in output.get("text", "") for output in code[1].outputs)  # a bar of progress
    assert len(pictures_of(code)) == 3
    assert code[-1].outputs[0]["text"].endswith("floats are in [0, 1], uint8 in [0, 255]\n")


@pytest.mark.long
def test_the_notebook_of_a_network_of_one_s_own_runs(tmp_path, monkeypatch):
    code = executed("any_network.ipynb", tmp_path, monkeypatch)
    assert len(pictures_of(code)) == 2
    assert sum(output.get("text", "").count("average drop") for output in code[-1].outputs) == 5
