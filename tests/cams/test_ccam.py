"""CCAM: the weights of the ranks, and the sum of the classes' maps."""

import jax.numpy as jnp
import numpy as np
import pytest
from explained import HeadAlone, keys
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import Target
from fcam_jax.errors import InputError
from fcam_jax.models.heads import WGAP

# Reference values computed with numpy alone: six class maps s sin(a i + b), their probabilities, two of the sums.
MAPS = np.sin(0.61 * np.arange(96) + 0.4).reshape(6, 4, 4)
PROBABILITIES = [0.11639474, 0.38644416, 0.07059698, 0.23439023, 0.03505742, 0.15711647]
SUMS = {
    "linear": [-3.0274956, -3.0808571, -2.0229412, -0.2353424, 1.6371453, 2.9191083],
    "quadratic": [-2.1222737, -2.1596801, -1.4180814, -0.1649750, 1.1476385, 2.0462942],
    "top": [-0.6707519, -0.9746658, -0.9270140, -0.5449845, 0.0336230, 0.6001026],
    "top_bottom": [-1.6563211, -1.6855148, -1.1067366, -0.1287542, 0.8956704, 1.5970231],
}


class Given:
    """A head with six maps, whatever the features."""

    def __init__(self, scores=PROBABILITIES):
        self.scores = jnp.log(jnp.asarray(scores))

    def __call__(self, features):
        return jnp.broadcast_to(self.scores, (len(features), 6))

    def activation(self, features, labels):
        return jnp.asarray(MAPS, jnp.float32)[labels]


def found(head, **settings):
    features = jnp.zeros((2, 4, 4, 1))
    return CAMS["ccam"](**settings)(Target(HeadAlone(head), features, (features,), jnp.zeros(2, int), keys(2), 0))


@pytest.mark.parametrize("combination", SUMS)
def test_maps_are_summed_by_the_ranks_of_their_scores(combination):
    maps = found(Given(), combination=combination)
    np.testing.assert_allclose(maps[0].ravel()[:6], SUMS[combination], atol=1e-5)
    np.testing.assert_array_equal(maps[0], maps[1])


def test_classes_that_see_the_same_leave_no_rounding_errors():
    class Alike(Given):
        def activation(self, features, labels):
            return jnp.broadcast_to(jnp.asarray(MAPS[2], jnp.float32), (len(labels), 4, 4))

    for combination in ("linear", "top_bottom"):
        assert (found(Alike(), combination=combination) == 0).all()


@pytest.mark.slow
def test_negative_weights_of_the_head_may_count_as_nothing():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 3, 4)), jnp.float32)
    network = HeadAlone(WGAP(4, 3, rngs=nnx.Rngs(0)))
    order = np.argsort(-np.asarray(network.score(features, 0))[0])

    def of(cam, label):
        return cam(Target(network, features, (features,), jnp.array([label]), keys(1), 0))

    first, last = (of(CAMS["cam"](clamp=True), order[place]) for place in (0, -1))
    np.testing.assert_allclose(of(CAMS["ccam"](clamp=True, combination="top_bottom"), 0), first - last, atol=1e-6)


def test_weights_fall_from_the_likeliest_class_to_the_last():
    quadratic = CAMS["ccam"]()
    np.testing.assert_allclose(quadratic.by_rank(6), [1, 0.25, 0, 0, -0.25, -1])
    weights = quadratic.by_rank(200)
    np.testing.assert_allclose(weights[[0, 1, 99, 100, 101, 199]], [1, 0.97990001, 0, 0, -0.000102030, -1], atol=1e-9)
    np.testing.assert_allclose(CAMS["ccam"](combination="linear").by_rank(200)[1], 0.98994975)
    np.testing.assert_allclose(CAMS["ccam"](split=2).by_rank(5), [1, 0, 0, -0.25, -1])
    for settings in ({}, {"combination": "linear"}, {"split": 100}):
        assert CAMS["ccam"](**settings).by_rank(1) == [1]


def test_every_image_has_its_own_order_and_equal_scores_keep_theirs():
    cam = CAMS["ccam"](combination="linear")
    weights = cam.by_class(jnp.array([[0.0, 2.0, 1.0], [3.0, 3.0, -1.0]]))
    np.testing.assert_array_equal(weights, [[-1, 1, 0], [1, 0, -1]])


def test_a_combination_that_does_not_exist_is_named():
    with pytest.raises(InputError, match=r"^combination is 'cubic'; known: linear, quadratic, top, top_bottom$"):
        CAMS["ccam"](combination="cubic")
