"""Every CAM against its formula, written out with NumPy, OpenCV and loops over images, channels and samples."""

import functools

import cv2
import jax
import numpy as np
import pytest
from explained import CLASSES, FEW, OF_FEATURES, classifier, images, of_images

from fcam_jax.cams import CAMS

STAGE = 2  # of four; the closed forms are about the top one
VARIED = {"kpcacam": "kernel", "shapleycam": "utility"}  # what is given with the references below
STD = {"smooth_gradcampp": 0.3, "sscam": 2.0}


@pytest.fixture(scope="module")
def network():
    found = classifier()
    found.encoder.strided = ()  # maps on an even grid, as OpenCV enlarges them
    return found


def relu(values):
    return np.maximum(values, 0)


@jax.jit
def rest(network, features, label):
    """Score of a class from the map of the stage of one image."""
    top = network.encoder.stage(3, features[None], train=False)
    return network.head(top)[0, label]


@functools.partial(jax.jit, static_argnums=3)
def rest_of(network, features, label, utility):
    """Gradient and second derivatives of the score of a class, with its log-probability or without."""

    def score(features):
        logits = network.head(network.encoder.stage(3, features[None], train=False))[0]
        return logits[label] + (jax.nn.log_softmax(logits)[label] if utility == "rest" else 0)

    return jax.grad(score)(features), jax.hessian(score)(features)


@jax.jit
def scores(network, images):
    return network(images, train=False)[1]


@jax.jit
def stages(network, inputs):
    return network.encoder(inputs[None], train=False)


def whole(network, inputs, label):
    """Score of a class of one normalised image."""
    return float(rest(network, stages(network, inputs.astype(np.float32))[STAGE][0], label))


gradient_of = jax.jit(jax.grad(rest, argnums=1))


def maps_and_gradient(network, inputs, label):
    features = stages(network, inputs)[STAGE][0]
    gradient = gradient_of(network, features, label)
    return np.asarray(features, np.float64), np.asarray(gradient, np.float64)


def from_gradient(formula):
    """A CAM that needs features and gradient of the clean image alone."""

    def reference(network, inputs, label, key):
        return formula(*maps_and_gradient(network, inputs, label))

    return reference


def gradcampp(A, g):
    alpha = np.where(g == 0, 0, g**2 / np.where(g == 0, 1, 2 * g**2 + g**3 * A.sum(axis=(0, 1))))
    return relu(((alpha * relu(g)).sum(axis=(0, 1)) * A).sum(axis=-1))


def gradcampp_released(A, g):
    return relu(((relu(g) ** 3).sum(axis=(0, 1)) * A).sum(axis=-1))


def xgradcam(A, g):
    mass = A.sum(axis=(0, 1))
    weights = np.divide((g * A).sum(axis=(0, 1)), mass, out=np.zeros_like(mass), where=mass != 0)
    return relu((weights * A).sum(axis=-1))


def smooth(released):
    def reference(network, inputs, label, key):
        A, _ = maps_and_gradient(network, inputs, label)
        noise = np.asarray(jax.random.normal(key, (4, *inputs.shape)))
        noisy = [maps_and_gradient(network, inputs + STD["smooth_gradcampp"] * one, label) for one in noise]
        g = np.stack([gradient for _, gradient in noisy])
        second, third = (g**2).mean(axis=0), (g**3).mean(axis=0)
        total = (third * A).sum(axis=(0, 1)) if released else third * A.sum(axis=(0, 1))
        alpha = np.where(second == 0, 0, second / np.where(second == 0, 1, 2 * second + total))
        if released:
            last, gradient = noisy[-1]
            return relu(((alpha * relu(gradient)).sum(axis=(0, 1)) * last).sum(axis=-1))
        return relu(((alpha * relu(g.mean(axis=0))).sum(axis=(0, 1)) * A).sum(axis=-1))

    return reference


def shapleycam(utility):
    def reference(network, inputs, label, key):
        A, _ = maps_and_gradient(network, inputs, label)
        g, H = (np.asarray(found, np.float64) for found in rest_of(network, A.astype(np.float32), label, utility))
        weights = (g - np.tensordot(H, A, axes=3) / 2).mean(axis=(0, 1))
        return relu(A @ weights)

    return reference


def finercam(network, inputs, label, key):
    A, g = maps_and_gradient(network, inputs, label)
    scores = np.array([float(rest(network, A.astype(np.float32), k)) for k in range(CLASSES)])
    others = sorted((k for k in range(CLASSES) if k != label), key=lambda k: abs(scores[k] - scores[label]))[:3]
    odds = np.exp(scores[others])
    for other, share in zip(others, odds / odds.sum(), strict=True):
        g = g - share * maps_and_gradient(network, inputs, other)[1]
    return relu(A @ g.mean(axis=(0, 1)))


def masks_of(A, size):
    """Enlarged feature maps in [0, 1]."""
    for channel in np.moveaxis(A, -1, 0):
        enlarged = cv2.resize(channel, size[::-1], interpolation=cv2.INTER_LINEAR)
        span = np.ptp(channel)
        yield np.zeros(size) if span == 0 else (enlarged - enlarged.min()) / np.ptp(enlarged)


def masked(alterations):
    """A CAM of the score family: the score is the mean over alterations of the mask."""

    def reference(network, inputs, label, key):
        A, _ = maps_and_gradient(network, inputs, label)
        scores = []
        for channel, mask in enumerate(masks_of(A, inputs.shape[:2])):
            altered = list(alterations(mask, key, channel))
            scores.append(np.mean([whole(network, inputs * one[..., None], label) for one in altered]))
        weights = np.exp(scores - np.max(scores))
        return relu(A @ (weights / weights.sum()))

    return reference


def noisy(mask, key, channel):
    for sample in range(3):
        own = jax.random.fold_in(jax.random.fold_in(key, sample), channel)
        yield mask + STD["sscam"] * np.asarray(jax.random.normal(own, mask.shape))


def ablationcam(network, inputs, label, key):
    A, _ = maps_and_gradient(network, inputs, label)
    score, weights = float(rest(network, A.astype(np.float32), label)), []
    for channel in range(A.shape[-1]):
        ablated = A.copy()
        ablated[..., channel] = 0
        weights.append((score - float(rest(network, ablated.astype(np.float32), label))) / abs(score))
    return relu(A @ np.array(weights))


def component(products, largest=False):
    """The first principal component; of its two signs that with a positive sum, or a positive value of largest size."""
    found = products @ np.linalg.svd(products.reshape(-1, products.shape[-1]))[2][0]
    positive = found.max() > -found.min() if largest else found.sum() > 0
    return found if positive else -found


KERNELS = {
    "sigmoid": lambda x, y: np.tanh(x @ y / len(x) + 1),
    "rbf": lambda x, y: np.exp(-((x - y) ** 2).sum() / len(x)),
    "polynomial": lambda x, y: (x @ y / len(x) + 1) ** 3,
}


def kernel_component(name):
    def formula(A, g):
        rows = A.reshape(-1, A.shape[-1])
        rows = rows - rows.mean(axis=0)
        kernel = np.array([[KERNELS[name](x, y) for y in rows] for x in rows])
        centring = np.eye(len(rows)) - 1 / len(rows)
        values, vectors = np.linalg.eigh(centring @ kernel @ centring)
        found = (np.sqrt(values[-1]) * vectors[:, -1]).reshape(A.shape[:2])
        return found if found.max() > -found.min() else -found

    return formula


def fem(A, g):
    found = np.zeros(A.shape[:2])
    for channel in np.moveaxis(A, -1, 0):
        for place in np.ndindex(found.shape):
            if channel[place] > channel.mean() + 2 * channel.std():
                found[place] += channel.mean()
    return found


def sem(A, g):
    """Of a stage of 16 and more positions, of which every 13th is a peak."""
    cam = (g * A).sum(axis=-1)
    peaks = np.argsort(-cam.ravel())[: max(round(cam.size * 60 / 784), 1)]
    lengths = np.linalg.norm(A, axis=-1, keepdims=True)
    rows = (A / np.maximum(lengths, 1e-8)).reshape(cam.size, -1)
    return np.stack([rows @ rows[peak] for peak in peaks]).max(axis=0).reshape(cam.shape)


def randomcam(network, inputs, label, key):
    A, _ = maps_and_gradient(network, inputs, label)
    return A @ np.asarray(jax.random.uniform(key, A.shape[-1:], minval=-1))


REFERENCES = {
    ("gradcam", ""): from_gradient(lambda A, g: relu((g.mean(axis=(0, 1)) * A).sum(axis=-1))),
    ("gradcampp", "paper"): from_gradient(gradcampp),
    ("gradcampp", "released"): from_gradient(gradcampp_released),
    ("smooth_gradcampp", "paper"): smooth(released=False),
    ("smooth_gradcampp", "released"): smooth(released=True),
    ("xgradcam", ""): from_gradient(xgradcam),
    ("layercam", ""): from_gradient(lambda A, g: relu((relu(g) * A).sum(axis=-1))),
    ("hirescam", ""): from_gradient(lambda A, g: (g * A).sum(axis=-1)),
    ("elementwise", ""): from_gradient(lambda A, g: relu(g * A).sum(axis=-1)),
    **{("shapleycam", utility): shapleycam(utility) for utility in ("rest", "score")},
    ("finercam", ""): finercam,
    ("sem", ""): from_gradient(sem),
    ("scorecam", ""): masked(lambda mask, key, channel: [mask]),
    ("sscam", ""): masked(noisy),
    ("iscam", ""): masked(lambda mask, key, channel: [mask * i / 3 for i in (1, 2, 3)]),
    ("ablationcam", ""): ablationcam,
    ("eigencam", ""): from_gradient(lambda A, g: component(A)),
    ("eigengradcam", ""): from_gradient(lambda A, g: component(g * A)),
    ("segeigencam", ""): from_gradient(lambda A, g: component(np.abs(g) * A, largest=True)),
    **{("kpcacam", name): from_gradient(kernel_component(name)) for name in KERNELS},
    ("fem", ""): from_gradient(fem),
    ("randomcam", ""): randomcam,
}


def test_every_cam_has_a_reference():
    assert {name for name, _ in REFERENCES} | {"cam", "ccam"} == set(OF_FEATURES)  # these have closed forms alone


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), REFERENCES)
def test_maps_are_those_of_the_formula(network, name, variant):
    labels = np.asarray(scores(network, images(2)).argmax(axis=-1))
    target = of_images(network, images(2), labels, STAGE)
    settings = FEW.get(name, {}) | ({VARIED.get(name, "variant"): variant} if variant else {})
    found = np.asarray(jax.jit(lambda: CAMS[name](**settings)(target))())
    for one, inputs, label, key in zip(found, np.asarray(target.inputs), labels, target.keys, strict=True):
        expected = REFERENCES[name, variant](network, inputs, int(label), key)
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(one, expected, atol=2e-4 * np.abs(expected).max())
