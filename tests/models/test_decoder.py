"""The decoder's size, names, initialisation and shapes, for the encoders of the paper."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS
from fcam_jax.models.decoder import Decoder, decoder_name
from fcam_jax.models.import_weights import export_weights, load_decoder, save_weights
from fcam_jax.runtime.random import weight_keys

# Channels and strides of the stages, decoder widths, centre block, parameters without the last layer (spec, section 2).
PAPER = {
    "resnet50": ((64, 256, 512, 1024, 2048), (2, 4, 8, 8, 8), (256, 128, 64, 32, 16), False, 9_012_928),
    "vgg16": ((64, 128, 256, 1024), (1, 2, 4, 8), (256, 128, 64), True, 23_119_616),
    "inceptionv3": ((64, 80, 288, 768, 1024), (2, 4, 8, 8, 8), (256, 128, 64, 32, 16), False, 5_704_384),
}


def paper_decoder(name):
    channels, strides, widths, center, _ = PAPER[name]
    return nnx.eval_shape(lambda: Decoder(channels, strides, widths, center=center, rngs=weight_keys(0)))


@pytest.mark.parametrize("name", sorted(PAPER))
def test_parameters_number_as_in_the_released_program(name):
    decoder = paper_decoder(name)
    head = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(decoder.head, nnx.Param)))
    total = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(decoder, nnx.Param)))
    assert total - head == PAPER[name][-1]


@pytest.mark.parametrize("name", sorted(PAPER))
def test_names_and_shapes_are_those_of_the_released_program(name, shared):
    groups = json.loads((shared / "golden" / f"state_dict_keys_{name}.json").read_text())
    expected = {key: math.prod(tensor["shape"]) for key, tensor in groups["decoder"].items()}
    expected |= {
        f"segmentation_head.{key}": math.prod(tensor["shape"]) for key, tensor in groups["segmentation_head"].items()
    }
    state = nnx.state(paper_decoder(name), nnx.Any(nnx.Param, nnx.BatchStat))
    assert {decoder_name(path): leaf.size for path, leaf in nnx.to_flat_state(state)} == expected


@pytest.mark.parametrize("name", sorted(PAPER))
def test_no_widths_are_the_paper_s_and_the_encoder_knows_whether_there_is_a_centre(name):
    channels, strides, widths, center, _ = PAPER[name]
    encoder = nnx.eval_shape(lambda: ENCODERS[name](rngs=weight_keys(0)))
    assert (encoder.channels, encoder.strides, encoder.decoder_center) == (channels, strides, center)
    decoder = nnx.eval_shape(lambda: Decoder(channels, strides, rngs=weight_keys(0)))
    assert tuple(block.conv2.conv.out_features for block in decoder.blocks) == widths


@pytest.mark.parametrize(
    ("strides", "skips", "widths"),
    [
        ((16,), (None,) * 4, (256, 128, 64, 32)),
        ((14,), (None,) * 4, (256, 128, 64, 32)),  # patches of 14 pixels
        ((64,), (None,) * 6, (256, 128, 64, 32, 16, 16)),
        ((4, 16), (None, 0, None, None), (256, 128, 64, 32)),
        ((1, 8), (None,) * 3, (256, 128, 64)),
        ((2, 4, 8, 8, 8), (3, 2, 1, 0, None), (256, 128, 64, 32, 16)),
        ((8, 8, 8), (1, 0, None, None, None), (256, 128, 64, 32, 16)),
    ],
)
def test_the_map_is_doubled_up_to_the_image_whatever_stages_there_are(strides, skips, widths):
    size = 32, 48
    decoder = nnx.eval_shape(lambda: Decoder((8,) * len(strides), strides, rngs=weight_keys(0)))
    assert decoder.skips == skips
    assert tuple(block.conv2.conv.out_features for block in decoder.blocks) == widths
    graph, state = nnx.split(decoder)
    given = [jax.ShapeDtypeStruct((2, *(-(-side // stride) for side in size), 8), jnp.float32) for stride in strides]
    result = jax.eval_shape(lambda state, given: nnx.merge(graph, state)(given, size, train=False), state, given)
    assert result.shape == (2, *size, 2)


def tiny(strides=(2, 4, 8, 8), widths=(8, 6, 4, 4), dtype=jnp.float32):
    return Decoder((3, 4, 6, 8), strides, widths, dtype=dtype, rngs=nnx.Rngs(0))


def stages(height, width, sides=(2, 4, 8, 8)):
    rng = np.random.default_rng(0)
    return tuple(
        jnp.asarray(rng.normal(size=(2, -(-height // s), -(-width // s), c)), jnp.float32)
        for c, s in zip((3, 4, 6, 8), sides, strict=True)
    )


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("size", [(29, 37), (24, 40), (32, 32), (8, 9)])
def test_the_map_has_the_given_size_whatever_the_sides(filled, size):
    decoder = filled(lambda: tiny(dtype=jnp.bfloat16))
    logits = nnx.jit(lambda decoder, s: decoder(s, size, train=False))(decoder, stages(*size))
    assert logits.shape == (2, *size, 2)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()


@pytest.mark.slow
def test_every_used_stage_reaches_the_map_and_a_stage_of_stride_one_does_not(filled):
    graph, state = nnx.split(filled(lambda: tiny((1, 2, 4, 8), (6, 4, 4))))

    def energy(given):
        return (nnx.merge(graph, state)(given, (16, 16), train=False) ** 2).sum()

    gradients = jax.jit(jax.grad(energy))(stages(16, 16, (1, 2, 4, 8)))
    assert [bool((jnp.abs(g) > 0).any()) for g in gradients] == [False, True, True, True]


@pytest.mark.slow
def test_initial_weights_follow_the_stated_distributions():
    decoder = Decoder((6, 8), (2, 4), (8, 8), center=True, rngs=nnx.Rngs(0))
    for path, leaf in nnx.to_flat_state(nnx.state(decoder, nnx.Param)):
        values = np.asarray(leaf[...])
        if path[-1] == "bias":
            assert (values == 0).all(), path
        elif path[-1] == "scale":
            assert (values == 1).all(), path
        else:
            fan_in, fan_out = 9 * values.shape[2], 9 * values.shape[3]
            bound = math.sqrt(6 / (fan_in + fan_out)) if path[0] == "head" else math.sqrt(6 / fan_in)
            assert 0.9 * bound < np.abs(values).max() <= bound, path


def test_a_wrong_number_of_widths_says_how_many_are_needed():
    with pytest.raises(InputError, match=r"widths are 8, 4, 2 of them; .* there are 4 blocks"):
        Decoder((3, 4, 6, 8), (2, 4, 8, 8), (8, 4), rngs=nnx.Rngs(0))


def with_head(present, seed=0):
    return Decoder((3, 4, 6, 8), (2, 4, 8, 8), (8, 6, 4, 4), reconstruction=present, rngs=nnx.Rngs(seed))


@pytest.mark.slow
def test_a_head_for_the_image_changes_no_map_and_no_initial_weight_of_the_rest():
    plain, both = with_head(False), with_head(True)
    given = stages(29, 37)
    run = nnx.jit(lambda decoder, s: (decoder(s, (29, 37), train=False), *decoder.with_image(s, (29, 37), train=False)))
    (expected, same, nothing), (found, other, image) = run(plain, given), run(both, given)
    assert nothing is None
    for maps in (same, found, other):
        np.testing.assert_allclose(maps, expected, atol=1e-6)
    assert image.shape == (2, 29, 37, 3) and 0 < image.min() < image.max() < 1
    own = {path: leaf for path, leaf in nnx.to_flat_state(nnx.state(both)) if path[0] == "reconstruction"}
    assert {path[1] for path in own} == {"kernel", "bias"}


@pytest.mark.parametrize(("saved", "built"), [(False, False), (False, True), (True, False), (True, True)])
def test_weight_files_fit_with_and_without_the_head_for_the_image(saved, built, tmp_path):
    source, target = with_head(saved, seed=1), with_head(built, seed=2)
    own = None if target.reconstruction is None else np.asarray(target.reconstruction.kernel[...])
    weights = export_weights(source)
    assert ("reconstruction_head.0.weight" in weights) == saved
    save_weights(weights, tmp_path / "decoder.safetensors")
    load_decoder(target, tmp_path / "decoder.safetensors")
    for part in ("blocks", "head"):
        pair = (jax.tree.leaves(nnx.state(getattr(decoder, part))) for decoder in (source, target))
        for ours, theirs in zip(*pair, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    if built:
        expected = source.reconstruction.kernel[...] if saved else own
        np.testing.assert_array_equal(target.reconstruction.kernel[...], expected)
