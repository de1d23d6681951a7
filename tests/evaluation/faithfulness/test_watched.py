"""What is taken as a network, an image, a map or a label; one compilation; batches that change nothing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.evaluation import faithfulness
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import Small

IMAGES = np.random.default_rng(0).random((5, 8, 8, 3)).astype(np.float32)
MAPS = np.random.default_rng(1).random((5, 8, 8)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1, 0])


class Traced:
    """A network that counts how often it is traced."""

    def __init__(self):
        self.times = 0

    def __call__(self, images):
        self.times += 1
        return images.mean(axis=(1, 2))


class Net(nnx.Module):
    """With layers that differ in training."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.bn = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.fc = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, images):
        return self.fc(self.dropout(nnx.relu(self.bn(self.conv(images)))).mean(axis=(1, 2)))


def test_a_network_is_compiled_once_for_all_batches_and_calls():
    network = Traced()
    first = faithfulness.deletion(network, IMAGES, MAPS, LABELS, batch_size=2)
    assert network.times == 2  # its outputs' shape, and the curve
    np.testing.assert_array_equal(faithfulness.deletion(network, IMAGES, MAPS, LABELS, batch_size=2), first)
    assert network.times == 2


@pytest.mark.slow
@pytest.mark.parametrize("figure", [faithfulness.insertion, faithfulness.road], ids=lambda one: one.__name__)
def test_the_size_of_batches_changes_nothing(figure):
    whole = figure(Traced(), IMAGES, MAPS)
    np.testing.assert_allclose(figure(Traced(), IMAGES, MAPS, batch_size=2), whole, atol=1e-5)
    assert whole.shape == (5,) and whole.dtype == np.float32


def test_without_labels_the_predicted_class_is_watched():
    predicted = IMAGES.mean(axis=(1, 2)).argmax(axis=-1)
    own = faithfulness.deletion(Traced(), IMAGES, MAPS, predicted)
    np.testing.assert_array_equal(faithfulness.deletion(Traced(), IMAGES, MAPS, batch_size=2), own)


@pytest.mark.parametrize(
    ("watch", "by_hand"),
    [
        ("softmax", lambda outputs: np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)),
        ("sigmoid", lambda outputs: 1 / (1 + np.exp(-outputs))),
        ("output", lambda outputs: outputs),
        ("top1", lambda outputs: outputs.argmax(axis=-1)[:, None] == np.arange(3)),
    ],
)
def test_what_is_watched(watch, by_hand):
    expected = by_hand(IMAGES.mean(axis=(1, 2)))[np.arange(5), LABELS]
    found = faithfulness.deletion_curve(Traced(), IMAGES, MAPS, LABELS, steps=1, watch=watch)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_a_single_class_has_the_probability_of_its_sigmoid():
    found = faithfulness.deletion_curve(lambda images: images.sum(axis=(1, 2))[:, :1], IMAGES, MAPS, steps=1)
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-IMAGES.sum(axis=(1, 2))[:, 0])), rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], 0.5)


@pytest.mark.slow
def test_a_module_is_in_inference_mode_and_stays_as_it_is():
    network = Net(nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.state(network, nnx.Param, nnx.BatchStat))
    found = faithfulness.deletion_curve(network, IMAGES, MAPS, LABELS, steps=1)
    assert not network.bn.use_running_average and not network.dropout.deterministic
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(network, nnx.Param, nnx.BatchStat))
    network.eval()
    scores = jax.nn.softmax(network(jnp.asarray(IMAGES)))
    np.testing.assert_allclose(found[:, 0], np.asarray(scores)[np.arange(5), LABELS], rtol=1e-5)


def test_a_linen_module_and_its_variables():
    module = nn.Sequential([nn.Conv(4, (3, 3)), lambda features: features.mean(axis=(1, 2)), nn.Dense(3)])
    variables = module.init(jax.random.key(0), jnp.asarray(IMAGES))
    network = jax.tree_util.Partial(module.apply, variables)
    found = faithfulness.deletion_curve(network, IMAGES, MAPS, LABELS, steps=1)
    scores = np.asarray(jax.nn.softmax(module.apply(variables, IMAGES)))
    np.testing.assert_allclose(found[:, 0], scores[np.arange(5), LABELS], rtol=1e-5)


@pytest.mark.slow
def test_a_classifier_of_this_package_takes_raw_images():
    encoder = Small(final_stride=8, rngs=nnx.Rngs(0))
    classifier = Classifier(encoder, WGAP(encoder.channels[-1], 3, rngs=nnx.Rngs(1)))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    maps = np.ones((2, 16, 16))
    found = faithfulness.deletion_curve(classifier, images, maps, LABELS[:2], steps=1)
    scores = np.asarray(jax.nn.softmax(classifier(images, train=False)[1]))
    np.testing.assert_allclose(found[:, 0], scores[[0, 1], LABELS[:2]], rtol=1e-5)
    with pytest.raises(InputError, match=r"^images lie in .* multiply them by 255$"):
        faithfulness.deletion(classifier, images / 255, maps)


def with_nan(values):
    values = values.copy()
    values[3, 0, 0] = np.nan
    return values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[0]}, r"images have the shape \(8, 8, 3\); it must be .*; for one image give images\[None\]"),
        ({"images": with_nan(IMAGES)}, "images hold NaN or infinities"),
        ({"maps": with_nan(MAPS)}, "maps hold NaN or infinities"),
        ({"maps": MAPS[0]}, r"maps have the shape \(8, 8\); it must be .*; for one map give maps\[None\]"),
        ({"maps": MAPS[:, :4]}, "maps are 5 x 4 x 8, images 5 x 8 x 8: give a map for each image, resized to .*"),
        ({"labels": [0, 1, 2, 3, 0]}, r"labels\[3\] is 3; the network has 3 classes, 0 to 2"),
        ({"labels": [0, 1]}, r"labels are int64 of the shape \(2,\); they must be 5 integers"),
        ({"labels": [0.5] * 5}, r"labels are float64 of the shape \(5,\); they must be 5 integers"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number from 1"),
        ({"watch": "logit"}, "unknown watch 'logit'; known: output, sigmoid, softmax, top1"),
        ({"network": 3}, "network is 3; it must be a function of images that returns class scores"),
        ({"network": lambda x: (x, x)}, r"of one image the network returns tuple; it must return scores \(images.*"),
        ({"network": lambda x: x}, r"of one image the network returns the shape \(1, 8, 8, 3\); it must return .*"),
    ],
)
def test_mistakes_are_one_line(changes, message):
    given = {"network": Traced(), "images": IMAGES, "maps": MAPS, "labels": LABELS} | changes
    with pytest.raises(InputError, match=f"^{message}$"):
        faithfulness.insertion(**given)
