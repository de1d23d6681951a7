"""SAT: reference values of mask and loss, closed forms, and the token in the transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once, in_inference, on_devices
from flax import nnx
from on_tokens import (
    DEPTH,
    WIDTH,
    assert_alike_on_one_device_and_on_four,
    method_of,
    of_published,
    seeds_of_fcam,
    tiny,
    unchanged_parts,
)
from one_device import on_one_device, parameters
from tiny_stages import batch

from fcam_jax.cams.score_maps import minmax, resize_bilinear, score_map
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import plain
from fcam_jax.methods.sat import SAT, Masks, SpatialAttention, smoothed, spatial_mask
from fcam_jax.methods.tscam import TSCAM
from fcam_jax.models import ENCODERS
from fcam_jax.models.encoder import Asking, unchanged
from fcam_jax.models.import_weights import export_weights, load_classifier, save_weights
from fcam_jax.models.resnet import Small

# Reference values computed with NumPy alone: `sat_*`, of two heads, 4 x 4 patches between a class token and the
# token that makes the mask, which is the last one.
PRODUCTS = 2 * np.sin(0.29 * np.arange(2 * 18 * 18) + 0.4).reshape(1, 2, 18, 18)
MASK = [0.84532847, 0.871932068, 0.878434774, 0.866697535, 0.833426274, 0.770949694, 0.671703185, 0.539499796]
MASK += [0.398321774, 0.279124465, 0.196878754, 0.148601105, 0.125699224, 0.122230534, 0.137196189, 0.174723263]
MASK += [0.242944901, 0.348470934]
SMOOTHED = [
    [0.779945107, 0.821874018, 0.804473878, 0.730898262],
    [0.707648038, 0.656483402, 0.535831103, 0.392447012],
    [0.277099459, 0.219698067, 0.17120582, 0.139463542],
    [0.118122398, 0.134349551, 0.165905219, 0.209890991],
]
AREA, BINARY = 0.203647721, 0.171868371


@pytest.fixture(scope="module")
def model():
    """A network whose mask differs between patches."""
    model = tiny(SAT())
    for block in model.encoder.blocks:
        block.attn.qkv.kernel[...] *= 20
    return model


def test_mask_and_terms_are_the_recorded_ones():
    mask = at_once(lambda products: spatial_mask(products, 17), np.asarray(PRODUCTS, np.float32))
    np.testing.assert_allclose(mask[0, 0, 0], MASK, atol=1e-5)
    maps = mask[:, 0, 0, 1:17].reshape(1, 4, 4)
    np.testing.assert_allclose(at_once(smoothed, maps)[0], SMOOTHED, atol=1e-5)
    terms = on_one_device(SAT().of_map, maps)
    np.testing.assert_allclose([terms["area"], terms["binary"]], [AREA, BINARY], atol=1e-5)


def test_the_terms_are_of_the_mean_over_the_images_of_all_devices():
    maps = np.random.default_rng(0).random((8, 4, 4)).astype(np.float32) * np.linspace(0.1, 1, 8)[:, None, None]
    of_one, of_four = (on_devices(count, SAT().of_map, maps) for count in (1, 4))
    for name, value in of_one.items():
        np.testing.assert_allclose(of_four[name], value, rtol=1e-5, err_msg=name)


def asked(layer, x):
    """What a layer of attention shows."""
    seen = {}
    layer(x, Asking(lambda place, x: seen.setdefault(place, x), ("here",)), "here")
    return seen


@pytest.mark.slow
def test_the_shares_are_masked_for_all_queries_and_not_scaled_again():
    model = tiny(SAT())
    layer, x = model.encoder.blocks[-1].attn, jax.random.normal(jax.random.key(0), (2, 6, WIDTH))
    seen = at_once(asked, layer, x)
    q, k, _ = np.asarray(at_once(lambda layer, x: layer.split(x), layer, x), np.float64)
    products = np.einsum("bqhc,bkhc->bhqk", q, k) / np.sqrt(WIDTH / 2)
    shares = np.exp(products) / np.exp(products).sum(axis=-1, keepdims=True)
    mask = 1 / (1 + np.exp(-products[:, :, 1].mean(axis=1)))  # of the token after the class token
    np.testing.assert_allclose(seen["here"], shares * mask[:, None, None], rtol=1e-4)
    np.testing.assert_allclose(seen["here.mask"][:, 0, 0], mask, rtol=1e-5)


@pytest.mark.slow
def test_a_query_of_zeros_halves_all_attention_and_the_area_s_term_is_a_quarter():
    model, x = tiny(SAT()), jnp.ones((1, 6, WIDTH))
    layer = model.encoder.blocks[-1].attn
    layer.qkv.kernel[:, :WIDTH] = jnp.zeros((WIDTH, WIDTH))
    seen = at_once(asked, layer, x)
    np.testing.assert_allclose(seen["here"], 1 / 12, rtol=1e-6)
    assert on_one_device(SAT().of_map, jnp.full((2, 3, 3), 0.5))["area"] == 0.25


@jax.jit
def masked(model):
    """The masks of a batch in every block, their map, and the scores."""
    masks = Masks()
    _, logits = model(batch(0).images, train=False, at=masks)
    return masks.seen, masks.map(), logits


@pytest.mark.slow
def test_only_the_last_blocks_are_masked_and_their_weights_are_those_of_the_transformer(model):
    kinds = [isinstance(block.attn, SpatialAttention) for block in model.encoder.blocks]
    assert kinds == [False, True, True, True] and len(kinds) == DEPTH
    seen, maps, _ = masked(model)
    assert len(seen) == 3 and maps.shape == (8, 2, 2) and maps.std() > 1e-3
    np.testing.assert_allclose(maps.reshape(8, 4), np.mean(seen, axis=0)[:, 0, 0, 2:], rtol=1e-6)
    paths = {path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    of_tscam = {path for path, _ in nnx.to_flat_state(nnx.state(tiny(TSCAM()), nnx.Param))}
    assert paths - of_tscam == {("encoder", "extra_tokens"), ("encoder", "extra_positions")} and of_tscam < paths


def test_the_loss_is_the_sum_of_its_terms(model):
    way, given = SAT(area=0.4), batch(0)
    key = jax.random.key(0)
    (loss, logits, terms), (ce, scores, _) = on_one_device(
        lambda: (way.loss(model, given, key, jnp.asarray(0)), plain(model, given, key))
    )
    _, maps, _ = masked(model)
    maps, soft = np.asarray(maps, np.float64), np.asarray(at_once(smoothed, maps), np.float64)
    expected = {"ce": ce, "area": abs(maps.mean() - 0.4), "binary": (soft * (1 - soft)).mean()}
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(loss, sum(expected.values()), rtol=1e-4)
    np.testing.assert_allclose(logits, scores, atol=1e-5)


@pytest.mark.slow
def test_it_localizes_by_the_mask_whatever_the_label_and_f_cam_draws_its_seeds_from_it(model):
    given = batch(0)
    _, maps, logits = masked(model)
    found = at_once(method_of(SAT(), model).localize, model, given)
    np.testing.assert_allclose(found.maps, minmax(resize_bilinear(maps, (16, 16))), atol=1e-5)
    np.testing.assert_array_equal(found.logits, logits)
    expected = score_map(maps, (16, 16), "fcam")
    np.testing.assert_allclose(seeds_of_fcam(SAT(), model, given), expected, atol=1e-5)


@pytest.mark.long
@pytest.mark.slow
def test_a_step_is_alike_on_one_device_and_on_four_and_trains_the_token():
    before, after = assert_alike_on_one_device_and_on_four(SAT(), {"ce", "area", "binary"})
    assert unchanged_parts(before, after) == set()


def test_it_has_a_token_and_its_position_more_than_ts_cam():
    of_sat, of_tscam = (parameters(of_published(way, ENCODERS, "deit_small")) for way in (SAT(), TSCAM()))
    assert of_sat - of_tscam == 768


@pytest.mark.slow
def test_the_transformer_s_weights_are_taken_without_the_token_and_with_it(tmp_path):
    path, given = tmp_path / "classifier.safetensors", batch(0)
    for source, missing in ((tiny(TSCAM()), ("extra_positions", "extra_tokens")), (tiny(SAT()), ())):
        source.encoder.pos_embed[...] += 1
        save_weights(export_weights(source), path)
        found = tiny(SAT())
        assert sorted(load_classifier(found, path, keep_head=True).untouched) == list(missing)
        np.testing.assert_array_equal(found.encoder.pos_embed[...], source.encoder.pos_embed[...])
    np.testing.assert_array_equal(*(in_inference(one, given.images)[1] for one in (found, source)))


@pytest.mark.slow
def test_matrices_are_shown_and_may_be_replaced_by_who_asks(model):
    def shown(model):
        inputs = model.normalize(batch(0).images)
        blocks = list(model.attentions(inputs))
        stages = model.encoder(inputs, train=False, at=unchanged)
        again = blocks[-1].scores(blocks[-1].matrices)
        return [block.matrices for block in blocks], again, model.score(stages[-1], 5)

    matrices, again, scores = at_once(shown, model)
    assert [one.shape for one in matrices] == [(8, 2, 6, 6)] * DEPTH
    assert (matrices[-1].sum(axis=-1) < 1).all()
    np.testing.assert_allclose(again, scores, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"area": 2.0}, r"^area is 2.0; it must lie in \[0, 1\]$"),
        ({"blocks": 0}, "^blocks is 0; it must be at least 1"),
    ],
)
def test_a_setting_outside_its_range_is_named(settings, words):
    with pytest.raises(InputError, match=words):
        SAT(**settings)


def test_it_masks_no_more_blocks_than_there_are(model):
    with pytest.raises(InputError, match=r"^classifier.sat.blocks is 50; the encoder has \d+$"):
        SAT(blocks=50).extend(model)


def test_it_needs_attention():
    with pytest.raises(InputError, match=r"^SAT reads the attention of a transformer, and Small has none"):
        SAT().head(Small((4, 4, 4, 4), rngs=nnx.Rngs(0)), 3, dtype=jnp.float32, rngs=nnx.Rngs(0))
