"""The three parts of "Rethinking class activation mapping": pooling, clamped weights, a percentile to threshold by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once
from filled import filled
from flax import nnx

from fcam_jax import cams
from fcam_jax.cams.score_maps import minmax, over_percentile, resize_bicubic, score_map
from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import GAP, HEADS, TAP, WGAP
from fcam_jax.models.resnet import Small

# Reference values computed with numpy alone: four channels of 4x4, weights of three classes.
FEATURES = [
    [
        0.1120833,
        0.9736849,
        1.5460730,
        0.4956441,
        0.2477732,
        1.5082971,
        2.1423544,
        0.4352039,
        0.2981552,
        1.1165908,
        1.2880087,
        0.1074838,
        0.2928712,
        0.5641612,
        0.4553710,
        0.0471262,
    ],
    [
        0.4466681,
        1.1188378,
        0.8676918,
        0.2942164,
        0.5952651,
        1.5145785,
        0.9114663,
        0.6877145,
        0.5389134,
        0.9801430,
        0.3380704,
        0.6588537,
        0.4333888,
        0.4285594,
        0.0219547,
        0.4036318,
    ],
    [
        0.5632709,
        0.7179779,
        0.2341383,
        0.9404941,
        0.6522571,
        0.7817187,
        0.7642335,
        1.4750161,
        0.5166723,
        0.3653680,
        0.7768522,
        1.1036589,
        0.3624050,
        0.0838130,
        0.4221760,
        0.5631579,
    ],
    [
        0.4049876,
        0.0332679,
        1.2217048,
        1.1277940,
        0.3909360,
        0.3326337,
        2.0669738,
        1.5424836,
        0.2422859,
        0.4277130,
        1.5126572,
        1.0098590,
        0.1145611,
        0.3018356,
        0.6602772,
        0.4478530,
    ],
]
WEIGHTS = np.sin(0.4 * np.arange(12) + 0.9).reshape(3, 4)
CLAMPED = [
    1.4263536,
    2.58148953,
    3.33392585,
    2.57792328,
    1.75193998,
    3.70320975,
    5.09850934,
    3.79776768,
    1.47433668,
    2.55060886,
    3.41079923,
    2.68521834,
    1.10528372,
    1.19852639,
    1.36647353,
    1.37089269,
]


@pytest.fixture(scope="module")
def features():
    return jnp.asarray(FEATURES, jnp.float32).reshape(1, 4, 4, 4).transpose(0, 2, 3, 1)


def small():
    return filled(lambda: Small((4, 4, 4, 4), rngs=nnx.Rngs(0)))


def head(kind=TAP, **settings):
    made = kind(4, 3, **settings, rngs=nnx.Rngs(0))
    made.fc.kernel[...] = jnp.asarray(WEIGHTS.T, jnp.float32)
    return made


@pytest.mark.parametrize(
    ("threshold", "pooled"),
    [
        (0.1, [0.874168374, 0.681199942, 0.6826264676, 0.8349996052]),
        (0.5, [1.5202647915, 1.0785434952, 0.9736622566, 1.4943226819]),
        (0.0, [0.7269301358, 0.6399971116, 0.6452006279, 0.7398639631]),
    ],
)
def test_a_channel_s_mean_is_that_of_where_it_stands_out(features, threshold, pooled):
    np.testing.assert_allclose(at_once(head(threshold=threshold).pooled, features)[0], pooled, rtol=1e-6)


def test_scores_are_those_of_the_means(features):
    np.testing.assert_allclose(at_once(head(), features), [[2.7388515179, 0.1360476958, -2.7467965734]], rtol=1e-5)


@pytest.mark.slow
def test_what_is_low_has_no_part_and_no_gradient():
    channel = jnp.array([[1.0, 0.05], [0.5, 0.0]])[None, ..., None]
    pool = jax.jit(TAP(1, 2, rngs=nnx.Rngs(0)).pooled)
    np.testing.assert_allclose(pool(channel), [[0.75]])
    np.testing.assert_allclose(at_once(jax.grad(lambda x: pool(x)[0, 0]), channel)[0, ..., 0], [[0.5, 0], [0.5, 0]])
    assert not pool(-channel).any() and not pool(jnp.zeros_like(channel)).any()
    assert pool(channel.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.slow
def test_negative_weights_count_as_zero(features):
    for made in (head(), head(WGAP)):
        model, labels = Classifier(small(), made), jnp.array([0])
        plain = at_once(model.activation, features, labels)
        for label, weights in enumerate(np.maximum(WEIGHTS, 0)):
            expected = np.einsum("bhwc,c->bhw", features, weights)
            found = clamped(model, features, label)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(clamped(model, features, 0).ravel(), CLAMPED, rtol=1e-6)
        np.testing.assert_allclose(plain.ravel(), CLAMPED, rtol=1e-6)  # the first class has positive weights alone


CLAMPED_OR_NOT = {clamp: jax.jit(cams.CAM(clamp=clamp)) for clamp in (True, False)}


def clamped(model, features, label, clamp=True):
    keys = jax.random.split(jax.random.key(0), 1)
    target = cams.contract.Target(model, jnp.zeros((1, 16, 16, 3)), (features,), jnp.array([label]), keys, 0)
    return CLAMPED_OR_NOT[clamp](target)


@pytest.mark.slow
def test_a_bias_of_the_map_does_not_count_where_weights_are_clamped(features):
    made = GAP(4, 3, rngs=nnx.Rngs(0))
    made.conv.kernel[0, 0] = jnp.asarray(WEIGHTS.T, jnp.float32)
    model = Classifier(small(), made)
    before = clamped(model, features, 2), clamped(model, features, 2, clamp=False)
    made.conv.bias[...] = jnp.full((3,), 5.0)
    np.testing.assert_array_equal(clamped(model, features, 2), before[0])
    np.testing.assert_allclose(clamped(model, features, 2, clamp=False) - before[1], 5, rtol=1e-5)


@pytest.mark.parametrize(("percentile", "share", "level"), [(90.0, 0.35, 63), (100.0, 0.2, 45)])
def test_a_threshold_is_a_share_of_the_percentile(percentile, share, level):
    squares = np.arange(16).reshape(1, 4, 4) ** 2  # in 8 bits, of at most 225
    found = at_once(lambda maps: over_percentile(maps, percentile), (squares / 225).astype(np.float32))
    np.testing.assert_array_equal(found > share, squares > level)
    assert found.max() == 1 and found.min() == 0


def test_of_a_map_that_is_seldom_above_zero_all_that_is_counts_alike():
    maps = np.zeros((1, 5, 5), np.float32)
    maps[0, 0, :2] = 0.3, 1.0
    np.testing.assert_array_equal(at_once(over_percentile, maps), maps > 0)


@pytest.mark.slow
def test_the_convention_is_that_of_the_protocol_over_the_percentile():
    maps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5)), jnp.float32)
    of_percentile = jax.jit(lambda maps: score_map(maps, (16, 20), "percentile"))
    found = of_percentile(maps.at[1].set(3.0))
    protocol = at_once(lambda maps: minmax(resize_bicubic(maps, (16, 20))), maps)[0]
    np.testing.assert_allclose(found[0], np.minimum(protocol / np.percentile(protocol, 90), 1), rtol=1e-5)
    assert not found[1].any()
    assert np.isnan(of_percentile(maps.at[0, 0, 0].set(np.inf))[0]).all()


def test_a_threshold_outside_its_range_is_named():
    with pytest.raises(InputError, match=r"^threshold is 1.5; it must lie in \[0, 1\]$"):
        HEADS["tap"](4, 3, threshold=1.5, rngs=nnx.Rngs(0))
