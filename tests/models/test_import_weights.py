"""Weights go in by name, all or none; whatever does not fit is listed, and a bad file costs one clear line."""

import hashlib

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import KERAS, TORCH, load_weights, set_weights


def empty(name):
    """An encoder without values, for what never gets that far."""
    return nnx.eval_shape(lambda: ENCODERS[name](rngs=nnx.Rngs(0)))


def variables(module):
    return nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)))


def torch_weights(module):
    """Random tensors of the right names, in PyTorch's layout."""
    rng = np.random.default_rng(0)
    layout = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        TORCH.name(path): rng.random(leaf.shape, np.float32).transpose(layout[len(leaf.shape)]).copy()
        for path, leaf in variables(module)
    }


def keras_weights(module):
    rng = np.random.default_rng(0)
    return {KERAS.name(path): rng.random(leaf.shape, np.float32) for path, leaf in variables(module)}


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    weights = torch_weights(empty("resnet18"))
    weights["fc.weight"] = np.zeros((1000, 512), np.float32)
    weights["bn1.num_batches_tracked"] = np.array(7)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(weights, path)
    return path, weights


def test_a_torchvision_file_fills_the_encoder_of_a_classifier_and_its_hash_is_returned(resnet_file):
    path, weights = resnet_file
    classifier = Classifier(empty("resnet18"), WGAP(512, 2, rngs=nnx.Rngs(0)))
    assert load_weights(classifier, path) == hashlib.sha256(path.read_bytes()).hexdigest()
    encoder = classifier.encoder
    np.testing.assert_array_equal(encoder.conv1.kernel[5, 3, 2, 9], weights["conv1.weight"][9, 2, 5, 3])
    projection, norm = encoder.layer3[0].downsample
    np.testing.assert_array_equal(projection.kernel[0, 0].T, weights["layer3.0.downsample.0.weight"][:, :, 0, 0])
    np.testing.assert_array_equal(norm.var[...], weights["layer3.0.downsample.1.running_var"])
    assert all(isinstance(leaf[...], jnp.ndarray) for _, leaf in variables(encoder))


def test_a_keras_file_fills_a_mobilenet_at_any_stored_precision(tmp_path):
    encoder = empty("mobilenet_v1_025")
    weights = keras_weights(encoder) | {"conv_preds/bias": np.zeros(1000, np.float32)}
    save_file({name: array.astype(ml_dtypes.bfloat16) for name, array in weights.items()}, tmp_path / "m.safetensors")
    load_weights(encoder, tmp_path / "m.safetensors")
    kernel = encoder.blocks[12].dw.kernel[...]
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(kernel, weights["conv_dw_13/depthwise_kernel"], rtol=1e-2)
    np.testing.assert_allclose(encoder.conv1_bn.mean[...], weights["conv1_bn/moving_mean"], rtol=1e-2)


def test_every_mismatch_is_listed_and_nothing_is_set():
    head = WGAP(3, 2, rngs=nnx.Rngs(0))
    before = np.asarray(head.fc.kernel[...])
    with pytest.raises(InputError) as error:
        set_weights(head, {"fc.weight": np.ones((2, 4)), "cls.bias": np.ones(2), "cls.scale": np.ones(2)}, TORCH, "x")
    assert str(error.value) == (
        "x does not fit this network: fc.bias is missing; cls.bias is unexpected; "
        "cls.scale is unexpected; fc.weight has shape (4, 2) instead of (3, 2)"
    )
    with pytest.raises(InputError, match=r"network: fc\.bias holds NaN or infinity"):
        set_weights(head, {"fc.weight": np.ones((2, 3)), "fc.bias": np.array([0, np.nan])}, TORCH, "x")
    np.testing.assert_array_equal(head.fc.kernel[...], before)


def test_a_file_of_another_depth_lists_what_is_missing(resnet_file):
    with pytest.raises(InputError, match=r"resnet18.*layer1\.2\.conv1\.weight is missing") as error:
        load_weights(empty("resnet34"), resnet_file[0])
    assert "\n" not in str(error.value)


def test_a_file_of_another_width_says_both_shapes(tmp_path):
    save_file(keras_weights(empty("mobilenet_v1_050")), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"conv1/kernel has shape \(3, 3, 3, 16\) instead of \(3, 3, 3, 8\)"):
        load_weights(empty("mobilenet_v1_025"), tmp_path / "m.safetensors")


def test_a_file_of_another_network_is_named(resnet_file):
    with pytest.raises(InputError, match="belong to a ResNet, but the encoder is a MobileNetV1"):
        load_weights(empty("mobilenet_v1_025"), resnet_file[0])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda data: data[:-4], "not a whole safetensors file"),
        (lambda data: data[:20], "not a whole safetensors file"),
        (lambda data: b"", "not a whole safetensors file"),
        (lambda data: b"PK\x03\x04" + bytes(100), "not a whole safetensors file"),
    ],
)
def test_a_damaged_file_costs_one_line(resnet_file, tmp_path, spoil, message):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(spoil(resnet_file[0].read_bytes()))
    with pytest.raises(InputError, match=message) as error:
        load_weights(empty("resnet18"), path)
    assert "\n" not in str(error.value)


def test_an_absent_file_a_folder_and_a_file_of_unknown_names_cost_one_line(tmp_path):
    with pytest.raises(InputError, match=r"absent\.safetensors: cannot be read \(No such file"):
        load_weights(empty("resnet18"), tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        load_weights(empty("resnet18"), tmp_path)
    save_file({"blocks.0.attn.qkv.weight": np.zeros(3)}, tmp_path / "vit.safetensors")
    with pytest.raises(InputError, match="neither torchvision's ResNet nor Keras' MobileNetV1"):
        load_weights(empty("resnet18"), tmp_path / "vit.safetensors")
