"""Weights go in by name, all or none; whatever does not fit is listed, and they come out again bit by bit."""

import dataclasses
import functools
import hashlib
import json

import h5py
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from fcam_jax.cli.command import main
from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.heads import HEADS, WGAP
from fcam_jax.models.import_weights import (
    advising,
    count_classes,
    export_weights,
    load_classifier,
    load_decoder,
    set_weights,
)
from fcam_jax.runtime.random import weight_keys

HEAD_SETTINGS = {
    "gap": {"background": True},
    "wildcat": {"background": False, "modalities": 2, "kmax": 0.5, "kmin": 0.1, "alpha": 0.6},
}


def empty(name, classes=2, head="wgap", **settings):
    """A classifier without values."""
    return nnx.merge(*traced(name, classes, head, **settings), copy=True)


@functools.cache
def traced(name, classes, head, **settings):
    """Its parts, once for all tests."""

    def build():
        encoder = ENCODERS[name](rngs=weight_keys(0), **settings)
        build_head = HEADS[head]
        return Classifier(
            encoder, build_head(encoder.channels[-1], classes, **HEAD_SETTINGS.get(head, {}), rngs=nnx.Rngs(0))
        )

    return nnx.split(nnx.eval_shape(build))


def empty_decoder(widths=(4, 3, 2), center=True):
    return nnx.eval_shape(lambda: Decoder((2, 3, 4, 5), (1, 2, 4, 8), widths, center=center, rngs=weight_keys(0)))


def leaves(module):
    return nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)))


def fill(module, seed=0):
    """Random values in place of none."""
    rng = np.random.default_rng(seed)
    for _, leaf in leaves(module):
        leaf.set_value(jnp.asarray(rng.random(leaf.shape, np.float32)))
    return module


def assert_equal(first, second):
    for (path, one), (_, other) in zip(leaves(first), leaves(second), strict=True):
        assert isinstance(one[...], jax.Array), path
        np.testing.assert_array_equal(one[...], other[...], err_msg=str(path))


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    """A file as torchvision's: 1000 classes, step counts."""
    weights = export_weights(fill(empty("resnet18", 1000)))
    weights["bn1.num_batches_tracked"] = np.array(7)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(weights, path)
    return path, weights


@pytest.mark.slow
def test_a_torchvision_file_fills_the_encoder_and_the_record_says_from_what(resnet_file):
    path, weights = resnet_file
    classifier = empty("resnet18")
    imported = load_classifier(classifier, path, keep_head=False)
    encoder = classifier.encoder
    np.testing.assert_array_equal(encoder.conv1.kernel[5, 3, 2, 9], weights["conv1.weight"][9, 2, 5, 3])
    projection, norm = encoder.layer3[0].downsample
    np.testing.assert_array_equal(projection.kernel[0, 0].T, weights["layer3.0.downsample.0.weight"][:, :, 0, 0])
    np.testing.assert_array_equal(norm.var[...], weights["layer3.0.downsample.1.running_var"])
    assert all(isinstance(leaf[...], jnp.ndarray) for _, leaf in leaves(encoder))
    assert json.loads(json.dumps(dataclasses.asdict(imported))) == {
        "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest()},
        "family": "torchvision's ResNet",
        "tensors": 100,
        "untouched": [],
        "head": "left out",
        "told": "",
        "download": None,
    }


def test_the_classification_layer_comes_along_where_it_is_asked_for(resnet_file):
    path, weights = resnet_file
    classifier = empty("resnet18", 1000)
    assert load_classifier(classifier, path, keep_head=True).head == "kept"
    np.testing.assert_array_equal(classifier.head.fc.kernel[3], weights["fc.weight"][:, 3])
    np.testing.assert_array_equal(classifier.head.fc.bias[...], weights["fc.bias"])


def test_another_number_of_classes_is_refused_with_both_and_the_option(resnet_file):
    unfit = r"its classification layer has 1000 classes, this network's has 200"
    with pytest.raises(InputError, match=f"{unfit}$"):
        load_classifier(empty("resnet18", 200), resnet_file[0], keep_head=True)
    with pytest.raises(InputError, match=rf"{unfit} \(--num_classes=1000\)$"), advising(head="--num_classes={}"):
        load_classifier(empty("resnet18", 200), resnet_file[0], keep_head=True)


def test_a_head_that_is_asked_for_and_absent_is_missed(resnet_file, tmp_path):
    body = {name: array for name, array in resnet_file[1].items() if not name.startswith("fc.")}
    save_file(body, tmp_path / "body.safetensors")
    with pytest.raises(InputError, match=r"has no classification layer \(drop it\)$"), advising(head="drop it"):
        load_classifier(empty("resnet18"), tmp_path / "body.safetensors", keep_head=True)
    assert load_classifier(empty("resnet18"), tmp_path / "body.safetensors", keep_head=False).head == "absent"


@pytest.fixture
def few_encoders(monkeypatch):
    """The network of a file is looked for among these, of three families: to look through all takes a second."""
    few = {name: ENCODERS[name] for name in ("resnet18", "mobilenet_v1_025", "small")}
    monkeypatch.setattr("fcam_jax.models.weight_match.ENCODERS", few)


@pytest.fixture
def small(few_encoders):
    """A classifier of three classes, and its tensors as a file has them."""
    classifier = fill(empty("small", 3))
    return classifier, export_weights(classifier)


def under(prefix, weights):
    return {f"{prefix}{name}": array for name, array in weights.items()}


def loaded(weights, path, classes=3):
    """A classifier with the weights of such a file, and what was said of them."""
    save_file(weights, path)
    classifier = empty("small", classes)
    told = load_classifier(classifier, path, keep_head=True).told
    assert count_classes(path) == count_classes(path, classifier.encoder) == classes
    return classifier, told


@pytest.mark.sampled
@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "model.", "net.", "encoder.", "state_dict.", "net.module._orig_mod.", "a.b.c.d."),
        *("state_dict.ema_model.module.", "learner/resnet/", "blocks.0."),
    ],
)
def test_words_before_all_names_are_no_part_of_them(small, prefix, tmp_path):
    classifier, told = loaded(under(prefix, small[1]), tmp_path / "w.safetensors")
    assert_equal(classifier, small[0])
    assert f"under {prefix[:-1]!r} are taken" in told and "left out" not in told


@pytest.mark.sampled
@pytest.mark.parametrize("layer", ["fc", "head.fc", "classifier", "model.linear", "head.1", "fc.1"])
@pytest.mark.parametrize("prefix", ["", "backbone.", "state_dict.net.features."])
def test_the_only_linear_layer_is_that_of_classes_whatever_it_is_called(small, prefix, layer, tmp_path):
    body = {name: array for name, array in small[1].items() if not name.startswith("fc.")}
    last = {f"{layer}.{leaf}": small[1][f"fc.{leaf}"] for leaf in ("weight", "bias")}
    outer = "state_dict." if "state_dict" in prefix else ""
    classifier, _ = loaded(under(prefix, body) | under(outer, last), tmp_path / "w.safetensors")
    assert_equal(classifier, small[0])


def test_what_is_saved_beside_a_network_is_left_out_and_told(small, tmp_path):
    steps = {"model.stem.bn.num_batches_tracked": np.array(3), "n_averaged": np.array(1), "epoch": np.array(5)}
    others = {"optimizer.state.a.exp_avg": np.ones(3), "model.criterion.weight": np.ones(3)}
    weights = under("model.", small[1]) | steps | others
    classifier, told = loaded(weights, tmp_path / "w.safetensors")
    assert_equal(classifier, small[0])
    assert told == "the tensors under 'model' are taken; left out: 'model.criterion' (1), 'optimizer' (1)"
    classifier, told = loaded(
        small[1] | {"optimizer.fc.weight.exp_avg": np.ones(3)} | steps, tmp_path / "v.safetensors"
    )
    assert_equal(classifier, small[0])
    assert told == "left out: 'optimizer' (1), 'model' (1)" or told == "left out: 'optimizer' (1)"


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [
        ("state_dict.", "state_dict_ema."),
        ("model.", "model_ema."),
        ("model.module.", "ema.module."),
        ("online_model.", "ema_model."),
        ("", "shadow."),
        ("state_dict.model.", "state_dict.swa_model.module."),
    ],
)
def test_of_two_networks_the_averaged_one_is_taken_and_told(small, plain, averaged, tmp_path, caplog):
    other = {name: array + 1 for name, array in small[1].items()}
    classifier, told = loaded(under(plain, other) | under(averaged, small[1]), tmp_path / "w.safetensors")
    assert_equal(classifier, small[0])
    assert told.startswith(f"the tensors of the averaged network under {averaged[:-1]!r} are taken; left out: ")
    assert f"weights {tmp_path / 'w.safetensors'}: {told}" in caplog.messages


def test_of_two_networks_the_usual_one_is_taken_and_several_unknown_ones_are_refused(small, tmp_path):
    other = {name: array + 1 for name, array in small[1].items()}
    classifier, told = loaded(under("momentum.", other) | under("state_dict.", small[1]), tmp_path / "w.safetensors")
    assert_equal(classifier, small[0])
    assert told == f"the tensors under 'state_dict' are taken; left out: 'momentum' ({len(other)})"
    twice = under("mine.", small[1]) | under("shell.mine.", small[1])
    assert_equal(loaded(twice, tmp_path / "u.safetensors")[0], small[0])
    with pytest.raises(InputError, match="holds several networks, under 'student', 'teacher': save one alone"):
        loaded(under("teacher.", other) | under("student.", small[1]), tmp_path / "v.safetensors")


def test_a_mismatch_has_the_names_and_axes_of_the_file_and_many_are_counted(small, tmp_path):
    weights = dict(small[1]) | {"blocks.2.conv.weight": np.ones((7, 64, 1, 1), np.float32)}
    del weights["stem.bn.bias"]
    shape = r"has shape \(7, 64, 1, 1\) instead of \(128, 64, 1, 1\)"
    problems = rf"module\.blocks\.2\.conv\.weight {shape}; module\.stem\.bn\.bias is missing"
    with pytest.raises(InputError, match=f"network: {problems}$"):
        loaded(under("module.", weights), tmp_path / "w.safetensors")
    strange = {f"{'very' * 100}{i}.weight": np.ones(3, np.float32) for i in range(50)}
    with pytest.raises(InputError, match=r"; and 42 more$") as error:
        loaded(small[1] | strange, tmp_path / "v.safetensors")
    assert len(str(error.value)) < 1500 and str(error.value).isprintable()


def test_a_layer_without_bias_or_several_layers_are_named(small, tmp_path):
    with pytest.raises(InputError, match=r"network: fc\.bias is missing$"):
        loaded({name: array for name, array in small[1].items() if name != "fc.bias"}, tmp_path / "w.safetensors")
    body = {name: array for name, array in small[1].items() if not name.startswith("fc.")}
    layers = {f"fc.{i}.weight": np.ones((128, 128), np.float32) for i in (0, 3)}
    with pytest.raises(InputError, match=r"fc\.0\.weight is unexpected; fc\.3\.weight is unexpected"):
        loaded(body | layers, tmp_path / "v.safetensors")


# The names below are those of the published files, written out here and nowhere else.
VGG_TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_AUTHORS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 23, 25, 27)


def vgg_weights(positions, channels=(3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)):
    rng = np.random.default_rng(1)
    weights = {}
    for position, a, b in zip(positions, channels[:-1], channels[1:], strict=True):
        weights[f"features.{position}.weight"] = rng.random((b, a, 3, 3), np.float32)
        weights[f"features.{position}.bias"] = rng.random(b, np.float32)
    return weights


@pytest.mark.slow
def test_vgg16_of_torchvision_leaves_its_new_layer_alone(tmp_path):
    weights = vgg_weights(VGG_TORCHVISION)
    save_file(weights | {"classifier.0.bias": np.zeros(4096, np.float32)}, tmp_path / "vgg.safetensors")
    classifier = fill(empty("vgg16"))
    before = np.asarray(classifier.encoder.conv6.kernel[...])
    imported = load_classifier(classifier, tmp_path / "vgg.safetensors", keep_head=False)
    assert (imported.family, imported.untouched, imported.tensors) == ("torchvision's VGG16", ("conv6",), 26)
    np.testing.assert_array_equal(classifier.encoder.features[12].bias[...], weights["features.28.bias"])
    np.testing.assert_array_equal(classifier.encoder.conv6.kernel[...], before)


@pytest.mark.slow
def test_a_folder_of_the_authors_program_fills_all_parts(tmp_path):
    """encoder, classification_head, decoder and segmentation_head, in which VGG16 holds its layers twice."""
    weights = vgg_weights(VGG_AUTHORS)
    weights |= {"conv6.weight": np.ones((1024, 512, 3, 3), np.float32), "conv6.bias": np.ones(1024, np.float32)}
    weights |= {f"full_features.{name}": array for name, array in weights.items()}
    head = {"fc.weight": np.full((2, 1024), 3, np.float32), "fc.bias": np.arange(2, dtype=np.float32)}
    decoder = fill(empty_decoder())
    parts = {
        "encoder": weights,
        "classification_head": head,
        "decoder": {n: a for n, a in export_weights(decoder).items() if not n.startswith("segmentation_head")},
        "segmentation_head": {
            n.removeprefix("segmentation_head."): a
            for n, a in export_weights(decoder).items()
            if n.startswith("segmentation_head")
        },
    }
    assert parts["segmentation_head"].keys() == {"0.weight", "0.bias"}
    assert {"center.0.0.weight", "center.1.1.running_var", "blocks.2.conv2.1.bias"} <= parts["decoder"].keys()
    for name, tensors in parts.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")

    classifier = empty("vgg16")
    imported = load_classifier(classifier, tmp_path, keep_head=True)
    assert imported.family == "the F-CAM program's VGG16" and imported.untouched == ()
    assert sorted(imported.files) == [str(tmp_path / f"{n}.safetensors") for n in ("classification_head", "encoder")]
    np.testing.assert_array_equal(classifier.encoder.features[12].bias[...], weights["features.27.bias"])
    np.testing.assert_array_equal(classifier.encoder.conv6.bias[...], np.ones(1024))
    np.testing.assert_array_equal(classifier.head.fc.kernel[...], np.full((1024, 2), 3))
    other = empty_decoder()
    assert len(load_decoder(other, tmp_path).files) == 2
    assert_equal(other, decoder)


def test_a_folder_without_parts_or_with_two_of_one_is_refused(tmp_path):
    with pytest.raises(InputError, match="the folder holds no classifier or encoder or classification_head file"):
        load_classifier(empty("resnet18"), tmp_path, keep_head=False)
    for suffix in (".pt", ".safetensors"):
        (tmp_path / f"decoder{suffix}").touch()
    with pytest.raises(InputError, match=r"both decoder\.safetensors and decoder\.pt are there; keep one"):
        load_decoder(empty_decoder(), tmp_path)


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize(
    "name, settings, head",
    [
        ("resnet18", {}, "wgap"),
        ("resnet50", {}, "wgap"),
        ("vgg16", {}, "gap"),
        ("inceptionv3", {}, "wildcat"),
        ("inceptionv3", {"final_stride": 32}, "wgap"),
        ("mobilenet_v1_025", {}, "wgap"),
        ("mobilenet_v1_025", {}, "wildcat"),
        ("small", {}, "gap"),
    ],
)
def test_import_of_an_export_of_an_import_gives_the_same_bits(name, settings, head, tmp_path):
    first = fill(empty(name, 3, head, **settings))
    exported = export_weights(first)
    save_file(exported, tmp_path / "classifier.safetensors")
    second = empty(name, 3, head, **settings)
    imported = load_classifier(second, tmp_path, keep_head=True)
    assert imported.tensors == len(exported) == len(leaves(first)) and imported.untouched == ()
    assert_equal(first, second)
    again = export_weights(second)
    assert again.keys() == exported.keys()
    assert all(np.array_equal(again[key], array) for key, array in exported.items())


@pytest.mark.slow
def test_an_export_has_the_names_and_shapes_of_torchvision_and_keras():
    shapes = {name: array.shape for name, array in export_weights(fill(empty("inceptionv3", final_stride=32))).items()}
    assert shapes["Mixed_6b.branch7x7dbl_5.conv.weight"] == (192, 128, 1, 7)
    assert shapes["Mixed_7c.branch3x3dbl_3a.bn.running_var"] == (384,)
    assert shapes["Conv2d_4a_3x3.conv.weight"] == (192, 80, 3, 3)
    assert shapes["fc.weight"] == (2, 2048)
    shapes = {name: array.shape for name, array in export_weights(fill(empty("mobilenet_v1_025", 5))).items()}
    assert shapes["conv_dw_13/depthwise_kernel"] == (3, 3, 256, 1)
    assert shapes["conv_preds/kernel"] == (1, 1, 256, 5)


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize(
    "name, layer",
    [
        ("mobilenet_v2", "classifier"),
        ("efficientnet_lite0", "classifier"),
        ("convnext_tiny", "head.fc"),
        ("deit_tiny", "head"),
        ("dinov2_vits14_reg", "head"),
    ],
)
def test_the_layer_of_classes_has_its_published_name_and_is_read_by_the_plain_one(name, layer, tmp_path):
    first = fill(empty(name, 3))
    exported = export_weights(first)
    assert exported[f"{layer}.weight"].shape == (3, first.encoder.channels[-1])
    plain = {key.replace(f"{layer}.", "fc.") if array.shape[0] == 3 else key: array for key, array in exported.items()}
    assert plain.keys() ^ exported.keys() == {f"{of}.{leaf}" for of in (layer, "fc") for leaf in ("weight", "bias")}
    for file in (plain, exported):
        save_file(file, tmp_path / "classifier.safetensors")
        second = empty(name, 3)
        assert load_classifier(second, tmp_path, keep_head=True).head == "kept"
        assert_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True])
def test_the_program_writes_the_layer_of_classes_by_its_published_name(plain, tmp_path, capsys):
    exported = export_weights(fill(empty("mobilenet_v2", 3)))
    renamed = {key.replace("classifier.", "fc.") if plain else key: array for key, array in exported.items()}
    save_file(renamed, tmp_path / "file.safetensors")
    main(["weights", str(tmp_path / "file.safetensors"), f"--out={tmp_path / 'out'}"])
    assert "mobilenet_v2, 260 of 260 tensors" in capsys.readouterr().out
    written = load_file(tmp_path / "out" / "classifier.safetensors")
    assert written.keys() == exported.keys()
    assert all(np.array_equal(written[key], array) for key, array in exported.items())


def test_a_file_may_store_fewer_bits(tmp_path):
    classifier = fill(empty("mobilenet_v1_025"))
    weights = {name: array.astype(ml_dtypes.bfloat16) for name, array in export_weights(classifier).items()}
    save_file(weights, tmp_path / "m.safetensors")
    other = empty("mobilenet_v1_025")
    load_classifier(other, tmp_path / "m.safetensors", keep_head=True)
    kernel = other.encoder.blocks[12].dw.kernel[...]
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(kernel, classifier.encoder.blocks[12].dw.kernel[...], rtol=1e-2)


@pytest.mark.parametrize("depthwise", ["depthwise_kernel", "kernel"])  # Keras 2, Keras 3
def test_a_keras_hdf5_file_fills_a_mobilenet(depthwise, tmp_path):
    classifier = fill(empty("mobilenet_v1_025", 5))
    with h5py.File(tmp_path / "mobilenet.h5", "w") as file:
        for name, array in export_weights(classifier).items():
            layer, leaf = name.replace("depthwise_kernel", depthwise).split("/")
            file[f"{layer}/{layer}/{leaf}:0"] = array
    other = empty("mobilenet_v1_025", 5)
    load_classifier(other, tmp_path / "mobilenet.h5", keep_head=True)
    assert_equal(classifier, other)


def test_every_mismatch_is_listed_and_nothing_is_set():
    head = WGAP(3, 2, rngs=nnx.Rngs(0))
    before = np.asarray(head.fc.kernel[...])
    with pytest.raises(InputError) as error:
        set_weights(head, {"fc.weight": np.ones((2, 4)), "cls.bias": np.ones(2), "cls.scale": np.ones(2)}, "x")
    listed = str(error.value).removeprefix("x does not fit this network: ").split("; ")
    assert sorted(listed) == [
        "cls.bias is unexpected",
        "cls.scale is unexpected",
        "fc.bias is missing",
        "fc.weight has shape (2, 4) instead of (2, 3)",
    ]
    with pytest.raises(InputError, match=r"network: fc\.bias holds NaN or infinity"):
        set_weights(head, {"fc.weight": np.ones((2, 3)), "fc.bias": np.array([0, np.nan])}, "x")
    np.testing.assert_array_equal(head.fc.kernel[...], before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "given, wanted",
    [("resnet18", "resnet34"), ("resnet18", "mobilenet_v1_025"), ("mobilenet_v1_050", "mobilenet_v1_025")],
)
def test_a_file_of_another_supported_network_names_it_and_changes_nothing(given, wanted, tmp_path):
    save_file(export_weights(fill(empty(given))), tmp_path / "other.safetensors")
    classifier = fill(empty(wanted), seed=1)
    with (
        pytest.raises(InputError, match=rf"another network .* is {given} \(--encoder={given}\)$") as error,
        advising(encoder="--encoder={}"),
    ):
        load_classifier(classifier, tmp_path / "other.safetensors", keep_head=False)
    assert "\n" not in str(error.value)
    assert_equal(classifier, fill(empty(wanted), seed=1))


@pytest.mark.slow
def test_a_file_of_no_supported_network_names_the_closest_if_there_is_one(resnet_file, tmp_path):
    save_file({"blocks.0.attn.qkv.weight": np.zeros(3)}, tmp_path / "vit.safetensors")
    with pytest.raises(InputError, match=r"no supported network .*small\); none .*, as blocks\.0\.attn\.qkv\.weight: "):
        load_classifier(empty("resnet18"), tmp_path / "vit.safetensors", keep_head=False)
    part = {name: array for name, array in resnet_file[1].items() if name.startswith(("conv1", "bn1", "layer1"))}
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"no supported network .*the closest is resnet18, 2\d% of whose tensors"):
        load_classifier(empty("vgg16"), tmp_path / "part.safetensors", keep_head=False)


@pytest.mark.usefixtures("few_encoders")
@pytest.mark.parametrize(
    "spoil, match",
    [
        (lambda array: (array * 100).astype(np.int8), r"holds whole numbers \(int8\), as quantized files do"),
        (lambda array: np.full_like(array, np.nan), "holds NaN or infinity"),
    ],
)
def test_a_network_all_of_whose_values_are_bad_is_not_another_network(spoil, match, tmp_path):
    weights = {name: spoil(array) for name, array in export_weights(fill(empty("small"))).items()}
    save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match=rf"bad\.safetensors does not fit this network: \S+ {match};"):
        load_classifier(empty("small"), tmp_path / "bad.safetensors", keep_head=False)


@pytest.mark.slow
def test_the_program_says_what_a_file_is_and_converts_it(tmp_path, capsys):
    weights = vgg_weights(VGG_AUTHORS)
    weights |= {"conv6.weight": np.ones((1024, 512, 3, 3), np.float32), "conv6.bias": np.ones(1024, np.float32)}
    save_file(weights, tmp_path / "encoder.safetensors")
    save_file({"fc.weight": np.ones((7, 1024), np.float32), "fc.bias": np.ones(7, np.float32)}, tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / "classification_head.safetensors")
    save_file(export_weights(fill(empty_decoder())), tmp_path / "decoder.safetensors")
    main(["weights", str(tmp_path), f"--out={tmp_path / 'out'}"])
    told = capsys.readouterr().out
    for text in (
        hashlib.sha256((tmp_path / "encoder.safetensors").read_bytes()).hexdigest(),
        "the F-CAM program's VGG16: model.encoder=vgg16, 28 of 28 tensors",
        "classification layer: 7 classes",
        "model.decoder_widths=(4, 3, 2)",
        "model.decoder_center=yes",
    ):
        assert text in told
    written = load_file(tmp_path / "out" / "classifier.safetensors")
    np.testing.assert_array_equal(written["features.28.weight"], weights["features.27.weight"])
    assert written["fc.bias"].shape == (7,)
    load_decoder(empty_decoder(), tmp_path / "out")
    main(["weights", str(tmp_path), f"--out={tmp_path / 'out'}", "--drop_head"])
    assert "fc.bias" not in load_file(tmp_path / "out" / "classifier.safetensors")


@pytest.mark.slow
def test_the_program_ends_with_one_line_where_it_cannot(tmp_path):
    with pytest.raises(SystemExit, match=r"^error: weights .*absent\.pth: .*"):
        main(["weights", str(tmp_path / "absent.pth")])
    save_file({"a.weight": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(SystemExit, match="no supported network"):
        main(["weights", str(tmp_path / "a.safetensors")])
    save_file(export_weights(fill(empty("mobilenet_v1_025"))), tmp_path / "m.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"^error: .*file cannot be read or written: File exists"):
        main(["weights", str(tmp_path / "m.safetensors"), f"--out={tmp_path / 'file'}"])
