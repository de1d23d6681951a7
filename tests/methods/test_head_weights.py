"""Networks with the heads of ACoL, BAS, SPG and the few-shot baseline as weight files and back."""

import jax
import numpy as np
import pytest
from flax import nnx
from one_device import CLASSES

from fcam_jax.errors import InputError
from fcam_jax.methods.acol import ACoLHead
from fcam_jax.methods.bas import BASHead
from fcam_jax.methods.few_shot import Saliency
from fcam_jax.methods.spg import SPGHead
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import GAP
from fcam_jax.models.import_weights import export_weights, load_classifier, save_weights
from fcam_jax.models.resnet import Small

HEADS = {
    "acol": lambda classes, rngs: ACoLHead(10, classes, width=6, threshold=0.7, rngs=rngs),
    "bas": lambda classes, rngs: BASHead(10, classes, lower=8, width=6, rngs=rngs),
    "spg": lambda classes, rngs: SPGHead(10, classes, guides=(6, 8), width=6, rngs=rngs),
    "fsl": lambda classes, rngs: (
        Saliency(10, rngs=rngs) if classes == CLASSES else GAP(10, 2, background=False, rngs=rngs)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HEADS))
def test_weights_come_back_with_or_without_the_head(name, tmp_path):
    def made(seed, classes=CLASSES):
        rngs = nnx.Rngs(seed)
        return Classifier(Small((4, 6, 8, 10), rngs=rngs), HEADS[name](classes, rngs))

    path = tmp_path / "classifier.safetensors"
    trained, kept, left, wider = made(0), made(1), made(1), made(1, CLASSES + 1)
    save_weights(export_weights(trained), path)
    load_classifier(kept, path, keep_head=True)
    load_classifier(left, path, keep_head=False)
    for part, found, same in (
        ("encoder", kept, True),
        ("head", kept, True),
        ("encoder", left, True),
        ("head", left, False),
    ):
        pairs = zip(*(jax.tree.leaves(nnx.state(getattr(m, part), nnx.Param)) for m in (found, trained)), strict=True)
        # Biases and scales start alike.
        assert all((np.array_equal(a, b) is same) for a, b in pairs if a.ndim == 4)
    counts = (1, 2) if name == "fsl" else (CLASSES, CLASSES + 1)
    with pytest.raises(InputError, match=f"has {counts[0]} classes, this network's has {counts[1]}"):
        load_classifier(wider, path, keep_head=True)
