"""The heads against their equations in float64, whose differences also check the gradients; settings out of range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import logsumexp

from fcam_jax.errors import InputError
from fcam_jax.models.heads import HEADS

CHANNELS, CLASSES, HEIGHT, WIDTH = 4, 3, 3, 5
IMAGES, LABELS = np.array([0, 1]), np.array([2, 0])
SETTINGS = {
    "wgap": {},
    "gap": {"background": False},
    "max": {"background": False},
    "lse": {"background": False, "r": 10.0},
    "wildcat": {"background": False, "modalities": 3, "kmax": 0.5, "kmin": 0.1, "alpha": 0.6},
}
MAP_HEADS = ["gap", "max", "lse", "wildcat"]
# Of 15 positions: a half, 7.5, is 8; a tenth is 2; a hundredth is 1, and a hundred are 15.
COUNTS = {0.5: 8, 0.1: 2, 0.01: 1, 4: 4, 7.0: 7, 100: 15, 0.0: 0}


def build(name, dtype=jnp.float32, **changes):
    """A head, with a bias that is not zero."""
    head = HEADS[name](CHANNELS, CLASSES, **SETTINGS[name] | changes, dtype=dtype, rngs=nnx.Rngs(0))
    layer_of(head).bias[...] = jnp.linspace(-1, 1, layer_of(head).bias.size)
    return head


def layer_of(head):
    """The layer by the name that it has in the authors' program."""
    return getattr(head, {"WGAP": "fc", "WILDCAT": "to_modalities"}.get(type(head).__name__, "conv"))


def features():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, HEIGHT, WIDTH, CHANNELS)), jnp.float32)


def class_maps(head, values, background=False, modalities=1, **_):
    """Maps of the classes in float64."""
    kernel, bias = (np.asarray(leaf[...], np.float64) for leaf in (layer_of(head).kernel, layer_of(head).bias))
    channels = np.asarray(values, np.float64) @ kernel.reshape(CHANNELS, -1) + bias
    starts = (np.arange(CLASSES) + int(background)) * modalities
    return np.stack([channels[..., start : start + modalities].mean(-1) for start in starts], axis=-1)


def pooled(name, maps, r=None, kmax=None, kmin=None, alpha=None, **_):
    """Scores of maps [b, h, w, k] in float64."""
    flat = maps.reshape(len(maps), HEIGHT * WIDTH, -1)
    if name == "max":
        return flat.max(1)
    if name == "lse":
        return logsumexp(r * flat, b=1 / flat.shape[1], axis=1) / r
    if name == "wildcat":
        falling = -np.sort(-flat, axis=1)
        lowest = alpha * falling[:, -COUNTS[kmin] :].mean(1) if kmin else 0
        return falling[:, : COUNTS[kmax]].mean(1) + lowest
    return flat.mean(1)


@nnx.jit
def results(head, values, weights):
    """Scores, maps of the labels, and the gradient of the weighted sum of the scores."""
    gradient = jax.grad(lambda x: (weights * head(x)).sum())(values)
    return head(values), head.activation(values, jnp.asarray(LABELS)), gradient


@pytest.mark.parametrize(
    "name, changes",
    [
        *((name, {}) for name in SETTINGS),
        *((name, {"background": True}) for name in MAP_HEADS),
        ("wildcat", {"kmax": 4, "kmin": 7.0, "alpha": -0.5}),
        ("wildcat", {"kmax": 0.01, "kmin": 100}),
        ("wildcat", {"kmax": 100, "kmin": 0.0}),
    ],
)
def test_scores_map_and_gradient_are_those_of_the_equations(name, changes):
    head, settings = build(name, **changes), SETTINGS[name] | changes
    weights = np.random.default_rng(1).normal(size=(2, CLASSES))
    scores, activation, gradient = results(head, features(), weights.astype(np.float32))

    maps = class_maps(head, features(), **settings)
    np.testing.assert_allclose(scores, pooled(name, maps, **settings), atol=1e-5)

    bias = layer_of(head).bias[...][LABELS][:, None, None] if name == "wgap" else 0  # CAM is without it
    np.testing.assert_allclose(activation + bias, maps[IMAGES, :, :, LABELS], atol=1e-5)
    pooled_activation = pooled(name, np.asarray(activation + bias), **settings)[:, 0]
    np.testing.assert_allclose(pooled_activation, scores[IMAGES, LABELS], atol=1e-5)

    def weighted(values):
        return (weights * pooled(name, class_maps(head, values, **settings), **settings)).sum()

    values = np.asarray(features(), np.float64)
    steps = 1e-6 * np.eye(values.size).reshape(-1, *values.shape)
    expected = [(weighted(values + step) - weighted(values - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, np.reshape(expected, values.shape), atol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_bfloat16_gives_float32_scores_that_are_close(name):
    values, ones = features().astype(jnp.bfloat16), jnp.ones((2, CLASSES))
    scores, activation, gradient = results(build(name, jnp.bfloat16), values, ones)
    assert (scores.dtype, activation.dtype, gradient.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    expected = results(build(name), values.astype(jnp.float32), ones)
    np.testing.assert_allclose(scores, expected[0], atol=0.02)
    np.testing.assert_allclose(activation, expected[1], atol=1e-6)  # seeds are drawn from it: never rounded
    np.testing.assert_allclose(gradient.astype(jnp.float32), expected[2], atol=0.02)


@pytest.mark.parametrize("name", SETTINGS)
def test_close_scores_do_not_tie_in_bfloat16(name):
    head = build(name, jnp.bfloat16)
    layer = layer_of(head)
    by_class = jnp.repeat(jnp.array([1, 1 + 2**-7, 1]), layer.bias.size // CLASSES)
    layer.kernel[...] = jnp.ones(layer.kernel.shape).at[..., 0, :].set(by_class)
    layer.bias[...] = jnp.zeros(layer.bias.shape)
    scores = head(jnp.full((1, HEIGHT, WIDTH, CHANNELS), 100, jnp.bfloat16))[0]
    assert scores[1] > scores[0] == scores[2]
    assert len(set(scores.astype(jnp.bfloat16).tolist())) == 1


@pytest.mark.parametrize("r", [0.01, 1.0, 10.0, 1e4])
def test_log_sum_exp_lies_between_mean_and_maximum_and_reaches_both(r):
    head = build("lse", r=r)
    maps = class_maps(head, features()).reshape(2, -1, CLASSES)
    mean, high, low = maps.mean(1), maps.max(1), maps.min(1)
    scores, rounding = np.asarray(head(features())), 1e-5 + 1e-6 / r
    assert (scores < high + rounding).all() and (scores > high - np.log(HEIGHT * WIDTH) / r - rounding).all()
    # Hoeffding's lemma bounds it from the side of the mean.
    assert (scores > mean - rounding).all() and (scores < mean + r * (high - low) ** 2 / 8 + rounding).all()


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_log_sum_exp_of_large_values_is_finite_and_so_is_its_gradient(size):
    head = build("lse")
    head.conv.kernel[...] = jnp.ones((1, 1, CHANNELS, CLASSES))
    scores, _, gradient = results(head, features() / 100 + size / CHANNELS, np.ones((2, CLASSES), np.float32))
    np.testing.assert_allclose(scores, size, rtol=1e-3)
    np.testing.assert_allclose(gradient.sum((1, 2)), CLASSES, rtol=1e-4)


@pytest.mark.parametrize("kmax, other", [(1.0, "gap"), (1, "max")])
def test_wildcat_of_all_or_one_position_is_a_simpler_head(kmax, other):
    head, simple = build("wildcat", modalities=1, kmax=kmax, alpha=0.0), build(other)
    simple.conv.kernel[...] = head.to_modalities.kernel[...]
    np.testing.assert_allclose(head(features()), simple(features()), atol=1e-6)


@pytest.mark.parametrize("name", MAP_HEADS)
def test_the_background_is_the_first_map_and_has_no_part_in_the_scores(name):
    head = build(name, background=True)
    before = head(features())
    modalities = layer_of(head).bias.size // (CLASSES + 1)
    layer_of(head).bias[...] += 1000.0 * (jnp.arange(layer_of(head).bias.size) < modalities)
    assert ((head.maps(features()) > 500) == (np.arange(CLASSES + 1) == 0)).all()
    np.testing.assert_array_equal(head(features()), before)


@pytest.mark.parametrize("name", MAP_HEADS)
def test_a_head_starts_as_pytorch_s_convolution_but_with_zero_bias(name):
    layer = layer_of(HEADS[name](100, 50, **SETTINGS[name], rngs=nnx.Rngs(0)))
    assert layer.kernel.shape == (1, 1, 100, 150 if name == "wildcat" else 50)
    assert 0.099 < np.abs(layer.kernel[...]).max() <= 0.1
    np.testing.assert_allclose(np.std(layer.kernel[...]), 0.1 / np.sqrt(3), rtol=0.05)
    assert not layer.bias[...].any()


@pytest.mark.parametrize(
    "name, setting, value",
    [
        ("lse", "r", 0.0),
        ("lse", "r", float("nan")),
        ("wildcat", "modalities", 0),
        ("wildcat", "kmax", 0.0),
        ("wildcat", "kmax", -1),
        ("wildcat", "kmax", 1.5),
        ("wildcat", "kmin", -0.1),
        ("wildcat", "kmin", 2.5),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(name, setting, value):
    with pytest.raises(InputError, match=rf"^{setting} is {value}; it must be .*$"):
        build(name, **{setting: value})
