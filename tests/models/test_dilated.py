"""With `dilate` an encoder computes what the strided one does, at more places."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS, create_model
from fcam_jax.models.import_weights import DILATE, FINAL_STRIDE, export_weights, save_weights
from fcam_jax.models.inception import Mixed, _block_c
from fcam_jax.runtime.random import weight_keys


@nnx.jit
def run(encoder, images):
    return encoder(images, train=False)[-1]


@pytest.fixture
def assert_dense(filled):
    return functools.partial(assert_dense_by, filled)


def assert_dense_by(filled, name, size, fine, coarse, first, **settings):
    """Cells `first` (down, across) and every so many after it of the fine top map are those of the coarse one."""
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, *size, 3)), jnp.float32)

    def top(final_stride, dilate):
        build = functools.partial(ENCODERS[name], final_stride=final_stride, dilate=dilate, **settings)
        encoder = filled(lambda: build(rngs=weight_keys(0)))
        return np.asarray(run(encoder, images)), encoder

    (dense, encoder), (strided, reference) = top(fine, True), top(coarse, False)
    step = coarse // fine
    assert np.abs(strided).max() > 0
    found = dense[:, first[0] :: step, first[1] :: step][:, : strided.shape[1], : strided.shape[2]]
    np.testing.assert_allclose(found, strided, atol=1e-5 * np.abs(strided).max())
    plain, _ = top(fine, False)
    assert plain.shape == dense.shape and np.abs(plain - dense).max() > 1e-3 * np.abs(dense).max()
    # These cells of both lie at the same places in the image.
    (of_dense, apart), (of_strided, _) = (one.grid(-1, size) for one in (encoder, reference))
    seen = [start + cell * length for start, cell, length in zip(of_dense, first, apart, strict=True)]
    np.testing.assert_allclose(seen, of_strided, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "fine", "coarse", "first"),
    [
        ((64, 72), 8, 32, (3, 0)),  # 8 and 4, 9 and 5 at 1/8 and 1/16
        ((64, 80), 16, 32, (1, 0)),  # 4 and 5 cells at 1/16
        ((80, 88), 8, 32, (1, 2)),  # 10 and 5, 11 and 6
    ],
)
def test_mobilenet(assert_dense, size, fine, coarse, first):
    assert_dense("mobilenet_v1_025", size, fine, coarse, first)


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize(("fine", "coarse", "first"), [(8, 32, 1), (16, 32, 0)])
def test_vgg16(assert_dense, fine, coarse, first):
    assert_dense("vgg16", (64, 96), fine, coarse, (first, first), top=(16,))


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 75), (90, 97)])
def test_inceptionv3(assert_dense, size):
    assert_dense("inceptionv3", size, 8, 16, (0, 0), top=(16,))


def test_a_dilated_mean_has_gradients():
    block = Mixed(4, _block_c(8)[3:], dilation=2, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 9, 4)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: block(x, train=False)[0, 4, 4].sum()))(x)
    seen = np.argwhere(np.abs(gradient[0]).sum(-1))
    np.testing.assert_array_equal(seen, [(i, j) for i in (2, 4, 6) for j in (2, 4, 6)])


@pytest.mark.slow
def test_who_builds_by_name_says_whether_it_is_dilated(tmp_path):
    model = create_model("mobilenet_v1_025", num_classes=3, dilate=True)
    assert model.encoder.blocks[-1].dw.dilation == 4
    save_weights(export_weights(model), tmp_path / "classifier.safetensors", {FINAL_STRIDE: "8", DILATE: "True"})
    loaded = create_model("mobilenet_v1_025", tmp_path)
    assert loaded.encoder.blocks[-1].dw.dilation == 4 and loaded.encoder.strides[-1] == 8
    assert create_model("mobilenet_v1_025", tmp_path, dilate=False).encoder.blocks[-1].dw.dilation == 1


@pytest.mark.parametrize("name", ["small", "deit_tiny"])
def test_an_encoder_without_the_choice_says_so(name):
    with pytest.raises(InputError, match=r"^dilate is True; this encoder has no strides .*: leave it False$"):
        create_model(name, num_classes=3, dilate=True)
