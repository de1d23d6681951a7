"""Runs that start from weights by a name."""

import hashlib
import json

import pytest
from served import serving

import fcam_jax as fc
from fcam_jax.models import weights_by_name
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.import_weights import export_weights, save_weights
from fcam_jax.models.pretrained import Sized, torchvision
from fcam_jax.models.resnet import Small
from fcam_jax.runs.report.report import write_report

pytestmark = pytest.mark.slow

VALUES = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 8,
    "data.synthetic.val": 8,
    "data.synthetic.test": 8,
    "last_stage": "classifier",
    "classifier.epochs": 1,
    "evaluation.batch_size": 8,
    "evaluation.pictures": 2,
    "evaluation.examples": 2,
    "evaluation.bootstrap": 0,
    "evaluation.threshold_step": 0.1,
    "validation.threshold_step": 0.1,
    "model.init": "torchvision:tiny",
}


def test_the_record_and_the_report_have_their_source_and_a_finished_run_needs_them_no_more(monkeypatch, tmp_path):
    file = tmp_path / "published.safetensors"
    save_weights(export_weights(fc.create_model("small", num_classes=3)), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    name = f"tiny-{digest[:8]}.pth"
    monkeypatch.setitem(ENCODERS, "tiny", Sized(Small, pretrained=torchvision("Tiny", V1=name)))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    weights_by_name._found.cache_clear()
    with serving() as server:
        server.files[f"/{name}"] = file.read_bytes()
        monkeypatch.setattr(weights_by_name, "_TORCH", server.url)
        begun = fc.train("synthetic", tmp_path / "run", VALUES)
    kept = tmp_path / "cache" / "hub" / "checkpoints" / name
    download = {
        "name": "torchvision:tiny",
        "url": f"{server.url}/{name}",
        "path": str(kept),
        "size": len(file.read_bytes()),
    }
    download |= {"sha256": digest, "mean": [], "std": []}
    record = json.loads((tmp_path / "run" / "classifier" / "pretrained.json").read_text())
    assert record["download"] == download and record["files"] == {str(kept): digest}
    assert begun["pretrained"]["CAM"] == record
    kept.unlink()
    weights_by_name._found.cache_clear()
    again = fc.train("synthetic", tmp_path / "run", VALUES)
    assert again["pretrained"] == begun["pretrained"]
    write_report([tmp_path / "run"], tmp_path / "report")
    text = (tmp_path / "report" / "tables.md").read_text()
    assert "What trainings started from" in text and digest[:16] in text and "torchvision:tiny" in text
