"""CSTN: windows on a map, what they sample, their boxes and votes, and the loss over classes and windows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once, in_inference
from filled import filled
from flax import nnx
from one_device import parameters
from replicated import assert_alike_on_four, network
from tiny_stages import STAGES, Tiny, batch, decoder

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import explain
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ClassifierMethod, SeedMaps
from fcam_jax.methods.cstn import CSTN, CSTNHead, boxes_of, sampled, voted, window_places
from fcam_jax.models.fcam import FCAM

# Reference values computed with numpy alone.
MOVED = np.array([[0.8, 0.1, 0.2], [-0.1, 1.2, -0.3]])
COARSE = [
    [0.19866933, 0.78332691, 0.9995736, 0.74570521],
    [0.14112001, -0.52983614, -0.95160207, -0.92581468],
    [-0.46460218, 0.21511999, 0.79366786, 0.99894134],
]
FINE = [
    [0.19966683, 1.12928495, 1.78241472, 1.99914721, 1.72641873, 1.03100274, 0.08316132, -0.88504089, -1.63655422],
    [-1.98738201, -1.85162936, -1.26253328, -0.36432501, 0.62308273, 1.45793808, 1.93583934, 1.93977962, 1.4687942],
    [0.63819672, -0.34865356, -1.2501413, -1.84555084, -1.98910518, -1.64565719, -0.89929493, 0.06724609, 1.01732293],
]


def test_boxes_have_the_reference_s_values():
    cells, place = (10, 10), 1 * 4 + 2  # of 4 x 4 windows, that at column 2, row 1
    for affine, expected in ((np.eye(2, 3), (71.1111, 35.5556, 284.4444, 248.8889)), (MOVED, (103.1111, 0, 295.1111))):
        affines = jnp.broadcast_to(jnp.asarray(affine, jnp.float32), (1, 16, 2, 3))
        found = 320 * np.asarray(at_once(lambda affines: boxes_of(affines, cells, 7), affines))[0, place]
        np.testing.assert_allclose(found[: len(expected)], expected, atol=2e-3)
    np.testing.assert_allclose(found[3], 248.8889, atol=2e-3)
    np.testing.assert_allclose(np.square(MOVED - np.eye(2, 3)).sum(), 0.23)


def test_a_window_that_stays_covers_its_cells():
    stay = jnp.broadcast_to(jnp.eye(2, 3), (1, 6, 2, 3))
    places = np.asarray(at_once(lambda stay: window_places(stay, (4, 5), 3), stay)).reshape(2, 3, 3, 3, 2)
    for down in range(2):
        for across in range(3):
            y, x = np.indices((3, 3))
            np.testing.assert_allclose(places[down, across, ..., 0], across + x, atol=1e-6)
            np.testing.assert_allclose(places[down, across, ..., 1], down + y, atol=1e-6)


def test_samples_are_bilinear_with_zeros_around_the_map():
    x = np.random.default_rng(0).random((1, 3, 4, 2)).astype(np.float32)
    places = np.array([[1, 2], [0.25, 1.5], [-0.5, 0], [3.25, 2], [-1.5, 1], [3, 2]], np.float32)
    found = np.asarray(at_once(sampled, x, places[None, None]))[0, 0]
    expected = [
        x[0, 2, 1],
        (0.75 * x[0, 1, 0] + 0.25 * x[0, 1, 1] + 0.75 * x[0, 2, 0] + 0.25 * x[0, 2, 1]) / 2,
        x[0, 0, 0] / 2,
        0.75 * x[0, 2, 3],
        [0, 0],
        x[0, 2, 3],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_sample_at_a_cell_has_the_slope_beyond_it():
    column = np.arange(6, dtype=np.float32) ** 2
    slope_of = jax.jit(jax.grad(lambda places, x: sampled(x, places).sum()))
    for x, slope in ((np.ones((6, 6), np.float32), 0), (np.broadcast_to(column[:, None], (6, 6)), 7)):
        found = slope_of(jnp.array([[[[2.0, 3.0]]]]), x[None, ..., None])
        np.testing.assert_allclose(found[0, 0, 0], [0, slope], atol=1e-6)


def test_the_likelihood_over_all_windows_has_the_reference_s_values():
    scores = jnp.asarray(np.concatenate([COARSE, FINE], axis=1).T)[None]
    logits = at_once(lambda scores: jax.nn.logsumexp(scores, axis=1), scores)
    np.testing.assert_allclose(at_once(jax.nn.softmax, logits)[0], [0.457985, 0.358656, 0.183359], atol=1e-5)
    np.testing.assert_allclose(at_once(cross_entropy, logits, jnp.array([2])), [1.6963109], rtol=1e-5)


def test_a_vote_adds_up_the_boxes_that_hold_a_place():
    boxes = jnp.array([[[0.0, 0.0, 0.5, 0.5], [0.25, 0.0, 1.0, 1.0]]])
    places = jnp.array([0.125, 0.375, 0.625, 0.875])
    found = at_once(voted, jnp.array([[0.75, 0.25]]), boxes, places, places)
    np.testing.assert_allclose(found[0, :2], [[0.75, 1, 0.25, 0.25]] * 2)
    np.testing.assert_allclose(found[0, 2:], [[0, 0.25, 0.25, 0.25]] * 2)


def test_parameters_are_as_many_as_in_the_released_program():
    def build():
        return CSTNHead(1024, 201, window=13, width=1024, dtype=jnp.float32, rngs=nnx.Rngs(0))

    head = nnx.eval_shape(build)
    assert [parameters(part) for part in (head.looked, head.moved, head.hidden)] == [
        177_210_368,
        1_038_336,
        177_210_368,
    ]


WAY = CSTN(window=3, width=6)


def tiny():
    return filled(lambda: Tiny(rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def model():
    return network(WAY, tiny())


@pytest.mark.slow
def test_one_device_equals_four_and_all_but_the_top_stage_learns():
    before, after, logged = assert_alike_on_four(WAY, tiny)
    assert logged[0].keys() == {"loss", "accuracy", "ce", "moved"} and logged[0]["moved"] == 0 < logged[1]["moved"]
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before.params, after.params)
    assert same["encoder"].pop("third")["bn"]["bias"]  # weight decay alone reaches the others
    assert sum(jax.tree.leaves(same)) <= 1  # `looked` learns after `moved`, which begins at 0


@pytest.mark.slow
def test_its_vote_localizes_and_gives_f_cam_its_seeds(model):
    given = batch(0)
    images, labels = jnp.asarray(given.images), jnp.asarray(given.labels)
    found = at_once(ClassifierMethod(CAMS["cam"](), "protocol", (), 1.0, WAY).localize, model, given)
    stages, logits = in_inference(model, images)
    np.testing.assert_array_equal(found.logits, logits)
    assert found.maps.shape == (8, 16, 16) and found.maps.min() == 0 and found.maps.max() == 1
    fcam = dataclasses.replace(STAGES["fcam"].method, cam=SeedMaps(WAY, STAGES["fcam"].method.cam))
    keys = jax.random.split(jax.random.key(0), 8)

    def source(model, stages):
        return fcam.seed_source(FCAM(model, decoder(model.encoder)), stages, given, keys)

    target = explain(model, images, stages, labels, keys)
    cells = np.asarray(at_once(fcam.cam, target))
    assert cells.shape == (8, 4, 4) and 0 < cells.max() <= 1 + 1e-6
    assert jax.eval_shape(source, model, stages).shape == (8, 16, 16)
    with pytest.raises(InputError, match=r"^CSTNHead sees other stages than the top one"):
        CAMS["gradcam"]()(target)


def test_settings_that_do_not_fit_are_named(model):
    with pytest.raises(InputError, match=r"^window is 4; it must be odd$"):
        CSTN(window=4)
    with pytest.raises(InputError, match=r"^classifier.cstn.window is 3, and the map has 2x4 cells; lower it"):
        model.head(jnp.zeros((1, 2, 4, 6)))
