"""Every encoder against timm's network, where timm is installed: random weights, through a file and our loader.

By hand: ``python -m pytest -rP tests/models/test_timm_parity.py`` prints the largest difference of the class scores,
as a share of the largest score.
"""

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from fcam_jax.models import ENCODERS, create_model
from fcam_jax.models.pretrained import published

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
pytest.importorskip("torchvision")
randomised = pytest.importorskip("benchmarks.beside_timm").randomised

CLASSES = 7
OTHERS = {"resnet18": "resnet18", "resnet34": "resnet34", "resnet50": "resnet50", "resnet101": "resnet101"}
OTHERS["inceptionv3"] = "inception_v3.tv_in1k"


def timm_name(name):
    """What timm calls an encoder: the first of its weights that are published for it, or what is written here."""
    named = [weights.name for weights in published(ENCODERS[name]) if weights.name.startswith("timm:")]
    return named[0].removeprefix("timm:") if named else OTHERS.get(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ENCODERS if timm_name(name)])
def test_class_scores_are_timm_s(name, tmp_path):
    network = timm.create_model(timm_name(name), pretrained=False, num_classes=CLASSES).eval()
    save_file(randomised(network), tmp_path / "network.safetensors")
    model = create_model(name, tmp_path / "network.safetensors")
    mean, std = np.array(model.encoder.mean), np.array(model.encoder.std)
    np.testing.assert_allclose(mean / 255, network.default_cfg["mean"], atol=1e-3)
    np.testing.assert_allclose(std / 255, network.default_cfg["std"], atol=1e-3)
    # A transformer has its own grid of positions.
    size = network.default_cfg["input_size"][1:] if hasattr(network, "patch_embed") else (107, 128)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    with torch.no_grad():
        inputs = ((images - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
        expected = network(torch.from_numpy(np.ascontiguousarray(inputs))).numpy()
    found = jax.device_get(nnx.jit(lambda model, x: model(x, train=False)[1])(model, images))
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"{name} as {timm_name(name)}: {difference:.1e}")
    assert found.shape == (2, CLASSES) and difference < 1e-4
