"""GC-Net: masks of shapes, the loss, and the classifier beside the network, which does not learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from at_once import at_once, in_inference
from filled import filled
from flax import nnx
from one_device import parameters
from tiny_stages import CLASSES, STAGES, Tiny, batch, decoder

from fcam_jax.cams import CAMS
from fcam_jax.cams.contract import explain
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ClassifierMethod, SeedMaps
from fcam_jax.methods.gcnet import GCNet, ShapeHead, losses, mask_of
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, save_weights

SHARPNESS = jnp.asarray(10.0)
PLACES = [jnp.linspace(0, 1, 9)] * 2
# Reference values computed with numpy alone.
ROWS = [
    [0.010948, 0.02327, 0.080115, 0.573281, 0.210536, 0.037512, 0.014968, 0.008017, 0.00499],
    [0.010867, 0.027137, 0.573281, 0.951614, 0.955943, 0.863516, 0.037512, 0.012868, 0.006824],
    [0.009056, 0.020653, 0.210536, 0.955943, 0.968274, 0.955943, 0.210536, 0.020653, 0.009056],
]


def masks(*shapes, side=9):
    places = jnp.linspace(0, 1, side)
    return np.asarray(at_once(lambda shapes: mask_of(shapes, SHARPNESS, places, places), jnp.asarray(shapes)))


def test_an_ellipse_has_the_reference_s_values():
    np.testing.assert_allclose(masks((0.5, 0.5, 0.6, 0.4, 0.75))[0, 2:5], ROWS, atol=2e-6)


def test_a_mask_is_half_on_the_edge_and_turns_with_its_shape():
    found = masks((0.5, 0.5, 0.5, 0.25, 0.5), (0.5, 0.5, 0.25, 0.5, 1.0))
    np.testing.assert_allclose(found[0, 4, [2, 4, 6]], [0.5, 0.968274, 0.5], atol=1e-5)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    assert found[0, 0, 0] < 0.01
    rectangle = masks((0.25, 0.75, 0.5, 0.25))[0]
    np.testing.assert_allclose(rectangle[6, [0, 2, 4]], [0.5, 0.968274, 0.5], atol=1e-5)
    np.testing.assert_allclose(rectangle[[5, 7], 4], 0.5, atol=1e-5)  # a corner is on the edge
    assert np.isfinite(masks((0.5, 0.5, 0.0, 0.0, 0.5))).all()


@pytest.mark.parametrize("shape", [(0.5, 0.45, 0.6, 0.3, 0.7), (0.4, 0.5, 0.2, 0.5, 0.35)])
def test_the_box_around_an_ellipse_is_that_of_the_closed_form(shape):
    x, y, width, height, turned = shape
    rows, columns = np.nonzero(masks(shape, side=501)[0] > 0.5)
    angle = (turned - 0.5) * np.pi
    across = np.hypot(width / 2 * np.cos(angle), height / 2 * np.sin(angle))
    down = np.hypot(width / 2 * np.sin(angle), height / 2 * np.cos(angle))
    found = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) / 500
    np.testing.assert_allclose(found, [x - across, y - down, x + across, y + down], atol=0.004)


def test_the_terms_have_the_reference_s_values():
    inside = [[0.88656062, 2.67362208, 2.83890026, 1.28213964], [-1.05234968, -2.74849781, -2.77744405, -1.12162999]]
    outside = [[0.59600799, 2.15206827, 2.95634919, 2.72789228], [1.54650412, -0.17512243, -1.83557367, -2.85480622]]
    shapes = jnp.array([[0.5, 0.5, 0.4, 0.5, 0.5], [0.5, 0.5, 0.6, 0.3, 0.5]])
    found = at_once(losses, jnp.asarray(inside), jnp.asarray(outside), jnp.array([0, 2]), shapes)
    np.testing.assert_allclose(sum(found), 3.3405234, rtol=1e-6)
    of_none = at_once(losses, jnp.zeros((1, 200)), jnp.zeros((1, 200)), jnp.array([0]), shapes[:1])
    np.testing.assert_allclose(of_none[1], 0, atol=1e-6)


def made(way=GCNet()):  # noqa: B008
    encoder, of_layers = filled(lambda: Tiny(rngs=nnx.Rngs(0))), {"dtype": jnp.float32, "rngs": nnx.Rngs(1)}
    return way.extend(Classifier(encoder, way.head(encoder, CLASSES, **of_layers)), **of_layers)


@pytest.fixture(scope="module")
def model():
    return made()


def test_what_does_not_learn_is_the_classifier_alone(model):
    trained = nnx.to_flat_state(nnx.split(model, GCNet.trainable, ...)[1])
    assert {path[0] for path, _ in trained} == {"encoder", "head", "sharpness"}
    assert parameters(nnx.eval_shape(lambda: ShapeHead(2048, 200, shape="ellipse", rngs=nnx.Rngs(0)))) == 10_245


@pytest.mark.slow
def test_gradients_pass_through_the_classifier_to_every_number_of_the_shape(model):
    given = batch(0)
    images = jnp.asarray(given.images)
    found = at_once(lambda model: model.head(*model.read(model.stages(model.normalize(images)))), model)
    shown, top = model.judge.normalize(images), len(model.judge.encoder.channels) - 1

    def loss_of(change):
        shapes = jax.nn.sigmoid(found + change)
        mask = mask_of(shapes, SHARPNESS, *[jnp.linspace(0, 1, 16)] * 2)[..., None]
        scores = [model.judge.score(model.judge.stages(shown * m)[-1], top) for m in (mask, 1 - mask)]
        inside, outside, area = losses(*scores, jnp.asarray(given.labels), shapes)
        return inside + outside + 2.5 * area

    value_and_gradient = jax.jit(jax.value_and_grad(loss_of))
    gradient = np.asarray(value_and_gradient(jnp.zeros(5))[1])
    assert np.isfinite(gradient).all() and (gradient != 0).all()
    slope = [float(value_and_gradient(jnp.zeros(5).at[2].set(step))[0]) for step in (0.01, -0.01)]
    np.testing.assert_allclose(gradient[2], (slope[0] - slope[1]) / 0.02, rtol=0.05)


def test_a_side_that_is_too_small_can_grow_again():
    mask = lambda width: mask_of(jnp.array([[0.5, 0.5, 0.3, 0.3, 0.5]]).at[0, 2].set(width), SHARPNESS, *PLACES).sum()  # noqa: E731
    (small, slope), (larger, _) = map(jax.jit(jax.value_and_grad(mask)), (0.01, 0.02))
    assert small == larger and slope > 0


@pytest.mark.slow
def test_the_mask_localizes_and_gives_f_cam_its_seeds(model):
    given = batch(0)
    images, labels = jnp.asarray(given.images), jnp.asarray(given.labels)

    def localized(model):
        found = ClassifierMethod(CAMS["cam"](), "protocol", (), 1.0, GCNet()).localize(model, given)
        return found, model.judge(images, train=False)[1]

    found, of_judge = at_once(localized, model)
    stages, logits = in_inference(model, images)
    np.testing.assert_array_equal(logits, of_judge)
    np.testing.assert_array_equal(found.logits, logits)
    assert found.maps.shape == (8, 16, 16) and found.maps.min() >= 0 and 0.9 < found.maps.max() <= 1
    fcam = dataclasses.replace(STAGES["fcam"].method, cam=SeedMaps(GCNet(), STAGES["fcam"].method.cam))
    keys = jax.random.split(jax.random.key(0), 8)
    target = explain(model, images, stages, labels, keys)
    cells = np.asarray(at_once(fcam.cam, target))
    assert cells.shape == (8, 4, 4) and cells[:, 1:3, 1:3].min() > cells[:, 0, 0].max()

    def source(model, stages):
        return fcam.seed_source(FCAM(model, decoder(model.encoder)), stages, given, keys)

    assert jax.eval_shape(source, model, stages).shape == (8, 16, 16)
    with pytest.raises(InputError, match=r"^the stages of GC-Net make a shape"):
        CAMS["gradcam"]()(target)


def test_the_classifier_s_weights_are_those_of_a_file(model, tmp_path):
    with pytest.raises(InputError, match=r"^classifier.gcnet.classifier is empty; give"):
        GCNet().load(model)
    encoder = Tiny(rngs=nnx.Rngs(5))  # other weights than those of `made`
    network, other = (Classifier(encoder, WGAP(8, classes, rngs=nnx.Rngs(6))) for classes in (CLASSES, CLASSES + 1))
    for one, name in ((network, "fit"), (other, "unfit")):
        save_weights(export_weights(one), tmp_path / f"{name}.safetensors")
    fresh = made()
    GCNet(classifier=str(tmp_path / "fit.safetensors")).load(fresh)
    np.testing.assert_array_equal(fresh.judge.head.fc.kernel[...], network.head.fc.kernel[...])
    np.testing.assert_array_equal(fresh.judge.encoder.first.conv.kernel[...], encoder.first.conv.kernel[...])
    assert (np.asarray(fresh.encoder.first.conv.kernel[...]) != np.asarray(encoder.first.conv.kernel[...])).any()
    with pytest.raises(InputError, match=r"give classifier.gcnet.classifier of the run's encoder and classes"):
        GCNet(classifier=str(tmp_path / "unfit.safetensors")).load(fresh)


def test_an_unknown_shape_is_named():
    with pytest.raises(InputError, match=r"^shape is 'star'; known: ellipse, rectangle$"):
        GCNet(shape="star")
