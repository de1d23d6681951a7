"""A network as a program of its own gives what it gives here, as StableHLO and as ONNX."""

import dataclasses
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.scipy.special import logsumexp
from tiny_stages import CLASSES, SIDE, STAGES, TOKENS, Tiny

from fcam_jax.cli import command
from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.depthwise import DepthwiseConv
from fcam_jax.models.heads import WGAP
from fcam_jax.runs.prediction.network import FCAM_THRESHOLD, ByCam, Network, Predictor
from fcam_jax.runs.prediction.restored import Threshold, restored
from fcam_jax.runs.program import ONNX, STABLEHLO, Program

MADE = {
    "classifier": (STAGES["classifier"].model, STAGES["classifier"].method),
    "fcam": (STAGES["fcam"].model, STAGES["fcam"].method),
    "tokens": (TOKENS.model, ByCam("gradcam")),  # a transformer's, whose map is a gradient
}
NAMES = ["crow", None, "finch"]


@functools.cache
def network(name):
    model, localizer = MADE[name]
    threshold = FCAM_THRESHOLD if name == "fcam" else Threshold(0.3, "validation")
    return Network(model(), localizer, name, SIDE, threshold, NAMES, {})


@functools.cache
def images():
    return np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3)).astype(np.uint8)


def call(path, *inputs):
    """What a written program gives."""
    if path.suffix == f".{STABLEHLO}":
        return jax.device_get(jax.export.deserialize(bytearray(path.read_bytes())).call(*inputs))
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs what is written, and is not installed")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [[one.name for one in several] for several in (session.get_inputs(), session.get_outputs())]
    return dict(zip(names[1], session.run(None, dict(zip(names[0], inputs, strict=True))), strict=True))


@pytest.fixture(params=[STABLEHLO, ONNX])
def form(request):
    if request.param == ONNX:
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier", "fcam", pytest.param("tokens", marks=pytest.mark.slow)])
def test_scores_map_and_box_are_those_of_a_prediction(name, form, tmp_path):
    made = network(name)
    found = call(
        Program(made, ("bytes", "label", "box")).write(form, tmp_path)[0],
        images(),
        np.array([0, -1, 2, 1, -1], np.int32),
    )
    expected = Predictor(made.model, made.localizer, 5)(images(), np.array([0, -1, 2, 1, -1]))
    np.testing.assert_allclose(found["scores"], expected.logits, atol=1e-4)
    np.testing.assert_allclose(found["map"], expected.maps, atol=1e-4)
    np.testing.assert_array_equal(found["label"], expected.labels)
    for i, box in enumerate(found["box"]):
        boxes = restored(expected, i, (SIDE, SIDE), made.threshold).boxes
        np.testing.assert_array_equal(box, boxes[0] if len(boxes) else [0, 0, 0, 0])


@pytest.mark.slow
def test_without_bytes_and_box_it_takes_normalised_images_of_any_number(form, tmp_path):
    made = network("classifier")
    path, facts = Program(made, ()).write(form, tmp_path)
    told = json.loads(facts.read_text())
    inputs = ((images()[:2] - np.array(told["mean"])) / np.array(told["std"])).astype(np.float32)
    found = call(path, inputs)
    assert sorted(found) == ["label", "map", "scores"]
    expected = Predictor(made.model, made.localizer, 2)(images()[:2], np.array([-1, -1]))
    np.testing.assert_allclose(found["scores"], expected.logits, atol=1e-4)
    np.testing.assert_allclose(found["map"], expected.maps, atol=1e-4)


@pytest.mark.slow
def test_onnx_computes_in_float32_what_a_run_computes_in_bfloat16(tmp_path):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    body = Tiny(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    model = Classifier(body, WGAP(body.channels[-1], CLASSES, rngs=nnx.Rngs(1)))
    made = dataclasses.replace(network("classifier"), model=model)
    found = call(Program(made, ("bytes",)).write(ONNX, tmp_path)[0], images())
    expected = Predictor(model, made.localizer, 5)(images(), np.full(5, -1))
    np.testing.assert_allclose(found["scores"], expected.logits, atol=0.02 * np.abs(expected.logits).max())


def test_weights_in_half_precision_take_half_the_file(tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    from fcam_jax.runs import onnx_model

    monkeypatch.setattr(onnx_model, "_LARGE", 16)  # the network is tiny
    made, (whole, half) = network("fcam"), (tmp_path / "whole", tmp_path / "half")
    for folder in (whole, half):
        folder.mkdir()
    expected = call(Program(made, ("bytes", "box")).write(ONNX, whole)[0], images())
    path, facts = Program(made, ("bytes", "box", "half")).write(ONNX, half)
    found = call(path, images())
    for name in ("scores", "map"):
        assert found[name].dtype == np.float32
        assert 0 < np.abs(found[name] - expected[name]).max() < 2e-3 * np.abs(expected[name]).max()
    kept = [sum(len(one.raw_data) for one in _loaded(folder).graph.initializer) for folder in (half, whole)]
    assert 0.45 < kept[0] / kept[1] < 0.6
    assert json.loads(facts.read_text())["with"] == ["bytes", "box", "half"]
    with pytest.raises(InputError, match=r"^--with=half is of --format=onnx"):
        Program(made, ("half",)).write(STABLEHLO, tmp_path)


def _loaded(folder):
    import onnx

    return onnx.load(folder / "network.onnx")


def test_onnx_has_the_facts_inside(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    path, facts = Program(network("fcam"), ("bytes", "box")).write(ONNX, tmp_path)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    inside = {one.key: one.value for one in model.metadata_props}
    told = json.loads(facts.read_text())
    assert inside.keys() == told.keys()
    assert (json.loads(inside["class_names"]), json.loads(inside["threshold"]), inside["map"]) == (NAMES, 0.5, "fcam")
    assert told["size"] == SIDE and told["with"] == ["bytes", "box"]


@pytest.mark.slow
def test_stablehlo_needs_jax_alone(tmp_path):
    made = network("fcam")
    path = Program(made, ("bytes",)).write(STABLEHLO, tmp_path)[0]
    np.save(tmp_path / "images.npy", images()[:1])
    text = f"""
import sys
sys.modules.update(fcam_jax=None, flax=None)  # not to be had, however they are installed
import jax, jax.export, numpy
with open({str(path)!r}, "rb") as file:
    program = jax.export.deserialize(bytearray(file.read()))
assert program.platforms == ("cpu", "cuda", "tpu")
numpy.savez("found.npz", **program.call(numpy.load("images.npy")))
"""
    subprocess.run([sys.executable, "-I", "-c", text], check=True, cwd=tmp_path)
    with np.load(tmp_path / "found.npz") as file:
        found = dict(file)
    expected = Predictor(made.model, made.localizer, 1)(images()[:1], np.array([-1]))
    np.testing.assert_allclose(found["map"], expected.maps, atol=1e-5)
    np.testing.assert_allclose(found["scores"], expected.logits, atol=1e-5)


DEPTHWISE = DepthwiseConv(2, stride=2, rngs=nnx.Rngs(2))
# Functions of x [b, 4, 6], by what they are for.
FUNCTIONS = {
    "cut": lambda x: jnp.concatenate([jax.lax.slice_in_dim(x, 0, 4, 2, axis=1), jnp.flip(x, 1)], axis=1)[:, :, 1:],
    "split": lambda x: jnp.split(x, 3, axis=2)[1],
    "padded": lambda x: jnp.pad(x, [(0, 0), (1, 2), (0, 1)], constant_values=3),
    "stacked": lambda x: jnp.stack([x, 2 - x], axis=2),
    "soft": lambda x: jax.nn.softmax(x, axis=-1) + logsumexp(x, axis=1, keepdims=True),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False) * jax.nn.silu(x) ** 3,
    "erfc": lambda x: jax.scipy.special.erfc(x),
    "chosen": lambda x: jnp.where((x > 0).any(axis=1, keepdims=True) & jnp.isfinite(x).all(), jnp.clip(x, -1, 1), x),
    "taken": lambda x: jnp.take(x, jnp.argmax(x.sum(axis=0), axis=0), axis=1),
    "of each": lambda x: jnp.take_along_axis(x[:, :, 0], jnp.argmax(x[:, :, 1], axis=1)[:, None], axis=1),
    "attended": lambda x: jnp.einsum("bik,bjk->bij", x, x) @ x,
    "summed": lambda x: x.prod(axis=2) + jnp.arange(x.shape[0])[:, None],
    "gradient": jax.grad(lambda x: (x[:, 1:3] ** 2).sum()),
    "pooled": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 2), (1, 2, 1), "SAME"),
    "averaged": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2), (1, 1, 2), "VALID"),
    "looped": lambda x: jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 2 + s[0]), (0, x))[1],
    "in groups": lambda x: DEPTHWISE(jnp.stack([x, x**2], axis=3)),
    "one form": lambda x: jax.lax.platform_dependent(x, cpu=lambda x: jnp.sort(x) * 0 + x, default=lambda x: x * 1),
    "constant": lambda x: jnp.zeros_like(x) + jnp.cumsum(jnp.ones((4, 1)), axis=0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_are_the_same_in_onnx(name, tmp_path):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    from fcam_jax.runs.onnx_model import onnx_model

    (count,) = jax.export.symbolic_shape("b")
    spec = {"x": jax.ShapeDtypeStruct((count, 4, 6), np.float32)}
    model = onnx_model(lambda x: {"y": FUNCTIONS[name](x)}, spec, {})
    (tmp_path / "f.onnx").write_bytes(model.SerializeToString())
    x = np.random.default_rng(1).normal(size=(3, 4, 6)).astype(np.float32)
    found = call(tmp_path / "f.onnx", x)["y"]
    np.testing.assert_allclose(found, FUNCTIONS[name](x), rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    if name == "in groups":  # one operation of the runtime's in the place of nine products
        assert [node.op_type for node in model.graph.node if node.op_type in ("Conv", "Mul")] == ["Mul", "Conv"]


def test_what_onnx_cannot_say_and_what_is_not_installed_cost_one_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"^unknown part of --with 'boxes'; known: box, bytes, half, label$"):
        Program(network("classifier"), ("boxes",))
    with pytest.raises(SystemExit, match=r"^error: --with is of a program: give --format=stablehlo or --format=onnx$"):
        command.main(["export", "--workdir=x", f"--out={tmp_path}", "--with=box"])
    monkeypatch.setitem(sys.modules, "onnx", None)
    for part in ("model", "graph", "operations"):
        monkeypatch.delitem(sys.modules, f"fcam_jax.runs.onnx_{part}", raising=False)
    with pytest.raises(InputError, match=r"^--format=onnx needs onnx: pip install 'fcam-jax\[onnx\]'$"):
        Program(network("classifier"), ()).write(ONNX, tmp_path)


def test_an_operation_that_is_not_known_is_named():
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    from fcam_jax.runs.onnx_model import onnx_model

    with pytest.raises(InputError, match=r"--format=onnx: sort is not known in ONNX here; --format=stablehlo takes"):
        onnx_model(lambda x: {"y": jnp.sort(x)}, {"x": jax.ShapeDtypeStruct((2, 3), np.float32)}, {})
