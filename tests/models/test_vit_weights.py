"""Transformers under the names of timm and of Meta's files, with values recorded from timm 1.0.31."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, load_classifier, save_weights, set_weights
from fcam_jax.models.positions import RESAMPLINGS
from fcam_jax.models.vit import Design, DINOv2, ViT
from fcam_jax.models.weight_names import named_variables
from fcam_jax.runtime.random import weight_keys

PLAIN = Design(width=12, heads=3, depth=4, grid=3, resampling="antialias")
REGISTERS = dataclasses.replace(PLAIN, registers=2, layer_scale=True)


def timm_weights(encoder, names):
    """0.3 sin(0.7 i + the sum of the name's letters), i the index in the tensor, as timm lays it out and names it."""
    found = {}
    for name, variable in named_variables(encoder, names).items():
        shape = names.theirs(np.broadcast_to(0, variable.shape)).shape
        if name == "pos_embed" and encoder.design.registers:
            shape = (1, shape[1] - 1, shape[2])  # that of the class token is in `cls_token`
        phase = 0.7 * np.arange(np.prod(shape)) + sum(map(ord, name))
        found[name] = (0.3 * np.sin(phase)).astype(np.float32).reshape(shape)
    return found


# Made by `VisionTransformer(img_size=3 * patch, patch_size=patch, embed_dim=12, depth=4, num_heads=3, num_classes=0,
# dynamic_img_size=True, dynamic_img_pad=True)` with these weights, the second with `reg_tokens=2, init_values=1e-5,
# no_embed_class=True`; `forward_features` of sin(0.01 i), i the index in an image of 40 x 60 x 3.
RECORDED = {
    (ViT, PLAIN): (
        13,
        [0.17378445, -0.10480828, 0.63652307, 0.24420093],
        [0.16822155, -0.14201739, 0.66839844, 0.20220788],
    ),
    (DINOv2, REGISTERS): (
        18,
        [0.01103357, 0.73219466, 0.41377884, 0.19390242],
        [0.26789337, -0.02367124, 0.50847393, 0.07357567],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "design"), RECORDED)
def test_first_and_last_token_are_timm_s_at_sides_of_no_whole_patches(kind, design):
    encoder = nnx.eval_shape(lambda: kind(design, rngs=weight_keys(0)))
    names = kind.weight_names[-1]
    assert set_weights(encoder, timm_weights(encoder, names), "recorded").family == names.family
    images = jnp.sin(0.01 * jnp.arange(40 * 60 * 3)).reshape(1, 40, 60, 3)
    tokens = nnx.jit(lambda encoder, images: encoder(images, train=False)[-1].joined())(encoder, images)[0]
    count, first, last = RECORDED[kind, design]
    assert len(tokens) == count
    np.testing.assert_allclose(tokens[0, :4], first, atol=2e-5)
    np.testing.assert_allclose(tokens[-1, :4], last, atol=2e-5)


def test_meta_s_files_keep_the_class_token_s_position_and_a_mask_token_is_left_out():
    encoder = DINOv2(REGISTERS, rngs=nnx.Rngs(0))
    weights = export_weights(encoder)
    assert weights["pos_embed"].shape == (1, 10, 12) and weights["register_tokens"].shape == (1, 2, 12)
    other = nnx.eval_shape(lambda: DINOv2(REGISTERS, rngs=nnx.Rngs(1)))
    imported = set_weights(other, {**weights, "mask_token": np.zeros((1, 12), np.float32)}, "Meta's")
    assert imported.family == "DINOv2's files"
    np.testing.assert_array_equal(other.pos_embed[...], encoder.pos_embed[...])


def test_the_published_layer_is_taken_by_timm_s_name(tmp_path):
    def classifier(seed):
        return Classifier(ViT(PLAIN, rngs=nnx.Rngs(seed)), WGAP(12, 5, rngs=nnx.Rngs(seed)))

    model = classifier(0)
    weights = export_weights(model)
    assert {"head.weight", "head.bias", "blocks.3.attn.qkv.weight"} <= weights.keys()
    save_weights(weights, tmp_path / "deit.safetensors")
    other = nnx.eval_shape(lambda: classifier(1))
    assert load_classifier(other, tmp_path / "deit.safetensors", keep_head=True).head == "kept"
    np.testing.assert_array_equal(other.head.fc.kernel[...], model.head.fc.kernel[...])


@pytest.mark.slow
@pytest.mark.parametrize("kind, design", [(ViT, PLAIN), (DINOv2, REGISTERS)])
@pytest.mark.parametrize("way", RESAMPLINGS)
def test_positions_of_larger_images_are_resampled_as_the_larger_network_resamples_them(kind, design, way, caplog):
    def network(grid):
        return kind(dataclasses.replace(design, grid=grid, resampling=way), rngs=nnx.Rngs(0))

    larger, ours = network(5), network(3)
    imported = set_weights(ours, export_weights(larger), "the file")
    assert imported.told == "pos_embed is resampled from (1, 26, 12) to (1, 10, 12)"
    assert caplog.messages == [f"the file: {imported.told}"]
    side = 3 * kind.published_stride
    images = jnp.sin(0.01 * jnp.arange(side * side * 3)).reshape(1, side, side, 3)
    expected, found = (network(images, train=False)[-1].joined() for network in (larger, ours))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_positions_that_are_no_square_or_of_another_width_are_refused():
    ours = ViT(PLAIN, rngs=nnx.Rngs(0))
    for shape in ((1, 27, 12), (1, 26, 8), (1, 1, 12)):
        weights = export_weights(ours) | {"pos_embed": np.zeros(shape, np.float32)}
        with pytest.raises(InputError, match=r"pos_embed has shape .* instead of"):
            set_weights(ours, weights, "the file")
