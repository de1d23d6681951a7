"""SPOL: the product of three stages, both losses, pseudo masks, and the map that F-CAM learns from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once, in_inference
from filled import filled
from flax import nnx
from one_device import InInference, on_one_device, parameters
from tiny_stages import CLASSES, STAGES, Tiny, batch, decoder

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import explain
from fcam_jax.cams.score_maps import resize_bilinear
from fcam_jax.data.source import Record
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ClassifierMethod, SeedMaps
from fcam_jax.methods.few_shot import pixel_cross_entropy
from fcam_jax.methods.spol import SPOL, FusionHead, distilled, fusion_head
from fcam_jax.methods.spol_segmenter import SPOLSegmenter
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.resnet import Small
from fcam_jax.seeds.gaussians import gaussian, moments, pseudo_mask
from fcam_jax.types import DATA_AXIS, OBJECT, UNDECIDED


@pytest.fixture(scope="module")
def model():
    encoder = filled(lambda: Small((4, 6, 8, 10), rngs=nnx.Rngs(0)))
    return Classifier(encoder, fusion_head(encoder, CLASSES, rectified=True, rngs=nnx.Rngs(1)))


@pytest.mark.parametrize(("outputs", "count"), [(200, 1_407_944), (1, 1_382_273)])
def test_parameters_are_as_many_as_in_the_released_program(outputs, count):
    build = lambda: FusionHead((512, 1024, 2048), outputs, rectified=True, rngs=nnx.Rngs(0))  # noqa: E731
    assert parameters(nnx.eval_shape(build)) == count


@pytest.mark.slow
def test_the_head_is_that_of_plain_products():
    head = FusionHead((4, 5, 6), 2, rectified=True, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    given = [rng.random((2, *shape)).astype(np.float32) for shape in ((5, 5, 4), (5, 5, 5), (3, 3, 6))]

    def linear(layer, x):
        return x @ np.asarray(layer.kernel[0, 0], np.float64) + np.asarray(layer.bias[...])

    def normed(layer, x):
        return np.maximum(linear(layer.conv, x) / np.sqrt(1 + 1e-5), 0)

    common = np.prod([normed(gate, x.mean((1, 2))) for gate, x in zip(head.gates, given, strict=True)], axis=0)
    found = []
    for x, opened, reduced in zip(given, head.opened, head.reduced, strict=True):
        gate = 1 / (1 + np.exp(-linear(opened, common)))
        found.append(normed(reduced, x * gate[:, None, None]))
    axis = np.maximum(1 - np.abs(np.linspace(0, 2, 5)[:, None] - np.arange(3)), 0)
    found[2] = np.einsum("ih,jw,bhwc->bijc", axis, axis, found[2])
    expected = np.maximum(linear(head.top, np.prod(found, axis=0)), 0)
    np.testing.assert_allclose(at_once(head, *given), expected.mean((1, 2)), rtol=1e-4, atol=1e-5)
    maps = at_once(lambda head, given: head.of_labels(given, jnp.array([1, 0])), head, given)
    np.testing.assert_allclose(maps, expected[[0, 1], ..., [1, 0]], rtol=1e-4, atol=1e-5)
    assert expected.max() > 0


def test_the_classifier_s_loss_has_the_reference_s_value():
    # Reference values computed with numpy alone.
    top = [[0.19966683, 1.68294197, 1.89260018, 0.6699763, -1.05967228]]
    top += [[-1.98738201, -1.41108065, 0.23309841, 1.70087324, 1.88146111]]
    product = [[0.95885108, 1.86407817, 1.89260018, 1.03100274, -0.31549139]]
    product += [[-1.51360499, -1.99984652, -1.54552898, -0.36432501, 0.9882267]]
    labels = jnp.array([1, 4])
    top, product = jnp.asarray(top), jnp.asarray(product)
    np.testing.assert_allclose(at_once(distilled, top, product, labels)[0], 1.0847301, rtol=1e-6)
    loss, of_top = at_once(distilled, top, top, labels)
    shares = np.asarray(jax.nn.softmax(top), np.float64)
    np.testing.assert_allclose(2 * loss - of_top, -(shares * np.log(shares)).sum(1).mean(), rtol=1e-5)
    learns = at_once(jax.grad(lambda x: distilled(x, product, labels)[0] - distilled(x, x * 0, labels)[0]), top)
    np.testing.assert_allclose(learns, 0, atol=1e-7)  # the product teaches the top stage nothing


def blob(side=64, angle=0.5):
    """A tilted bell, whose ring has an outer and an inner contour."""
    y, x = np.indices((side, side)) - np.array([28, 35]).reshape(2, 1, 1)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.exp(-(u**2) / 200 - v**2 / 60).astype(np.float32)


def test_a_gaussian_has_a_tenth_of_the_moments_of_the_ring():
    weights = np.where((blob() >= 0.1) & (blob() <= 0.5), blob(), 0)
    found = moments(weights)
    y, x = np.indices(weights.shape)
    spread = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=weights.ravel(), ddof=0) / 10
    np.testing.assert_allclose(found, [35, 28, spread[0, 0], spread[1, 1], spread[0, 1]], rtol=1e-2)
    distance = np.stack([x - found[0], y - found[1]], -1)
    expected = np.exp(-np.einsum("hwi,ij,hwj->hw", distance, np.linalg.inv(spread), distance) / 2)
    np.testing.assert_allclose(gaussian(found, weights.shape), expected, atol=1e-6)
    assert gaussian((3.0, 2.0, 1.0, 1.0, 0.0), (5, 5))[2, 3] == 1


def test_a_pseudo_mask_has_the_map_s_foreground_and_the_core_of_its_ring():
    mask, undecided = pseudo_mask(blob())
    np.testing.assert_array_equal(mask, blob() > 0.25)
    np.testing.assert_array_equal(undecided, (blob() <= 0.25) & (blob() >= 0.01))
    ring = np.where(blob() > 0.3, 0, blob())  # nothing high in the middle
    mask, _ = pseudo_mask(ring)
    assert mask[28, 35] and ring[28, 35] == 0
    mask, undecided = pseudo_mask(np.zeros((8, 8)))
    assert not mask.any() and not undecided.any()
    with pytest.raises(InputError, match=r"^score_map of shape \(2, 2\)"):
        pseudo_mask(np.full((2, 2), 1.5))


def test_masks_and_their_loss_have_the_reference_s_values(shared):
    golden = np.load(shared / "golden" / "wsol_systems.npz")
    score_map = golden["spol_in_pred"]  # whose ring has one contour
    found = moments(np.where((score_map >= 0.1) & (score_map <= 0.5), score_map, 0))
    np.testing.assert_allclose(found, golden["spol_moments"], rtol=1e-6)
    np.testing.assert_allclose(gaussian(found, score_map.shape), golden["spol_gaussian"], atol=1e-6)
    mask, undecided = pseudo_mask(score_map)
    np.testing.assert_array_equal(mask, golden["spol_mask"])
    np.testing.assert_array_equal(~undecided, golden["spol_weight"])
    objects = np.select([mask, undecided], [OBJECT, UNDECIDED], 0).astype(np.uint8)[None, None]
    logits = jnp.asarray(golden["spol_in_logit"], jnp.float32)[None, None]
    loss, _ = jax.vmap(pixel_cross_entropy, axis_name=DATA_AXIS)(logits, jnp.asarray(objects))
    np.testing.assert_allclose(loss[0] * (~undecided).mean(), golden["spol_bce"], rtol=1e-6)


class Records:
    """One image."""

    num_classes, class_names, truth, left_out, fingerprint = 3, None, ("boxes",), (), "one"

    def __len__(self):
        return 1

    def labels(self):
        return np.array([2])

    def __getitem__(self, index):
        return Record(np.zeros((6, 6, 3), np.uint8), 2, "a/b.png", boxes=np.array([[0, 0, 1, 1]]))


def test_training_images_have_the_masks_of_the_maps_in_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    records = SPOLSegmenter(maps=str(tmp_path)).training_records({"train": Records()}, 0)
    assert (len(records), records.labels().tolist(), records.truth) == (1, [2], ("mask",))
    with pytest.raises(InputError, match=r"b.png.npy: cannot be read"):
        records[0]
    np.save(tmp_path / "a" / "b.png.npy", 0.5 * blob(256))
    mask, undecided = pseudo_mask(blob(256) / (1 + 2e-6))
    np.testing.assert_array_equal(records[0].mask, mask)
    np.testing.assert_array_equal(records[0].ignore, undecided)
    assert records[0].boxes is None and records[0].label == 2
    for wrong in (-blob(16), np.zeros((0, 5)), np.full((2, 2), "x"), np.ones((2, 2), complex), np.ones(4)):
        np.save(tmp_path / "a" / "b.png.npy", wrong)
        with pytest.raises(InputError, match=r"b.png.npy must hold a map"):
            records[0]
    with pytest.raises(InputError, match=r"^classifier.spol_segmenter.maps is ''; give the folder"):
        SPOLSegmenter().training_records({"train": Records()}, 0)


class Given(FusionHead):
    """A head whose map in training is known."""

    logits = 2 * np.sin(0.05 * np.arange(8 * 64) + 0.1).reshape(8, 8, 8, 1)

    def fused(self, maps, *, train):
        return super().fused(maps, train=False)

    def dropped(self, features, keys):
        return jnp.asarray(self.logits, jnp.float32)


@pytest.mark.slow
def test_the_segmenter_s_loss_is_a_mean_over_all_pixels():
    encoder = filled(lambda: Tiny(rngs=nnx.Rngs(0)))
    tiny = InInference(encoder, Given(encoder.channels, 1, rectified=False, rngs=nnx.Rngs(1)))
    rng = np.random.default_rng(0)
    objects = rng.choice(np.array([0, OBJECT, UNDECIDED], np.uint8), (8, 16, 16))
    given = dataclasses.replace(batch(0), objects=jnp.asarray(objects))
    loss, scores, figures = on_one_device(SPOLSegmenter().loss, tiny, given, jax.random.key(0), jnp.asarray(0))
    maps = jnp.asarray(Given.logits[..., 0], jnp.float32)
    large = np.asarray(resize_bilinear(maps, (16, 16), tiny.grid(0, (16, 16))), np.float64)
    expected = np.log1p(np.exp(large)) - (objects == OBJECT) * large
    np.testing.assert_allclose(loss, (expected * (objects != UNDECIDED)).mean(), rtol=1e-4)
    np.testing.assert_allclose(figures["decided"], 100 * (objects != UNDECIDED).mean(), rtol=1e-5)
    assert scores is None


@pytest.mark.slow
def test_its_map_localizes_and_gives_f_cam_its_seeds(model):
    given = batch(0)
    images, labels = jnp.asarray(given.images), jnp.asarray(given.labels)
    method = ClassifierMethod(CAMS["cam"](), "protocol", (), 1.0, SPOL())
    found = at_once(method.localize, model, given)
    stages, logits = in_inference(model, images)
    maps = at_once(lambda model, stages: model.head.of_labels(model.read(stages), labels), model, stages)
    assert maps.shape == (8, 4, 4) and found.maps.shape == (8, 16, 16)
    np.testing.assert_array_equal(found.logits, logits)
    assert found.maps.min() >= 0 and 0.5 < found.maps.max() <= 1
    fcam = dataclasses.replace(STAGES["fcam"].method, cam=SeedMaps(SPOL(), STAGES["fcam"].method.cam))
    keys = jax.random.split(jax.random.key(0), 8)
    target = explain(model, images, stages, labels, keys)
    np.testing.assert_array_equal(at_once(fcam.cam, target), maps)

    def source(model, stages):
        return fcam.seed_source(FCAM(model, decoder(model.encoder)), stages, given, keys)

    assert jax.eval_shape(source, model, stages).shape == (8, 16, 16)
    with pytest.raises(InputError, match=r"^FusionHead sees other stages than the top one"):
        CAMS["gradcam"]()(target)


def test_settings_outside_their_range_are_named():
    with pytest.raises(InputError, match=r"^foreground is 2.0; it must lie in \[0, 1\]$"):
        SPOLSegmenter(foreground=2.0)
