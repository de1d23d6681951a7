"""DenseNet: its names, its stages, and dilated layers in the place of the means over windows."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import abstract_encoder
from flax import nnx
from point_source import misplaced

from fcam_jax.models.classifier import Classifier
from fcam_jax.models.densenet import DenseNet
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, load_classifier, save_weights
from fcam_jax.models.weight_names import named_variables
from fcam_jax.runtime.random import weight_keys

SIZE = {"depths": (2, 1, 2, 2), "stem": 8, "growth": 4}


def images(*sides):
    return jnp.asarray(np.random.default_rng(1).normal(size=(1, *sides, 3)), jnp.float32)


@nnx.jit
def run(encoder, x):
    return encoder(x, train=False)


@pytest.mark.slow
def test_the_dilated_network_computes_the_strided_one_at_more_places(filled):
    """Where all windows are whole."""

    def stages(**sampled):
        return run(filled(lambda: DenseNet(rngs=weight_keys(0), **SIZE, **sampled)), images(64, 96))

    strided = stages(final_stride=32)
    for final_stride, steps in ((16, (1, 1, 1, 1, 2)), (8, (1, 1, 1, 2, 4))):
        dilated = stages(final_stride=final_stride, dilate=True)
        for step, ours, expected in zip(steps, dilated, strided, strict=True):
            assert ours.shape[1:3] == (step * expected.shape[1], step * expected.shape[2])
            np.testing.assert_allclose(ours[:, ::step, ::step], expected, atol=1e-5 * np.abs(expected).max())
    merely_larger = stages(final_stride=8)
    assert merely_larger[-1].shape == dilated[-1].shape
    assert np.abs(merely_larger[-1][:, ::4, ::4] - strided[-1]).max() > 0.1 * np.abs(strided[-1]).max()


@pytest.mark.slow
@pytest.mark.parametrize("side", [5, 33])
def test_dilated_windows_at_the_edge_hold_what_there_is(side, filled):
    encoder = filled(lambda: DenseNet(rngs=weight_keys(0), final_stride=8, dilate=True, **SIZE))
    assert all(np.isfinite(stage).all() and stage.size for stage in run(encoder, images(side, side)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("final_stride", "offset"), [(16, 14 - 7.5), (8, 14 - 3.5)]
)  # cell 0 stays where it is in the strided network
def test_the_cells_of_dilated_networks_lie_where_the_strided_ones_do(final_stride, offset):
    assert abstract_encoder("densenet121", final_stride=32).offset(224) == 14 - 15.5
    assert abstract_encoder("densenet121", final_stride=final_stride, dilate=True).offset(224) == offset


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("final_stride", [8, 16])
def test_a_spot_is_seen_where_it_is_by_the_dilated_network(final_stride):
    found = misplaced("densenet121", (256, 192), final_stride=final_stride, dilate=True)
    np.testing.assert_allclose(found, 0, atol=final_stride / 40)


@pytest.mark.slow
def test_names_are_torchvision_s_and_those_of_its_files():
    encoder = abstract_encoder("densenet121")
    new, old = (named_variables(encoder, names) for names in encoder.weight_names)
    assert len(new) == len(old) == 604
    assert "features.denseblock3.denselayer24.conv1.weight" in new
    assert "features.denseblock3.denselayer24.conv.1.weight" in old
    for name in ("features.conv0.weight", "features.transition3.norm.running_var", "features.norm5.bias"):
        assert name in new and name in old


@pytest.fixture(scope="module")
def model(filled):
    """A small classifier, which no test changes."""

    def build():
        encoder = DenseNet(rngs=nnx.Rngs(0), **SIZE)
        return Classifier(encoder, WGAP(encoder.channels[-1], 3, rngs=nnx.Rngs(0)))

    return filled(build)


@pytest.mark.parametrize("layer", ["classifier", "fc", "last"])
@pytest.mark.parametrize("old", [False, True])
def test_a_file_comes_back_in_either_of_its_names_with_its_classification_layer(old, layer, model, tmp_path):
    weights = export_weights(model)
    assert weights["classifier.weight"].shape == (3, model.encoder.channels[-1])
    file = {name.replace("classifier", layer): array for name, array in weights.items()}
    if old:
        file = {re.sub(r"(denselayer\d\.(?:norm|conv))", r"\1.", name): array for name, array in file.items()}
    save_weights(file, tmp_path / "file.safetensors")
    again = nnx.clone(model)
    for leaf in jax.tree.leaves(nnx.state(again), is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)):
        leaf.set_value(jnp.asarray(np.full(leaf.shape, np.nan, np.float32)))
    imported = load_classifier(again, tmp_path / "file.safetensors", keep_head=True)
    assert imported.head == "kept" and imported.tensors == len(weights)
    jax.tree.map(np.testing.assert_array_equal, export_weights(again), weights)
