"""The call for any classifier: what it returns, what it compiles, and what it says of mistakes."""

import contextlib
import functools
import pathlib
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import classifier, images, of_images
from flax import nnx

from fcam_jax import cams
from fcam_jax.cams.fusion import fuse
from fcam_jax.cams.score_maps import score_map
from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import Small

LABELS = np.array([0, 3, 4])


@pytest.fixture(scope="module")
def network():
    return classifier()


class Counting(Classifier):
    """Counts how often it is traced."""

    traced = 0

    def normalize(self, images):
        Counting.traced += 1
        return super().normalize(images)


def counting(seed):
    encoder = Small((4, 6, 8, 10), rngs=nnx.Rngs(seed))
    return Counting(encoder, WGAP(10, 5, rngs=nnx.Rngs(seed)))


class Plain:
    """A network that is no pytree."""

    def __init__(self, network):
        self.normalize, self.score, self.grid = network.normalize, network.score, network.grid
        self.stages = functools.partial(jax.jit(type(network).stages), network)


@pytest.mark.slow
def test_maps_are_those_of_the_cam_at_the_images_size(network):
    maps = cams.compute("layercam", network, np.asarray(images()), LABELS.tolist())
    target = of_images(network, images(), LABELS)
    expected = score_map(jax.jit(cams.LayerCAM())(target), (24, 32), "protocol", target.grid)
    assert maps.dtype == jnp.float32 and maps.min() == 0 and maps.max() == 1
    np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.slow
def test_several_stages_are_fused_and_the_convention_can_be_chosen(network):
    target = of_images(network, images(), LABELS)
    targets = [target.at(stage) for stage in (2, 3)]
    grids = [target.grid for target in targets]
    gradcampp = jax.jit(cams.GradCAMPP(variant="released"))
    fused = fuse([gradcampp(target) for target in targets], grids)
    stages = ("stage3", "stage4")
    maps = cams.compute("gradcampp", network, images(), LABELS, stages=stages, convention="fcam", variant="released")
    np.testing.assert_allclose(maps, score_map(fused, (24, 32), "fcam", grids[0]), atol=1e-5)
    alone = cams.compute("gradcam", network, images(), LABELS, stages="stage3")
    np.testing.assert_array_equal(alone, cams.compute("gradcam", network, images(), LABELS, stages=["stage3"]))


def test_an_instance_with_its_settings_is_a_cam_too(network):
    found = cams.compute(cams.GradCAMPP(variant="released"), network, images(), LABELS)
    np.testing.assert_array_equal(found, cams.compute("gradcampp", network, images(), LABELS, variant="released"))


@pytest.mark.slow
def test_a_list_of_images_and_one_image_are_images(network):
    expected = cams.compute("gradcam", network, images(), LABELS)
    np.testing.assert_array_equal(cams.compute("gradcam", network, list(np.asarray(images())), LABELS), expected)
    one = cams.compute("gradcam", network, images()[0], LABELS[0])
    np.testing.assert_allclose(one, expected[0], atol=1e-5)
    found, label = cams.compute("gradcam", network, images()[0])
    assert found.shape == one.shape and label.shape == ()


def test_without_labels_the_predicted_ones_are_explained_and_returned(network):
    maps, labels = cams.compute("gradcam", network, images())
    scores = jax.jit(lambda network, images: network(images, train=False)[1])(network, images())
    np.testing.assert_array_equal(labels, scores.argmax(axis=-1))
    np.testing.assert_array_equal(maps, cams.compute("gradcam", network, images(), labels))


@pytest.mark.slow
def test_fcam_is_explained_by_its_classifier(network):
    decoder = Decoder(network.encoder.channels, network.encoder.strides, (6, 6, 4, 4), rngs=nnx.Rngs(2))
    found = cams.compute("cam", FCAM(network, decoder), images(), LABELS)
    np.testing.assert_array_equal(found, cams.compute("cam", network, images(), LABELS))


@pytest.mark.slow
def test_nothing_is_compiled_twice_and_weights_are_no_constants():
    Counting.traced = 0
    first = cams.compute("gradcam", counting(0), images(), LABELS)
    second = cams.compute("gradcam", counting(1), images(), LABELS)
    assert Counting.traced == 1
    assert np.abs(first - second).max() > 0.1
    cams.compute("gradcam", counting(0), images(2), LABELS[:2])
    assert Counting.traced == 2


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "passes"),
    [("iscam", {"samples": 2}, 20), ("scorecam", {}, 10), ("ablationcam", {}, 10), ("sscam", {"samples": 2}, 20)],
)
def test_what_takes_a_pass_for_each_feature_map_is_counted_outside_of_the_program(
    network, monkeypatch, name, settings, passes
):
    seen = []

    @contextlib.contextmanager
    def bar(*said):
        seen[:] = [said]
        yield types.SimpleNamespace(update=seen.append)

    monkeypatch.setattr("fcam_jax.cams.running.progress_bar", bar)
    found = cams.compute(name, network, images(), LABELS, chunk=6, **settings)
    (title, total, unit), *counts = seen
    assert title.endswith(" of 3 image(s)") and (total, unit) == (10, "feature map") and counts == [2] * 5
    cam = cams.CAMS[name](chunk=6, **settings)
    target = of_images(network, images(), LABELS)
    at_once = score_map(jax.jit(cam)(target), (24, 32), "protocol", target.grid)
    np.testing.assert_allclose(found, at_once, atol=1e-4)
    assert cam.passes(10) == passes
    several = cams.compute(name, network, images(), LABELS, stages=("stage3", "stage4"), **settings)
    assert seen[0][1] == 18 and several.shape == found.shape


@pytest.mark.slow
def test_any_object_with_the_methods_is_a_network_and_a_jitted_function_may_call(network):
    expected = cams.compute("gradcam", network, images(), LABELS)
    np.testing.assert_allclose(cams.compute("gradcam", Plain(network), images(), LABELS), expected, atol=1e-4)
    inside = jax.jit(functools.partial(cams.compute, "gradcam", Plain(network)))(images(), LABELS)
    np.testing.assert_allclose(inside, expected, atol=1e-4)


@pytest.mark.slow
def test_noise_is_that_of_the_place_in_the_batch_or_of_given_keys(network):
    noisy = functools.partial(cams.compute, "smooth_gradcampp", network, stages="stage3", std=1.0)
    maps = noisy(images(), LABELS)
    np.testing.assert_allclose(noisy(images(2), LABELS[:2]), maps[:2], atol=1e-5)
    others = noisy(images(), LABELS, keys=jax.random.split(jax.random.key(5), 3))
    assert np.abs(others - maps).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cam": "gradcam+"}, r"unknown CAM 'gradcam\+'; known: ablationcam, .*"),
        ({"samples": 2}, "unknown setting of the CAM 'gradcam': 'samples'; known: eigen_smooth"),
        ({"stages": "stage9"}, "stages hold 'stage9'; known: stage1, stage2, stage3, stage4"),
        ({"convention": "mine"}, "unknown score map convention 'mine'; known: fcam, percentile, protocol"),
        ({"images": np.zeros((24, 32))}, r"images have the shape \(24, 32\); it must be .*"),
        ({"images": np.zeros((0, 24, 32, 3))}, r"images have the shape \(0, 24, 32, 3\); none of it may be 0"),
        ({"images": np.zeros((24, 32, 3))}, r"labels are int32 of the shape \(3,\); they must be 1 integers"),
        ({"images": np.full((3, 24, 32, 3), 0.5)}, r"images lie in \[0.5, 0.5\]; give RGB in .*: multiply .* by 255"),
        ({"cam": cams.SSCAM(), "std": 1.0}, r"std: give the settings to the CAM itself, SSCAM\(\.\.\.\)"),
        ({"images": np.zeros((3, 3, 24, 32))}, r"images have the shape \(3, 3, 24, 32\); it must be .*"),
        ({"labels": [0, 1, 5]}, "label 5 is outside of the network's 5 classes, 0 to 4"),
        ({"labels": [0, -1, 4]}, "label -1 is outside of the network's 5 classes, 0 to 4"),
        ({"labels": [0, 1]}, r"labels are int32 of the shape \(2,\); they must be 3 integers"),
        ({"labels": [0.0, 1.0, 2.0]}, "labels are float32 of .*; they must be 3 integers"),
        ({"model": nnx.Linear(2, 2, rngs=nnx.Rngs(0))}, "Linear is no classifier for CAMs: it needs .*"),
    ],
)
def test_a_mistake_is_told_in_one_line(network, changes, message):
    arguments = {"cam": "gradcam", "model": network, "images": images(), "labels": LABELS}
    with pytest.raises(InputError, match=f"^{message}$"):
        cams.compute(**arguments | changes)


def test_a_network_without_a_map_of_its_own_is_told_what_is_the_same(network):
    with pytest.raises(InputError, match=r"^the CAM 'cam' needs a method activation.* of Plain; 'hirescam' .*$"):
        cams.compute("cam", Plain(network), images(), LABELS)


EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "cams.md"


@pytest.mark.slow
def test_the_examples_of_the_documentation_run():
    code = re.findall(r"```python\n(.*?)```", EXAMPLES.read_text(), re.DOTALL)
    found = []
    for one in code:
        scope = {}
        exec(one, scope)
        found.append(scope)
    maps_of_cams = [scope for scope in found if "maps" in scope]
    assert (len(code), len(maps_of_cams)) == (3, 2)
    for scope in maps_of_cams:
        maps, labels = scope["maps"], scope["labels"]
        assert maps.shape == scope["images"].shape[:3] and labels.shape == maps.shape[:1]
        assert maps.min() == 0 and maps.max() == 1
