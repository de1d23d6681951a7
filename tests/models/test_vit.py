"""Vision transformers: parameters, the chain of stages, what heads and places see, weights under all of their names."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import abstract_encoder as abstract
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models import create_model
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Asking
from fcam_jax.models.heads import WGAP
from fcam_jax.models.vit import VITS, Design, DINOv2, ViT

SMALL = Design(width=12, heads=3, depth=4, grid=3, resampling="size")
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 48, 32, 3)), jnp.float32)

# timm's with a head of 1000 classes, where it has one; with registers, timm has no position of the class token.
PARAMETERS = {
    "deit_tiny": 5_717_416 - 193_000,
    "deit_small": 22_050_664 - 385_000,
    "deit_base": 86_567_656 - 769_000,
    "vit_tiny": 5_717_416 - 193_000,
    "vit_small": 22_050_664 - 385_000,
    "vit_base": 86_567_656 - 769_000,
    "dino_vits8": 21_670_272,
    "dino_vits16": 21_665_664,
    "dino_vitb16": 85_798_656,
    "dinov2_vits14": 22_056_192,
    "dinov2_vits14_reg": 22_057_344 + 384,
    "dinov2_vitb14": 86_579_712,
    "dinov2_vitb14_reg": 86_582_016 + 768,
}


@pytest.mark.parametrize("name", VITS)
def test_parameters_are_as_many_as_timm_s(name):
    params = nnx.state(abstract(name), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name]


def classifier(design=SMALL, kind=ViT, **settings):
    encoder = kind(design, rngs=nnx.Rngs(0), **settings)
    return Classifier(encoder, WGAP(design.width, 5, rngs=nnx.Rngs(1)))


@pytest.mark.slow
def test_stages_are_the_image_and_tokens_of_its_patches():
    model = classifier()
    stages = model.stages(IMAGES)
    assert stages[0] is not None and model.encoder.channels == (3, 12, 12, 12, 12, 12)
    np.testing.assert_array_equal(stages[0], IMAGES)
    for number, stage in enumerate(stages[1:], 1):
        assert (stage.patches.shape, stage.prefix.shape) == ((2, 3, 2, 12), (2, 1, 12))
        assert (stage.residual is not None) == (number == 4)


@pytest.mark.parametrize("stage", range(6))
def test_the_network_is_resumed_from_any_stage(stage):
    model = classifier()
    stages = model.stages(IMAGES)
    scores = model.score(stages[-1], 5)
    np.testing.assert_allclose(model.score(stages[stage], stage), scores, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("pool", "zero"), [("token", True), ("mean", False)])
def test_patches_of_the_last_end_have_a_gradient_only_where_the_head_takes_their_mean(pool, zero):
    model = classifier(pool=pool)
    stages = model.stages(IMAGES)

    def gradient(stage):
        def score(patches):
            return model.score(model.with_map(stages[stage], patches), stage)[:, 0].sum()

        return np.abs(jax.jit(jax.grad(score))(model.map_of(stages[stage]))).max()

    assert (gradient(5) == 0) == zero
    assert gradient(4) > 0 and model.encoder.cam_stage == (4 if zero else -1)


@pytest.mark.slow
def test_attention_matrices_are_computed_for_whom_they_are_asked_and_may_be_replaced():
    model, seen = classifier(), {}

    def keep(place, x):
        seen[place] = x
        return x

    def last(stages):
        return stages[-1].prefix

    before = last(model.encoder(IMAGES, train=False, at=keep))
    assert not any("attn" in place for place in seen)
    asking = Asking(keep, ("blocks.1.attn", "blocks.3.attn"))
    np.testing.assert_allclose(last(model.encoder(IMAGES, train=False, at=asking)), before, atol=1e-5)
    assert [place for place in seen if "attn" in place] == ["blocks.1.attn", "blocks.3.attn"]
    assert seen["blocks.1.attn"].shape == (2, 3, 7, 7)
    np.testing.assert_allclose(seen["blocks.1.attn"].sum(-1), 1, rtol=1e-5)

    def replaced(place, x):
        return jnp.broadcast_to(jnp.eye(x.shape[-1]), x.shape) if "attn" in place else x

    after = last(model.encoder(IMAGES, train=False, at=Asking(replaced, asking.places)))
    assert not np.allclose(after, before, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_blocks_show_their_attention_and_what_it_would_score_were_they_the_last(pool):
    model = classifier(pool=pool)
    blocks = list(model.attentions(IMAGES))
    assert len(blocks) == model.attention_blocks == 4
    stages = model.stages(IMAGES)
    np.testing.assert_allclose(blocks[-1].scores(blocks[-1].matrices), model.score(stages[-1], 5), atol=1e-5)
    np.testing.assert_allclose(blocks[-1].read, [1, *[0] * 6] if pool == "token" else [0, *[1 / 6] * 6], rtol=1e-6)
    seen = {}
    asking = Asking(lambda place, x: seen.setdefault(place, x), [f"blocks.{number}.attn" for number in range(4)])
    model.encoder(IMAGES, train=False, at=asking)
    for number, block in enumerate(blocks):
        np.testing.assert_allclose(block.matrices, seen[f"blocks.{number}.attn"], atol=1e-6)
        alone = jax.grad(lambda matrices, block=block: block.scores(matrices)[:, 0].sum())(block.matrices)
        # Of a class token, only what it takes itself counts in the block that would be the last one.
        assert (jnp.abs(alone[:, :, 1:]).max() == 0) == (pool == "token") and jnp.abs(alone).max() > 0


def test_the_patch_is_the_only_stride():
    with pytest.raises(InputError, match=r"^final_stride is 8; that of this transformer is its patch, 16"):
        abstract("deit_tiny", final_stride=8)
    assert abstract("deit_tiny", final_stride=16).strides == (1, 16, 16, 16, 16, 16)
    with pytest.raises(InputError, match=r"drop_path is 1\.0; it must be from 0 on and below 1"):
        abstract("deit_tiny", drop_path=1.0)
    with pytest.raises(InputError, match="pool is 'cls'; known: mean, token"):
        abstract("deit_tiny", pool="cls")


@pytest.mark.slow
def test_paths_are_dropped_in_training_by_each_image_s_own_key():
    model = classifier(drop_path=0.9)
    keys = jax.random.split(jax.random.key(0), 2)
    images = jnp.stack([IMAGES[0], IMAGES[0]])
    ends = model.encoder(images, train=True, rng=keys)[-1].prefix
    assert not np.allclose(ends[0], ends[1])
    swapped = model.encoder(images, train=True, rng=keys[::-1])[-1].prefix
    np.testing.assert_allclose(swapped, ends[::-1], atol=1e-6)
    still = model.encoder(images, train=False)[-1].prefix
    np.testing.assert_array_equal(still[0], still[1])
    with pytest.raises(ValueError, match="give a key for every image"):
        model.encoder(images, train=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ViT, DINOv2])
def test_sides_that_are_no_whole_patches_are_filled_up_with_the_mean_colour(kind):
    model = classifier(kind=kind)
    patch = kind.published_stride
    images = IMAGES[:, : patch + 3, : 2 * patch]
    filled = jnp.pad(images, [(0, 0), (0, patch - 3), (0, 0), (0, 0)])
    ends = [model.encoder(one, train=False)[-1].patches for one in (images, filled)]
    assert ends[0].shape == (2, 2, 2, 12)
    np.testing.assert_array_equal(*ends)


@pytest.mark.slow
def test_registers_stand_between_class_token_and_patches_without_a_position():
    design = dataclasses.replace(SMALL, registers=2, layer_scale=True)
    model = classifier(design)
    run = nnx.jit(lambda model: model.stages(IMAGES))
    stages = run(model)
    assert stages[-1].prefix.shape == (2, 3, 12)
    model.encoder.register_tokens[...] += 1.0
    again = run(model)
    np.testing.assert_array_equal(again[0], stages[0])
    assert not np.allclose(again[-1].prefix[:, 1:], stages[-1].prefix[:, 1:])


@pytest.mark.slow
def test_half_precision_is_close_with_parameters_in_float32():
    exact, coarse = (classifier(dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    run = nnx.jit(lambda model: model.encoder(IMAGES, train=False)[-1].prefix)
    ends = [run(model) for model in (exact, coarse)]
    assert ends[1].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(coarse, nnx.Param))} == {jnp.dtype("float32")}
    assert 0 < jnp.abs(ends[0] - ends[1].astype(jnp.float32)).max() < 0.1


def test_a_model_is_made_by_its_name_at_its_own_stride():
    model = nnx.eval_shape(lambda: create_model("dinov2_vits14", num_classes=3))
    assert model.encoder.strides[-1] == 14
