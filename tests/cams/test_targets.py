"""What is explained: every target against NumPy, its gradient against finite differences, and what it refuses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import keys

from fcam_jax.cams.contract import Target
from fcam_jax.cams.spatial_targets import Detection, Segmentation
from fcam_jax.cams.targets import (
    Binary,
    Classes,
    ClassScore,
    Custom,
    MultiLabel,
    Probability,
    Regression,
    Similarity,
    Wanted,
    as_target,
)
from fcam_jax.errors import InputError

DRAWN = np.random.default_rng(0)
SCORES = DRAWN.normal(size=(2, 5)).astype(np.float32)
MAPS = DRAWN.normal(size=(2, 3, 4, 5)).astype(np.float32)
VOLUMES = DRAWN.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
EMBEDDING = DRAWN.normal(size=(2, 5)).astype(np.float32)
MASKS = MAPS[..., 0] > 0
BOXES = np.array([[[0, 0, 4, 4], [2, 2, 8, 8.0], [20, 20, 30, 30]]] * 2, np.float32)
OBJECTS = np.array([[1, 1, 8, 8.0], [50, 50, 60, 60]], np.float32)
FOUND = {"boxes": BOXES, "scores": SCORES[:, None, :] + np.arange(3)[:, None].astype(np.float32)}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


# Target, outputs, and what it makes of each of the two images.
CASES = {
    "labels": (np.array([3, 1]), SCORES, [SCORES[0, 3], SCORES[1, 1]]),
    "class score": (ClassScore([3, 1]), SCORES, [SCORES[0, 3], SCORES[1, 1]]),
    "one class for all": (ClassScore(2), SCORES, SCORES[:, 2]),
    "predicted": (None, SCORES, SCORES.max(axis=1)),
    "probability": (Probability([3, 1]), SCORES, [softmax(SCORES[0])[3], softmax(SCORES[1])[1]]),
    "classes": (Classes([[0, 1], [3, 4]]), SCORES, [SCORES[0, :2].sum(), SCORES[1, 3:].sum()]),
    "contrast": (Classes([0, 1], [1, -2]), SCORES, SCORES[:, 0] - 2 * SCORES[:, 1]),
    "yes": (Binary(), SCORES[:, :1], SCORES[:, 0]),
    "yes and no": (Binary([True, False]), SCORES[:, 0], [SCORES[0, 0], -SCORES[1, 0]]),
    "multi-label": (
        MultiLabel([1, 0, -1, -1, 1]),
        SCORES,
        np.log(sigmoid(SCORES[:, 0]) * sigmoid(-SCORES[:, 1]) * sigmoid(SCORES[:, 4])),
    ),
    "regression": (Regression(), SCORES[:, :1], SCORES[:, 0]),
    "regression of one of several": (Regression([2, 0]), SCORES, [SCORES[0, 2], SCORES[1, 0]]),
    "similarity": (Similarity(EMBEDDING), SCORES, [cosine(SCORES[0], EMBEDDING[0]), cosine(SCORES[1], EMBEDDING[1])]),
    "segmentation": (
        Segmentation([3, 1], MASKS),
        MAPS,
        [MAPS[0, MASKS[0], 3].sum(), MAPS[1, MASKS[1], 1].sum()],
    ),
    "segmentation as predicted": (Segmentation(2), MAPS, (MAPS[..., 2] * (MAPS.argmax(-1) == 2)).sum((1, 2))),
    "segmentation of volumes": (
        Segmentation(2, VOLUMES[..., 0] > 0),
        VOLUMES,
        (VOLUMES[..., 2] * (VOLUMES[..., 0] > 0)).sum((1, 2, 3)),
    ),
    # The second box has 36 of the 49 pixels of the object; nothing is near the second image's.
    "detection": (Detection(OBJECTS, 3), FOUND, [FOUND["scores"][0, 1, 3] + 36 / 49, 0]),
    "a function": (lambda z: z[0] ** 2, SCORES, SCORES[:, 0] ** 2),
    "a function of a tree": (lambda z: z["scores"].max(), FOUND, FOUND["scores"].max((1, 2))),
}


class Given:
    """A network whose output is moved by the one value of its map."""

    def __init__(self, outputs):
        self.outputs = outputs

    def normalize(self, images):
        return images

    def stages(self, inputs):
        return (inputs,)

    def score(self, features, stage):
        count = len(features) // 2
        return jax.tree.map(
            lambda leaf: (
                jnp.repeat(jnp.asarray(leaf), count, axis=0)
                + features.reshape(-1, *[1] * (np.ndim(leaf) - 1))
                * (1 + jnp.arange(leaf.shape[-1]) if leaf.ndim > 1 else 1)
            ),
            self.outputs,
        )


def target_of(wanted, outputs):
    inputs = jnp.zeros((2, 1, 1, 1))
    whole = as_target(wanted).of_batch(outputs).completed(jax.tree.map(jnp.asarray, outputs))
    return Target(Given(outputs), inputs, (inputs,), whole, keys(2), 0)


STEP = 1e-3


@functools.cache
def found(name):
    """What a case's target makes of its map, of two maps an image that are moved by a step, and its gradient."""
    wanted, outputs, _ = CASES[name]
    moved = np.array([-STEP, STEP, -STEP, STEP], np.float32).reshape(4, 1, 1, 1)

    @jax.jit
    def compute(outputs, moved):
        target = target_of(wanted, outputs)
        return target.score(target.features), target.score(moved), target.gradient()

    return compute(outputs, moved)


@pytest.mark.parametrize("name", CASES)
def test_a_target_is_its_formula(name):
    np.testing.assert_allclose(found(name)[0], CASES[name][2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_gradient_is_that_of_finite_differences_and_several_maps_an_image_are_side_by_side(name):
    _, scores, gradient = found(name)
    low, high = scores.reshape(2, 2).T
    np.testing.assert_allclose(gradient[:, 0, 0, 0], (high - low) / (2 * STEP), rtol=2e-2, atol=2e-3)


@pytest.mark.slow
def test_a_cosine_of_nothing_is_zero():
    target = target_of(Similarity(np.zeros(5, np.float32)), SCORES)
    assert (target.score(target.features) == 0).all() and np.isfinite(target.gradient()).all()


def test_a_mirrored_place_is_that_of_the_mirrored_image():
    np.testing.assert_array_equal(Segmentation([3, 1], MASKS).mirrored(4).masks, MASKS[:, :, ::-1])
    mirrored = Detection(jnp.asarray(OBJECTS), 3).mirrored(10).boxes
    np.testing.assert_array_equal(mirrored[0], [2, 1, 9, 8])
    assert ClassScore(3).mirrored(4) == ClassScore(3)


def test_a_class_of_ones_own_is_a_target():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Power(Wanted):
        exponent: object
        axes = {"exponent": 0}  # noqa: RUF012

        def __call__(self, output):
            return (output**self.exponent).sum()

    target = target_of(Power([1, 2]), SCORES)
    np.testing.assert_allclose(target.score(target.features), [SCORES[0].sum(), (SCORES[1] ** 2).sum()], rtol=1e-5)


def test_class_scores_alone_have_labels():
    np.testing.assert_array_equal(target_of([3, 1], SCORES).labels, [3, 1])
    with pytest.raises(InputError, match=r"^this CAM explains class scores alone, and the target is Probability$"):
        target_of(Probability([3, 1]), SCORES).labels  # noqa: B018


@pytest.mark.parametrize(
    ("wanted", "outputs", "message"),
    [
        ([0, 5], SCORES, "label 5 is outside of the network's 5 classes, 0 to 4"),
        (-1, SCORES, "label -1 is outside of the network's 5 classes, 0 to 4"),
        ([0.5, 1], SCORES, "ClassScore: labels are float.*; they must be integers"),
        (
            [0, 1, 2],
            SCORES,
            r"ClassScore: labels has the shape \(3,\) for 2 images; the first axis is the images', of 1",
        ),
        ("ab", SCORES, "targets: no array of numbers .*"),
        ([ClassScore(1), ClassScore(2)], SCORES, "targets is a list of targets; give one, .*"),
        (None, MAPS, r"ClassScore reads class scores \[b, k\], and the network gives \(2, 3, 4, 5\)"),
        (None, FOUND, r"ClassScore reads .*, and the network gives \{'boxes': \(2, 3, 4\), 'scores': \(2, 3, 5\)\}"),
        (Binary(), SCORES, r"Binary reads one score an image, \[b\] or \[b, 1\], and the network gives \(2, 5\)"),
        (Regression(), SCORES, r"Regression reads numbers .*, and the network gives \(2, 5\)"),
        (Regression(5), SCORES, "index 5 is outside of .*"),
        (MultiLabel([1, 0]), SCORES, "MultiLabel: present has 2 entries for 5 classes"),
        (Classes([0, 1], [1.0]), SCORES, r"Classes: weights are \(2, 1\) for labels \(2, 2\)"),
        (Similarity([1.0, 2]), SCORES, "Similarity: embedding has 2 values, and the output 5"),
        (Similarity([np.nan] * 5), SCORES, "Similarity: embedding hold NaN or infinities"),
        (Segmentation(2, np.ones((7, 7), bool)), MAPS, r"Segmentation: masks are \(2, 7, 7\), and the outputs .*"),
        (Segmentation(2), SCORES, r"Segmentation reads maps .*, and the network gives \(2, 5\)"),
        (Detection(OBJECTS, 3), SCORES, r"Detection reads boxes .*, and the network gives \(2, 5\)"),
        (Detection(OBJECTS[:, :3], 3), FOUND, r"Detection: boxes are \(2, 3\); a box is x0, y0, x1, y1"),
        (Custom(lambda z: z), SCORES, r"the function of the target gives \(5,\) for an image; it must be one number"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(wanted, outputs, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        as_target(wanted).of_batch(outputs)
