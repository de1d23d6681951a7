"""TokenCut and LOST: reference values, plain references with SciPy, and the keys of a transformer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
from explained import classifier, images, of_images
from filled import filled
from flax import nnx

from fcam_jax.cams.discovery import LOST, TokenCut, component, second_vector
from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.vit import Design, ViT8

# `lost_*` and `tokencut_*` of the reference values in wsol_systems.npz, computed there with NumPy alone: two groups of
# patches, of which those of one are alike and unlike those of the other.
OBJECT = np.zeros((6, 6), bool)
OBJECT[1:4, 2:5] = True
SECOND_EIGENVALUE = 3.333242224968106e-05


@functools.cache
def compiled(cam):
    return jax.jit(cam.of_keys)


def of_keys(cam, keys):
    """The map of an image whose keys are given."""
    return np.asarray(compiled(cam)(jnp.asarray(keys[None], jnp.float32))[0])


eigen = jax.jit(second_vector)


TWO_GROUPS = np.eye(2)[OBJECT.astype(int)]


@pytest.fixture(scope="module")
def random():
    """Features of which about a half of the pairs are alike."""
    return np.random.default_rng(0).normal(size=(5, 6, 4)) + np.array([0.3, 0, 0, 0])


def test_tokencut_is_the_recorded_partition():
    np.testing.assert_array_equal(of_keys(TokenCut(), TWO_GROUPS) > 0, OBJECT)
    like = OBJECT.ravel()[:, None] == OBJECT.ravel()
    _, value = eigen(np.where(like, 1.0, 1e-5)[None].astype(np.float32))
    np.testing.assert_allclose(value, SECOND_EIGENVALUE, atol=1e-6)


def test_lost_is_the_recorded_mask():
    found = of_keys(LOST(), TWO_GROUPS)
    np.testing.assert_array_equal(found > 0, OBJECT)
    np.testing.assert_array_equal(found[OBJECT], 9)  # all of the object vote for each other


@pytest.mark.parametrize("tau", [-0.2, 0.3])
def test_tokencut_s_vector_is_that_of_the_generalised_problem(random, tau):
    rows = random.reshape(30, 4) / np.linalg.norm(random.reshape(30, 4), axis=1, keepdims=True)
    affinity = np.where(rows @ rows.T > tau, 1, 1e-5)
    degrees = np.diag(affinity.sum(1))
    values, vectors = scipy.linalg.eigh(degrees - affinity, degrees)
    second = vectors[:, 1]
    expected = second - second.mean()
    expected = expected * np.sign(expected[np.abs(second).argmax()])
    found = of_keys(TokenCut(tau=tau), random).ravel()
    np.testing.assert_allclose(found / np.abs(found).max(), expected / np.abs(expected).max(), atol=1e-3)
    np.testing.assert_allclose(eigen(affinity[None].astype(np.float32))[1], values[1], atol=1e-5)


@pytest.mark.parametrize("candidates", [3, 100])
def test_lost_is_that_of_plain_loops(random, candidates):
    rows = random.reshape(30, 4)
    likeness = rows @ rows.T
    degrees = [sum(likeness[p, q] > 0 for q in range(30) if q != p) for p in range(30)]
    order = np.argsort(degrees, kind="stable")
    votes = sum(likeness[q] for q in order[:candidates] if likeness[order[0], q] > 0).reshape(5, 6)
    parts, _ = scipy.ndimage.label(votes > 0)
    expected = np.where(parts == parts.ravel()[order[0]], votes, 0)
    assert 0 < (expected > 0).sum() < 30
    np.testing.assert_allclose(of_keys(LOST(candidates=candidates), random), expected, atol=1e-4)


def test_a_component_is_one_of_neighbours_that_share_a_side():
    rng = np.random.default_rng(0)
    mask = rng.random((8, 9, 10)) < 0.6
    seeds = [int(rng.choice(np.flatnonzero(one))) for one in mask]
    found = jax.jit(component)(mask, np.asarray(seeds))
    for one, part, seed in zip(mask, found, seeds, strict=True):
        labels, _ = scipy.ndimage.label(one)
        np.testing.assert_array_equal(part, labels == labels.ravel()[seed])
    assert not component(jnp.asarray(mask[:1] & False), jnp.zeros(1, jnp.int32)).any()


@pytest.mark.parametrize("cam", [TokenCut(), LOST()])
@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_keys_that_are_the_same_everywhere_say_nothing_of_an_object(cam, constant):
    assert np.ptp(of_keys(cam, np.full((4, 5, 3), constant))) == 0


def test_patches_with_the_same_neighbours_have_the_same_value():
    keys = np.repeat(np.random.default_rng(1).normal(size=(2, 5, 3)), 2, axis=0)  # rows of patches that are alike
    found = of_keys(TokenCut(tau=0.3), keys)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.ptp(found) > 0.5


def test_patches_of_which_none_is_like_another_are_not_cut():
    assert (of_keys(TokenCut(), np.eye(20).reshape(4, 5, 20)) == 0).all()


@functools.cache
def transformer(pool):
    """A transformer and the target of two images."""
    design = Design(width=12, heads=2, grid=2, resampling="size", depth=4, registers=2)
    network = filled(
        lambda: Classifier(ViT8(design, pool=pool, rngs=nnx.Rngs(0)), WGAP(12, 3, rngs=nnx.Rngs(1))),
        lambda path, leaf: leaf.ndim > 1,
        variance=1.0,
    )
    return network, of_images(network, images(2, 24, 32), [0, 1])


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_a_transformer_s_patches_are_compared_by_the_keys_of_its_last_block(pool):
    network, target = transformer(pool)

    @jax.jit
    def by_hand(network, target):
        last, before = network.encoder.blocks[-1], target.stages[3].joined()  # after three of four blocks
        kernel, bias = last.attn.qkv.kernel[:, 12:24], last.attn.qkv.bias[12:24]
        return (last.norm1(before) @ kernel + bias)[:, 3:].reshape(2, 3, 4, 12)

    expected = by_hand(network, target)
    np.testing.assert_allclose(network.keys(target.stages), expected, atol=1e-5)
    for cam in (TokenCut(), LOST()):
        one, found = compiled(cam)(expected), jax.jit(cam)(target)
        assert found.shape == (2, 3, 4)
        np.testing.assert_allclose(found, one, atol=1e-2 * np.abs(one).max())


@pytest.mark.parametrize("cam", [TokenCut(), LOST()])
def test_no_gradient_passes_and_others_than_transformers_are_refused(cam):
    network, target = transformer("token")

    def total(patches, target):
        before = target.network.with_map(target.stages[4], patches)
        return cam(dataclasses.replace(target, stages=(*target.stages[:4], before, target.stages[5]))).sum()

    assert (jax.jit(jax.grad(total))(network.map_of(target.stages[4]), target) == 0).all()
    with pytest.raises(InputError, match=f"^{cam.title} is made of the last block's keys, and the network has none"):
        cam.check(classifier())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: TokenCut(tau=-2.0), "^tau is -2.0; it must be at least -1"),
        (lambda: TokenCut(tau=5.0), r"^tau is 5.0; it must lie in \[-1, 1\]$"),
        (lambda: LOST(candidates=0), "^candidates is 0"),
    ],
)
def test_a_setting_outside_its_range_is_named(build, words):
    with pytest.raises(InputError, match=words):
        build()
