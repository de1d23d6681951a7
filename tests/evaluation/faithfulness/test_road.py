"""ROAD against a loop over images and shares, with a dense solve for each, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_imputation import dense

from fcam_jax.errors import InputError
from fcam_jax.evaluation import faithfulness

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 10, 10, 2)).astype(np.float32)
MAPS = RNG.random((3, 10, 10)).astype(np.float32)
MAPS[1] = np.round(4 * MAPS[1]) / 4  # ties
LABELS = np.array([0, 2, 1])
WEIGHTS = RNG.normal(size=(10, 10, 2, 3)).astype(np.float32) / 5
SHARES = (0.13, 0.5, 0.9)


def linear(weights, images):
    return jnp.einsum("bhwc,hwck->bk", images, weights)


NETWORK = jax.tree_util.Partial(linear, WEIGHTS)


def by_hand(image, score_map, label, order):
    values = []
    for share in SHARES:
        ranked = sorted(range(100), key=lambda p: (-score_map.flat[p], p))
        count = int(share * 100)
        kept = np.ones(100, bool)
        kept[ranked[:count] if order == "most" else ranked[100 - count :]] = False
        scores = np.einsum("hwc,hwck->k", dense(image, kept.reshape(10, 10)), WEIGHTS)
        values.append(np.exp(scores[label]) / np.exp(scores).sum())
    return np.array(values)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["most", "least", "both"])
def test_it_is_a_loop_over_images_and_shares(order):
    both = {
        one: np.array([by_hand(*row, one) for row in zip(IMAGES, MAPS, LABELS, strict=True)])
        for one in ("most", "least")
    }
    expected = (both["least"] - both["most"]) / 2 if order == "both" else both[order]
    given = {"order": order, "shares": SHARES, "noise": 0.0}
    found = faithfulness.road_curve(NETWORK, IMAGES, MAPS, LABELS, batch_size=2, **given)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    mean = faithfulness.road(NETWORK, IMAGES, MAPS, LABELS, batch_size=2, **given)
    np.testing.assert_allclose(mean, expected.mean(axis=1), atol=1e-3)


@pytest.mark.slow
def test_a_network_that_sees_nothing_has_0_and_a_good_map_more_than_its_opposite():
    blind = jax.tree_util.Partial(linear, np.zeros_like(WEIGHTS))
    np.testing.assert_array_equal(faithfulness.road(blind, IMAGES, MAPS, LABELS), 0)
    own = np.moveaxis(WEIGHTS[..., LABELS] - WEIGHTS.mean(axis=-1, keepdims=True), -1, 0)
    good = (IMAGES * own).sum(axis=-1)
    assert (faithfulness.road(NETWORK, IMAGES, good, LABELS) > 0).all()
    assert (faithfulness.road(NETWORK, IMAGES, -good, LABELS) < 0).all()


@pytest.mark.slow
def test_the_noise_hangs_on_the_key_alone():
    first, again, other = (
        faithfulness.road(NETWORK, IMAGES[:count], MAPS[:count], LABELS[:count], noise=0.5, key=key)
        for count, key in ((3, 1), (2, 1), (3, 2))
    )
    np.testing.assert_allclose(first[:2], again, atol=1e-4)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": "random"}, "unknown order 'random'; known: both, least, most"),
        ({"shares": ()}, r"shares is \(\); it must hold shares of the pixels, between 0 and 1"),
        ({"shares": (0.1, 1)}, r"shares is \(0.1, 1\); it must hold shares of the pixels, between 0 and 1"),
        ({"noise": -1.0}, "noise is -1.0; it must be a number from 0"),
        ({"key": "x"}, "the key must be a seed, or made by jax.random.key"),
    ],
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        faithfulness.road(NETWORK, IMAGES, MAPS, **changes)
