"""The options are asked for where they are known, reach the programs, and change no figure but for rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.runs.prediction.network import PREDICTED, ByCam, Predictor
from fcam_jax.runtime import compiler_options as module
from fcam_jax.runtime.compiler_options import compiler_options
from fcam_jax.runtime.random import weight_keys


@pytest.fixture
def asked_again():
    """Nothing is remembered of other tests, nor afterwards."""
    module._known.cache_clear()
    yield
    module._known.cache_clear()


def kernel_gradient(options):
    """Compiled gradient of a sum over a 3x3 convolution's map by its kernel."""

    def total(kernel, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jnp.sin(jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)).sum()

    rng = np.random.default_rng(0)
    arguments = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3, 3, 32, 32), (2, 16, 16, 32))]
    compiled = jax.jit(jax.grad(total), compiler_options=options).lower(*arguments).compile()
    return compiled.as_text(), compiled(*arguments)


def test_convolutions_stay_with_xla_and_their_gradients_the_same():
    (text, found), (_, expected) = kernel_gradient(compiler_options("cpu")), kernel_gradient(None)
    convolutions = [line.split()[0] for line in text.splitlines() if " convolution(" in line]
    assert (
        len(convolutions) == 2 and "ROOT" not in convolutions
    )  # given away, each is the result of a program of its own
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_only_cpus_are_told_anything():
    assert compiler_options("gpu") is None and compiler_options("tpu") is None


def test_what_the_user_has_set_holds(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{module._FLAG}=LIBRARY_FUSION_TYPE_DOT")
    assert compiler_options("cpu") is None


@pytest.mark.parametrize("options", [{"xla_no_such_flag": "1"}, {module._FLAG: "NO_SUCH_VALUE"}])
def test_a_release_that_does_not_know_the_option_is_not_asked(monkeypatch, asked_again, options):
    monkeypatch.setattr(module, "_OPTIONS", options)
    assert compiler_options("cpu") is None


def test_prediction_is_compiled_with_them(monkeypatch):
    monkeypatch.setattr("fcam_jax.training.placed.compiler_options", lambda platform: {f"xla_none_of_{platform}": "1"})
    encoder = ENCODERS["small"](final_stride=8, rngs=weight_keys(0))
    model = Classifier(encoder, WGAP(encoder.channels[-1], 3, rngs=nnx.Rngs(1)))
    predict = Predictor(model, ByCam("cam"), 4)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_none_of_cpu"):
        predict(np.zeros((1, 32, 32, 3), np.uint8), np.array([PREDICTED]))
