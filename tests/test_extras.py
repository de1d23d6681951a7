"""Libraries that not everybody needs: without them the rest works, and what needs one says how to install it."""

import json
import logging
import pathlib
import sys

import numpy as np
import pytest

from fcam_jax.data.layouts.regions import Region, run_lengths
from fcam_jax.data.published.prepare import Preparation
from fcam_jax.data.tfds_source import TfdsSource
from fcam_jax.errors import InputError
from fcam_jax.training.metric_log import MetricLog


def test_polygons_without_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    message = r"^a mask of COCO needs pycocotools.*: pip install 'fcam-jax\[coco\]'$"
    with pytest.raises(InputError, match=message):
        Region(4, 4, polygons=([0, 0, 3, 0, 3, 3],)).mask()
    with pytest.raises(InputError, match=message):
        run_lengths(np.ones((2, 2), bool))
    assert Region(2, 1, runs=(1, 1)).mask().tolist() == [[False], [True]]


def test_data_sets_without_tfds(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(
        InputError, match=r"^data.source=tfds needs tensorflow_datasets: pip install 'fcam-jax\[tfds\]'$"
    ):
        TfdsSource(name="cub_wsol", split="train", data_dir=str(tmp_path), num_classes=0)
    monkeypatch.delitem(sys.modules, "fcam_jax.data.published.builder", raising=False)
    with pytest.raises(InputError, match=r"^fcam prepare needs tensorflow_datasets: pip install 'fcam-jax\[tfds\]'$"):
        Preparation._write(None, tmp_path)


def test_a_log_without_tensorboard(monkeypatch, tmp_path, caplog):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboardX"] + ["tensorboardX"]:
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.WARNING):
        log = MetricLog(tmp_path, -1, None)
    log.write(3, "train", {"loss": 0.5})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 3, "kind": "train", "loss": 0.5}
    assert not pathlib.Path(tmp_path / "events").exists()
    assert "pip install 'fcam-jax[tensorboard]'; metrics.jsonl has the figures" in caplog.text
