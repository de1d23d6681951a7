"""Finer-CAM and ShapleyCAM: closed forms before average pooling and a linear layer, and targets that are no class."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, of_features
from flax import nnx

from fcam_jax.cams import CAMS, Classes, ReST
from fcam_jax.errors import InputError
from fcam_jax.models.heads import WGAP

LABELS = np.array([0, 3, 4])
HEAD = WGAP(6, CLASSES, rngs=nnx.Rngs(0))
FEATURES = np.abs(np.random.default_rng(0).normal(size=(3, 5, 7, 6))).astype(np.float32)
KERNEL = np.asarray(HEAD.fc.kernel[...], np.float64)
SCORES = FEATURES.mean(axis=(1, 2)).astype(np.float64) @ KERNEL + np.asarray(HEAD.fc.bias[...], np.float64)
TARGET = of_features(HEAD, FEATURES, LABELS)


def relu(values):
    return np.maximum(values, 0)


@pytest.mark.slow
def test_finercam_weighs_by_the_difference_of_the_classes_weights():
    found = CAMS["finercam"](references=2, gamma=0.6)(TARGET)
    for one, features, scores, label in zip(np.asarray(found), FEATURES, SCORES, LABELS, strict=True):
        first, second = np.argsort(np.abs(scores - scores[label]))[1:3]
        share = 1 / (1 + np.exp(scores[second] - scores[first]))
        mixed = share * KERNEL[:, first] + (1 - share) * KERNEL[:, second]
        expected = relu(features @ (KERNEL[:, label] - 0.6 * mixed)) / 35
        np.testing.assert_allclose(one, expected, atol=1e-6)


@pytest.mark.slow
def test_without_a_comparison_it_is_its_base_and_more_references_than_classes_are_all():
    for base in ("gradcam", "layercam"):
        found = CAMS["finercam"](base=base, gamma=0.0)(TARGET)
        np.testing.assert_allclose(found, CAMS[base]()(TARGET), atol=1e-7)
    all_others, many = (CAMS["finercam"](references=count)(TARGET) for count in (CLASSES - 1, 50))
    np.testing.assert_array_equal(all_others, many)


@pytest.mark.slow
def test_smoothing_is_that_of_the_base():
    found = CAMS["finercam"](base="hirescam", gamma=0.0, eigen_smooth=True)(TARGET)
    np.testing.assert_allclose(found, CAMS["hirescam"](eigen_smooth=True)(TARGET), rtol=1e-5)


def test_shapleycam_is_gradcam_of_a_score_without_curvature():
    found = CAMS["shapleycam"](utility="score")(TARGET)
    np.testing.assert_allclose(found, CAMS["gradcam"]()(TARGET), atol=1e-7)


def test_shapleycam_s_curvature_is_that_of_the_softmax():
    found = CAMS["shapleycam"]()(TARGET)
    for one, features, scores, label in zip(np.asarray(found), FEATURES, SCORES, LABELS, strict=True):
        share = np.exp(scores) / np.exp(scores).sum()
        along = features.mean(axis=(0, 1)) @ KERNEL  # how the scores change along the features
        gradient = 2 * KERNEL[:, label] - KERNEL @ share
        curved = -KERNEL @ (share * (along - share @ along))
        np.testing.assert_allclose(one, relu(features @ (gradient - curved / 2)) / 35, atol=1e-6)


def test_rest_is_the_score_and_the_log_probability():
    found = jax.vmap(lambda wanted, output: wanted(output))(ReST(jnp.asarray(LABELS)), jnp.asarray(SCORES, jnp.float32))
    own = SCORES[np.arange(3), LABELS]
    np.testing.assert_allclose(found, 2 * own - np.log(np.exp(SCORES).sum(axis=1)), rtol=1e-5)


def test_another_target_is_explained_as_it_is_or_refused():
    wanted = Classes(jnp.array([[0, 1], [2, 3], [4, 0]]), jnp.array([[1.0, -1.0]] * 3))
    target = dataclasses.replace(TARGET, wanted=wanted)
    np.testing.assert_allclose(CAMS["shapleycam"]()(target), CAMS["gradcam"]()(target), atol=1e-7)
    with pytest.raises(InputError, match=r"^this CAM explains class scores alone, and the target is Classes$"):
        CAMS["finercam"]()(target)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("finercam", {"base": "cam"}, "base is 'cam'; known: elementwise, gradcam, gradcampp, hirescam, layercam,"),
        ("finercam", {"references": 0}, "references is 0; it must be at least 1"),
        ("finercam", {"gamma": -1.0}, "gamma is -1.0; it must be at least 0"),
        ("shapleycam", {"utility": "logit"}, "utility is 'logit'; known: rest, score"),
    ],
)
def test_settings_outside_their_range_are_named(name, settings, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        CAMS[name](**settings)
