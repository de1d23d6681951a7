"""CAMs of attention matrices: recorded values, plain loops, and what is said of networks without any."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from explained import classifier, images, keys

from fcam_jax import cams
from fcam_jax.cams.attention import AttentionRollout, LeGrad, rolled
from fcam_jax.cams.contract import Target
from fcam_jax.errors import InputError
from fcam_jax.models.encoder import BlockAttention

# `rollout_matrix` and `rollout_cls` of the reference values in wsol_systems.npz, computed there with NumPy alone.
LOGITS = 1.5 * np.sin(0.41 * np.arange(150) + 0.2).reshape(3, 2, 5, 5)  # of three blocks and two heads
RECORDED = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
ROLLOUT_MATRIX = [
    [0.312082469, 0.163147535, 0.157592546, 0.170612467, 0.196564983],
    [0.203160979, 0.289667168, 0.15156082, 0.163632446, 0.191978587],
    [0.186436977, 0.159267764, 0.276853773, 0.169110836, 0.20833065],
    [0.18695217, 0.162690275, 0.157431727, 0.295845223, 0.197080605],
    [0.203560878, 0.165246053, 0.151479985, 0.162931752, 0.316781332],
]
ROLLOUT_CLASS = [0.829992866, 0.801732551, 0.867969794, 1.0]


class Given:
    """A transformer of given matrices [layers, b, heads, n, n] on a grid; scores are of weights on them."""

    def __init__(self, matrices, cells, read=None, weights=None):
        self.matrices, self.cells, self.weights = matrices, cells, weights
        self.attention_blocks = len(matrices)
        self.read = np.eye(matrices.shape[-1])[0] if read is None else read

    def normalize(self, images):
        return jnp.asarray(images, jnp.float32)

    def stages(self, inputs):
        return tuple(jnp.zeros((len(inputs), *self.cells, 2)) for _ in self.matrices)

    def score(self, features, stage):
        return jnp.zeros((len(features), 3))

    def attentions(self, inputs):
        for number, matrices in enumerate(self.matrices):

            def scores(matrices, number=number):
                return jnp.einsum("bhqk,chqk->bc", matrices + matrices**2, self.weights[number])

            yield BlockAttention(jnp.asarray(matrices), scores, jnp.asarray(self.read, jnp.float32))


def random_matrices(layers=3, b=2, heads=2, n=7, seed=0):
    matrices = np.random.default_rng(seed).random((layers, b, heads, n, n)).astype(np.float32)
    return matrices / matrices.sum(axis=-1, keepdims=True)


def target_of(network, count):
    inputs = jnp.zeros((count, 8, 8, 3))
    return Target(network, inputs, network.stages(inputs), jnp.arange(count) + 1, keys(count), 2)


def reference_rollout(matrices, row, patches, fuse="mean", discard=0.0):
    """By loops over blocks, images and entries, for the matrices [layers, b, heads, n, n]."""
    maps = []
    for image in range(matrices.shape[1]):
        n = matrices.shape[-1]
        result = np.eye(n)
        for block in matrices[:, image].astype(np.float64):
            fused = getattr(block, fuse)(axis=0)
            order = [place for place in np.argsort(fused.ravel(), kind="stable")[: int(n * n * discard)] if place]
            fused.ravel()[order] = 0
            step = (fused + np.eye(n)) / 2
            for i in range(n):
                step[i] /= step[i].sum()
            result = step @ result
        of_patches = (row @ result)[-patches:]
        maps.append(of_patches / of_patches.max())
    return np.array(maps)


@pytest.mark.slow
def test_the_matrix_and_the_class_row_are_the_recorded_ones():
    found = None
    for matrices in RECORDED:
        found = rolled(found, jnp.asarray(matrices[None], jnp.float32))
    np.testing.assert_allclose(found[0], ROLLOUT_MATRIX, atol=1e-6)
    network = Given(RECORDED[:, None].astype(np.float32), (2, 2))
    np.testing.assert_allclose(AttentionRollout()(target_of(network, 1)).ravel(), ROLLOUT_CLASS, atol=1e-6)


@pytest.mark.parametrize("fuse", ["mean", "max", "min"])
@pytest.mark.parametrize("discard", [0.0, 0.9])
def test_rollout_is_the_product_of_the_blocks_for_every_image(fuse, discard):
    matrices = random_matrices()
    found = AttentionRollout(fuse=fuse, discard=discard)(target_of(Given(matrices, (2, 3)), 2))
    assert found.shape == (2, 2, 3)
    expected = reference_rollout(matrices, np.eye(7)[0], 6, fuse, discard)
    np.testing.assert_allclose(found.reshape(2, 6), expected, atol=1e-6)
    if discard:
        assert (found == 0).any() and np.abs(
            found - AttentionRollout(fuse=fuse)(target_of(Given(matrices, (2, 3)), 2))
        ).max() > 0.1


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_the_mean_of_the_patches_has_the_mean_of_their_rows_and_all_prefix_tokens_are_left_out(prefix):
    matrices = random_matrices(n=6 + prefix)
    read = np.r_[np.zeros(prefix), np.full(6, 1 / 6)]
    found = AttentionRollout()(target_of(Given(matrices, (3, 2), read), 2))
    np.testing.assert_allclose(found.reshape(2, 6), reference_rollout(matrices, read, 6), atol=1e-6)


def test_blocks_without_attention_between_tokens_are_a_map_of_zeros():
    alone = np.broadcast_to(np.eye(5, dtype=np.float32), (2, 1, 3, 5, 5))
    np.testing.assert_array_equal(AttentionRollout()(target_of(Given(alone, (2, 2)), 1)), np.zeros((1, 2, 2)))


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_legrad_is_a_sum_over_blocks_of_positive_gradients(blocks):
    matrices = random_matrices(heads=3)
    weights = np.random.default_rng(1).normal(size=(3, 4, 3, 7, 7)).astype(np.float32)
    target = target_of(Given(matrices, (2, 3), weights=weights), 2)
    expected = np.zeros((2, 7))
    for image, label in enumerate(np.asarray(target.labels)):
        for layer in range(3)[-blocks:]:
            for head in range(3):
                for query in range(7):
                    for key in range(7):
                        slope = 1 + 2 * matrices[layer, image, head, query, key]
                        gradient = weights[layer, label, head, query, key] * slope
                        expected[image, key] += max(gradient, 0) / (3 * 7)
    found = LeGrad(blocks=blocks)(target)
    np.testing.assert_allclose(found, expected[:, 1:].reshape(2, 2, 3), rtol=1e-5)


@pytest.mark.slow
def test_they_are_cams_by_name_for_any_network_that_shows_its_attention():
    network = Given(random_matrices(), (2, 3), weights=np.ones((3, 3, 2, 7, 7), np.float32))
    pictures = np.full((2, 20, 30, 3), 128, np.uint8)
    maps = cams.compute("rollout", network, pictures, labels=[0, 1], fuse="max")
    assert maps.shape == (2, 20, 30) and maps.min() == 0 and maps.max() == 1
    assert cams.compute("legrad", network, pictures, labels=[0, 1], blocks=2).shape == (2, 20, 30)


@pytest.mark.parametrize(
    ("cam", "settings", "message"),
    [
        ("rollout", {"fuse": "sum"}, "fuse is 'sum'; known: max, mean, min"),
        ("rollout", {"discard": 1.0}, "discard is 1.0; it must be below 1"),
        ("rollout", {"discard": -0.1}, "discard is -0.1; it must be at least 0"),
        ("legrad", {"blocks": -1}, "blocks is -1; it must be at least 0"),
        ("legrad", {"blocks": 4}, "blocks is 4; the network has 3"),
        (
            "rollout",
            {"stages": ["stage2"]},
            "stages hold 'stage2'; Attention rollout is made of the blocks' attention: it takes stage3 alone",
        ),
    ],
)
def test_settings_outside_their_range_are_named(cam, settings, message):
    network = Given(random_matrices(), (2, 3), weights=np.ones((3, 3, 2, 7, 7), np.float32))

    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        cams.compute(cam, network, np.full((2, 20, 30, 3), 128, np.uint8), labels=[0, 1], **settings)


@pytest.mark.parametrize("name", ["rollout", "legrad"])
def test_a_network_without_attention_is_told_in_one_line(name):
    title = cams.CAMS[name].title
    with pytest.raises(InputError, match=f"^{title} is made of the blocks' attention, and the network has none: take"):
        cams.compute(name, classifier(), images())
