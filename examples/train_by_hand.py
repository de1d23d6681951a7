"""F-CAM by hand: both stages in one file on the functions of `fcam_jax`, with plain JAX, Flax and optax around them.

    python examples/train_by_hand.py --out=by_hand.png

Stage 1 trains a classifier on image labels alone; its CAM finds the small mark that tells the classes apart. Stage 2
freezes it and trains a decoder on its features from a few seeds of the CAM, a dense CRF and a size term (WACV 2022,
Eq. 3); its map covers the whole object. Data are drawn from a seed.

A minute and a half of processor time. MaxBoxAcc of the 200 test images: CAM 65.5, F-CAM 77.5; PxAP: 59.8 and 67.5.
Checkpoints, resumption, several devices, choice of the best epoch: that is what the program, `fcam train`, adds.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fcam_jax as fc
from fcam_jax.data.synthetic import Synthetic

CLASSES, SIDE, MARGIN, BATCH = 8, 64, 8, 32


def main() -> None:
    """Train both stages, compare CAM and F-CAM on test images, and draw the first of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help="of stage 1; stage 2 takes half as many")
    parser.add_argument("--images", type=int, default=2000, help="number of training images")
    parser.add_argument("--tests", type=int, default=200, help="number of test images")
    parser.add_argument("--out", default="by_hand.png", help="picture to write")
    args = parser.parse_args()

    images, labels = training_data(args.images)
    classifier = fc.create_model("small", num_classes=CLASSES)
    classifier = train(classifier, classification_loss, nnx.Param, images, labels, args.epochs)

    encoder = classifier.encoder
    decoder = fc.models.Decoder(encoder.channels, encoder.strides, widths=(32, 16, 16, 8), rngs=nnx.Rngs(1))
    model = fc.models.FCAM(classifier, decoder)
    of_decoder = nnx.All(nnx.Param, nnx.PathContains("decoder"))
    model = train(model, alignment_loss, of_decoder, images, labels, max(1, args.epochs // 2))

    tests = [Synthetic(test=args.tests, size=SIDE).open("test")[i] for i in range(args.tests)]
    pixels, classes = np.stack([test.image for test in tests]), np.array([test.label for test in tests])
    cams = fc.cams.compute("cam", classifier, pixels, classes)
    _, scores, logits = nnx.jit(lambda model, images: model(images, train=False))(model, pixels)
    maps = jax.nn.softmax(logits)[..., 1]
    truth: dict[str, Any] = {"boxes": [test.boxes for test in tests], "masks": [test.mask for test in tests]}
    print(f"classes right: {100 * np.mean(scores.argmax(1) == classes):.1f} %")
    found = {}
    for name, of_name in {"CAM": cams, "F-CAM": maps}.items():
        found[name] = fc.evaluate(of_name, **truth)
        print(name, "  ".join(f"{key} {value:.1f}" for key, value in found[name].metrics.items()))

    shown = [image for image in pixels[:4] for _ in range(2)]
    drawn = [one for pair in zip(cams[:4], maps[:4], strict=True) for one in pair]
    fc.show(shown, drawn, mask=[test.mask for test in tests[:4] for _ in range(2)], title=["CAM", "F-CAM"] * 4).save(
        args.out
    )
    print(f"written: {args.out}")


def training_data(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, a little larger than what the network sees of them, and labels; boxes and masks are not for training."""
    source = Synthetic(train=count, size=SIDE + MARGIN).open("train")
    return np.stack([source[i].image for i in range(count)]), source.labels()


def classification_loss(model: Any, images: Any, labels: Any, key: Any, epoch: Any) -> tuple[Any, Any]:
    """Stage 1: cross-entropy of the class scores."""
    _, scores = model(images, train=True)
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean(), {}


def alignment_loss(model: Any, images: Any, labels: Any, key: Any, epoch: Any) -> tuple[Any, Any]:
    """Stage 2, Eq. 3: seeds of the CAM, the dense CRF, and the size of both regions by a log-barrier."""
    stages, _, logits = model(images, train=True)  # the classifier in it is in inference mode and gets no gradient
    cams = model.classifier.activation(stages[-1], labels)  # of 8 x 8 cells
    seed_key, crf_key = jax.random.split(key)
    placed = {"size": (SIDE, SIDE), "grid": model.classifier.grid(-1, (SIDE, SIDE))}
    seeds = fc.seeds.draw_seeds(cams, seed_key, **placed, background_fraction=0.3, dilation=0.047)
    maps = jax.nn.softmax(logits)
    terms = {
        "seeds": fc.losses.partial_cross_entropy(logits, seeds),
        "crf": fc.losses.dense_crf(maps, images, crf_key).mean(),
        "size": fc.losses.log_barrier(-maps.sum(axis=(1, 2)), t=1.01**epoch).mean(),
    }
    return 0.2 * terms["seeds"] + 3e-9 * terms["crf"] + 0.2 * terms["size"], terms


def train(model: Any, loss: Any, trained: Any, images: np.ndarray, labels: np.ndarray, epochs: int) -> Any:
    """The model after some epochs of SGD on random crops and flips; `trained` says which of its variables change."""
    structure, params, rest = nnx.split(model, trained, ...)
    steps = len(images) // min(BATCH, len(images))
    rate = optax.piecewise_constant_schedule(0.05, {int(0.7 * epochs) * steps: 0.1})
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(rate, momentum=0.9, nesterov=True))
    state = params, rest, optimizer.init(params)

    @jax.jit
    def step(state: Any, images: Any, labels: Any, key: Any, epoch: Any) -> tuple[Any, Any]:
        params, rest, momentum = state

        def loss_of(params: Any) -> tuple[Any, Any]:
            local = nnx.merge(structure, params, rest, copy=True)
            value, terms = loss(local, images, labels, key, epoch)
            return value, ({"loss": value, **terms}, nnx.split(local, trained, ...)[2])  # with BatchNorm's new means

        gradients, (terms, rest) = jax.grad(loss_of, has_aux=True)(params)
        updates, momentum = optimizer.update(gradients, momentum, params)
        return (optax.apply_updates(params, updates), rest, momentum), terms

    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        began, order, sums = time.perf_counter(), rng.permutation(len(images)), []
        for number, places in enumerate(np.array_split(order, steps)):
            places = places[: len(images) // steps]  # batches of one size, so that the step is compiled once
            key = jax.random.fold_in(jax.random.key(0), epoch * steps + number)
            state, terms = step(state, crops(images[places], rng), labels[places], key, jnp.float32(epoch))
            sums.append(terms)
        means = {name: np.mean([terms[name] for terms in sums]) for name in sums[0]}
        told = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        print(f"{type(model).__name__} epoch {epoch + 1} of {epochs}: {told}  ({time.perf_counter() - began:.1f} s)")
    params, rest, _ = state
    return nnx.merge(structure, params, rest)


def crops(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random window of each image, every other one mirrored."""
    places = rng.integers(0, MARGIN + 1, (len(images), 2))
    cut = [image[y : y + SIDE, x : x + SIDE] for image, (y, x) in zip(images, places, strict=True)]
    return np.stack([one[:, ::-1] if rng.random() < 0.5 else one for one in cut])


if __name__ == "__main__":
    main()
