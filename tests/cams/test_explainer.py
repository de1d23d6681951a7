"""An explainer at work: batches, what is compiled, smoothing, targets, and what it says of images and maps."""

import contextlib
import dataclasses
import functools
import logging
import pickle
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import of_features
from flax import nnx
from flax_networks import CLASSES, CNN, linen_cnn, pictures

import fcam_jax as fc
from fcam_jax.cams import CAMS
from fcam_jax.cams.weighted import WeightedMap, principal_component

LABELS = np.array([0, 3, 4])


def test_a_class_with_a_model_is_an_explainer_and_without_the_component():
    explainer = fc.cams.GradCAMPP(CNN(), ["stem"], variant="released", batch_size=2)
    assert isinstance(explainer, fc.cams.Explainer)
    assert explainer.cam == fc.cams.GradCAMPP(variant="released") and explainer.batch_size == 2
    component = fc.cams.GradCAMPP(variant="released")
    assert type(component) is fc.cams.GradCAMPP
    assert pickle.loads(pickle.dumps(component)) == dataclasses.replace(component) == component


@pytest.mark.slow
def test_a_shape_is_compiled_once():
    two = functools.partial(pictures, 2)  # other tests explain the same network with more images
    gradcam = fc.cams.GradCAM(CNN(), ["stem"])
    gradcam(two())
    CNN.traced = 0
    gradcam(two(seed=1), targets=LABELS[:2])
    given = CNN.traced  # labels that are given are another program than predicted ones
    gradcam(two(seed=2), targets=LABELS[1:])
    gradcam(two(seed=3))
    fc.cams.GradCAM(CNN(1), ["stem"])(two())
    assert given > 0 and CNN.traced - given == 1  # the other network, for its shapes


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("name", ["scorecam", "layercam", "smooth_gradcampp"])
def test_batches_are_filled_up_and_counted_and_give_the_maps_of_all_at_once(monkeypatch, name):
    seen = []

    @contextlib.contextmanager
    def bar(*said):
        seen.append(said)
        yield types.SimpleNamespace(update=seen.append)

    monkeypatch.setattr("fcam_jax.cams.explainer.progress_bar", bar)
    labels = np.array([0, 1, 2, 3, 4])
    whole = CAMS[name](CNN(), ["blocks"])(pictures(5), labels)
    seen.clear()
    found = CAMS[name](CNN(), ["blocks"], batch_size=2)(pictures(5), labels)
    (title, total, unit), *counts = seen
    assert title.endswith(" of 5 image(s)") and (total, unit) == (5, "image") and counts == [2, 2, 1]
    np.testing.assert_allclose(found.maps, whole.maps, atol=1e-4)
    np.testing.assert_allclose(found.scores, whole.scores, atol=1e-5)
    np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.slow
def test_the_mean_over_mirror_images_and_brightnesses_is_that_of_a_loop():
    images, gradcam = pictures(), fc.cams.GradCAM(linen_cnn(), ["first"])
    smooth = fc.cams.GradCAM(linen_cnn(), ["first"], aug_smooth=True)(images)
    labels = gradcam(images).labels
    variants = []
    for factor in (0.9, 1.0, 1.1):
        variants.append(gradcam(factor * images, labels).maps)
        variants.append(gradcam(factor * images[:, :, ::-1], labels).maps[:, :, ::-1])
    np.testing.assert_allclose(smooth.maps, np.mean(variants, axis=0), atol=1e-4)
    np.testing.assert_array_equal(smooth.labels, labels)


class Segmenter(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=nnx.Rngs(0))
        self.last = nnx.Conv(6, CLASSES, (1, 1), rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.last(nnx.relu(self.conv(x)))


@pytest.mark.slow
def test_a_place_of_the_target_is_mirrored_with_the_image():
    images, masks = pictures(), np.arange(32) < 12
    masks = np.broadcast_to(masks, (3, 32, 32))
    smooth = fc.cams.HiResCAM(Segmenter(), ["conv"], aug_smooth=True)(images, fc.cams.Segmentation(2, masks))
    assert np.abs(smooth.maps - 0).max() <= 1 and smooth.labels.tolist() == [2, 2, 2]
    plain = fc.cams.HiResCAM(Segmenter(), ["conv"])
    mean = sum(plain(factor * images, fc.cams.Segmentation(2, masks)).maps for factor in (0.9, 1.0, 1.1))
    turned = fc.cams.Segmentation(2, masks[:, :, ::-1])
    mean += sum(plain(factor * images[:, :, ::-1], turned).maps[:, :, ::-1] for factor in (0.9, 1.0, 1.1))
    np.testing.assert_allclose(smooth.maps, mean / 6, atol=1e-4)


@pytest.mark.parametrize(("cells", "channels"), [((3, 4), 5), ((2, 2), 9)])
def test_the_principal_component_is_that_of_a_singular_value_decomposition(cells, channels):
    weighted = np.random.default_rng(0).normal(size=(2, *cells, channels)).astype(np.float32)
    found = jax.jit(principal_component)(weighted)
    for one, given in zip(found, weighted, strict=True):
        rows = given.reshape(-1, channels)
        rows = rows - rows.mean(axis=0)
        expected = rows @ np.linalg.svd(rows, full_matrices=False)[2][0]
        expected *= np.sign(expected @ rows.sum(axis=1))
        np.testing.assert_allclose(one.ravel(), expected, atol=1e-4)


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CAMS if issubclass(CAMS[name], WeightedMap)])
def test_smoothing_by_the_principal_component_takes_the_place_of_the_sum(name):
    few = {"samples": 2} if name in ("sscam", "iscam", "smooth_gradcampp") else {}
    plain = CAMS[name](CNN(), ["stem"], **few)(pictures(), LABELS).maps
    smooth = CAMS[name](CNN(), ["stem"], eigen_smooth=True, **few)(pictures(), LABELS).maps
    assert smooth.max(axis=(1, 2)).all() and np.abs(smooth - plain).max() > 0.05


@pytest.mark.slow
def test_weights_times_features_are_what_is_smoothed():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), jnp.float32)
    head = nnx.Linear(5, CLASSES, rngs=nnx.Rngs(0))
    target = of_features(lambda x: head(x.mean(axis=(1, 2))), features, [1, 2])
    weights = head.kernel[...].T[jnp.array([1, 2])] / 12
    expected = np.maximum(jax.jit(principal_component)(weights[:, None, None] * features), 0)
    found = jax.jit(lambda: fc.cams.GradCAM(eigen_smooth=True)(target))()
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Detector(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 4, (3, 3), strides=4, rngs=nnx.Rngs(0))
        self.scores = nnx.Linear(4, CLASSES, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(1))

    def __call__(self, x):
        maps = nnx.relu(self.conv(x))
        corners = jnp.stack(jnp.meshgrid(4.0 * jnp.arange(8), 4.0 * jnp.arange(8)), axis=-1).reshape(64, 2)
        boxes = jnp.broadcast_to(jnp.concatenate([corners, corners + 4], axis=-1), (len(x), 64, 4))
        return {"boxes": boxes, "scores": self.scores(maps).reshape(len(x), 64, -1)}


@pytest.mark.slow
def test_the_map_of_a_found_object_is_its_cell():
    maps = fc.cams.ElementwiseGradCAM(Detector(), ["conv"], convention="fcam")(
        pictures(), fc.cams.Detection([8, 16, 12, 20], 1)
    ).maps
    assert maps.shape == (3, 32, 32)
    for one in maps:
        assert one.max() > 0 and one[14:22, 6:14].sum() == pytest.approx(float(one.sum()))


def test_where_no_found_box_fits_the_layer_is_not_blamed(caplog):
    maps = fc.cams.GradCAM(Detector(), ["conv"])(pictures(), fc.cams.Detection([9, 17, 29, 31], 1)).maps
    assert not maps.any()
    assert "or no found box fits that of Detection" in caplog.text


@pytest.mark.sampled
@pytest.mark.parametrize(
    "targets",
    [None, 2, [0, 1, 2], fc.cams.Probability(), fc.cams.Classes([0, 1]), fc.cams.MultiLabel([1, 0, 0, 1, -1])],
    ids=lambda targets: type(targets).__name__,
)
def test_a_target_has_labels_or_none(targets):
    found = fc.cams.LayerCAM(CNN(), ["blocks"])(pictures(), targets)
    predicted = np.asarray(found.scores).argmax(axis=-1)
    expected = {"list": [0, 1, 2], "int": [2, 2, 2], "Classes": [[0, 1]] * 3, "MultiLabel": None}
    expected = expected.get(type(targets).__name__, predicted)
    assert found.labels is None if expected is None else np.array_equal(found.labels, expected)


@pytest.mark.slow
def test_images_with_one_channel_are_images():
    assert fc.cams.ScoreCAM(CNN(channels=1), ["blocks"])(pictures(shape=(32, 32, 1))).maps.shape == (3, 32, 32)


@pytest.mark.slow
def test_what_is_done_before_the_network_is_not_in_the_maps_size():
    half = fc.cams.GradCAM(CNN(), ["stem"], preprocess=lambda images: np.asarray(images)[:, ::2, ::2])
    found = half(pictures(shape=(64, 64, 3)))
    assert found.maps.shape == (3, 64, 64)
    np.testing.assert_allclose(
        found.scores, fc.cams.GradCAM(CNN(), ["stem"])(pictures(shape=(64, 64, 3))[:, ::2, ::2]).scores, atol=1e-5
    )


@pytest.mark.parametrize(
    ("images", "preprocess", "warned"),
    [
        (np.full((1, 32, 32, 3), 3, np.uint8), None, "the network is given values in [3, 3] as they are"),
        (100 + pictures(1), None, "as they are; if it was trained on others, give preprocess="),
        (100 + pictures(1), lambda images: images / 50 - 2, ""),
        (np.abs(pictures(1)), lambda images: images / 255, "have they been divided twice?"),
        (pictures(1), None, ""),
    ],
    ids=["uint8", "levels", "prepared", "twice", "normalised"],
)
def test_images_in_another_range_are_warned_of(caplog, images, preprocess, warned):
    with caplog.at_level(logging.WARNING, "fcam_jax.cams.doubts"):
        fc.cams.EigenCAM(CNN(), ["stem"], preprocess=preprocess)(images)
    assert (warned in caplog.text) if warned else caplog.text == ""


class Negative(nnx.Module):
    """Class scores fall with positive units, some of which are shifted so far that they are dead."""

    def __init__(self, shift):
        self.conv = nnx.Conv(3, CLASSES, (3, 3), kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        self.shift = shift

    def __call__(self, x):
        return -nnx.relu(self.conv(x) - self.shift).sum(axis=(1, 2))


@pytest.mark.parametrize(
    ("shift", "why"),
    [(100, "its units are dead"), (0, "its weighted sum is nowhere positive")],
    ids=["dead", "negative"],
)
def test_why_maps_are_constant_is_told(caplog, shift, why):
    with caplog.at_level(logging.WARNING, "fcam_jax.cams.doubts"):
        found = fc.cams.GradCAM(Negative(shift), ["conv"], batch_size=2)(np.ones((3, 32, 32, 3), np.float32), targets=0)
    assert not found.maps.any()
    assert f"3 of 3 maps are constant, first that of image 0: {why}" in caplog.text


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            pictures()[0],
            r"images have the shape \(32, 32, 3\); it must be .*: images\[None\], or \[..., None\] of grey .*",
        ),
        (pictures() * np.nan, "images hold NaN or infinities"),
        (pictures(shape=(32, 32, 4)), r"the network does not take images of the shape \(3, 32, 32, 4\): .*"),
        (pictures(shape=(3, 32, 32)), "the network does not take .*; images are .*, with the channels last"),
        ("x", "images: no array of numbers .*"),
    ],
)
def test_images_that_do_not_fit_are_told_in_one_line(images, message):
    with pytest.raises(fc.InputError, match=f"^{message}$"):
        fc.cams.GradCAM(CNN(), ["stem"])(images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"convention": "x"}, "convention is 'x'; known: .*"),
    ],
)
def test_settings_outside_their_range_are_told_in_one_line(settings, message):
    with pytest.raises(fc.InputError, match=f"^{message}$"):
        fc.cams.GradCAM(CNN(), ["stem"], **settings)


def test_a_compiled_function_is_no_place_for_it():
    explainer = fc.cams.GradCAM(CNN(), ["stem"])
    with pytest.raises(fc.InputError, match="call the explainer outside of it"):
        jax.jit(lambda images: explainer(images).maps)(pictures())


def test_draws_are_those_of_the_place_or_of_given_keys():
    noisy = fc.cams.SmoothGradCAMPP(CNN(), ["stem"], std=1.0)
    maps = noisy(pictures(), LABELS).maps
    np.testing.assert_array_equal(noisy(pictures(), LABELS).maps, maps)
    assert np.abs(noisy(pictures(), LABELS, keys=jax.random.split(jax.random.key(5), 3)).maps - maps).max() > 1e-3
