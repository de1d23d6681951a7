"""Terms of F-CAM's loss that reach beyond the map: the image again, and the classifier trained with the decoder."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from filled import filled
from flax import nnx
from test_methods import COUNT, FCAM_METHOD, SIDE, drawn, images
from tiny_stages import classifier, decoder

from fcam_jax.losses import (
    Classification,
    DenseCRF,
    Evidence,
    PixelAlignment,
    Reconstruction,
    Weighted,
    pixel_alignment,
)
from fcam_jax.methods.contract import image_keys
from fcam_jax.models.fcam import FCAM
from fcam_jax.training.placed import split_model
from fcam_jax.types import DATA_AXIS

KEY, STEP = jax.random.key(3), 5
# No landmarks: the sum is exact, so it is the same whatever their keys are.
EXACT = Weighted(DenseCRF(form="exact"), FCAM_METHOD.alignment.terms["crf"].weight)
ALIGNMENT = PixelAlignment(FCAM_METHOD.alignment.terms | {"crf": EXACT})


def with_terms(**terms):
    return dataclasses.replace(
        FCAM_METHOD, alignment=PixelAlignment(ALIGNMENT.terms | terms), classifier_factor=0.1 if terms else 1.0
    )


PLAIN = with_terms()
RECONSTRUCTION, CLASSIFICATION = Weighted(Reconstruction(), 0.3), Weighted(Classification(), 0.7, start=STEP)
JOINT = with_terms(reconstruction=RECONSTRUCTION, classification=CLASSIFICATION)
FROZEN = with_terms(reconstruction=RECONSTRUCTION)


@pytest.fixture(scope="module")
def network():
    def build():
        trained = classifier()
        return FCAM(trained, decoder(trained.encoder, reconstruction=True))

    return filled(build)


def gradients(network, method, loss):
    """From a step to the gradients in what the method trains of a loss of model and step, figures, and the other
    variables after the pass.
    """
    structure, params, rest = split_model(network, method)

    def of(params, step):
        model = nnx.merge(structure, params, rest, copy=True)
        value, figures = loss(model, step)
        return value, (figures | {"loss": value}, split_model(model, method)[2])

    one_device = jax.jit(jax.vmap(lambda step: jax.grad(of, has_aux=True)(params, step), axis_name=DATA_AXIS))
    return lambda step=STEP: jax.tree.map(lambda x: x[0], one_device(jnp.array([step])))


@pytest.fixture(scope="module")
def of_method(network):
    """Gradients, figures and variables of each method, whose step is compiled once."""
    batch = images(list(range(COUNT)))
    methods = {"plain": PLAIN, "joint": JOINT, "frozen": FROZEN}

    @functools.cache
    def of(name):
        method = methods[name]
        return gradients(network, method, lambda model, step: method.loss(model, batch, KEY, step))

    return lambda name, step=STEP: of(name)(step)


@pytest.mark.slow
def test_a_weight_of_0_leaves_the_classifier_without_gradient_and_as_it_is(network, of_method):
    found, (figures, rest) = of_method("plain")
    assert set(found) == {"decoder"}
    assert not {"classification", "accuracy", "reconstruction"} & figures.keys()
    before = split_model(network, PLAIN)[2]["classifier"]
    jax.tree.map(np.testing.assert_array_equal, rest["classifier"], before)


@pytest.mark.slow
def test_a_weight_trains_classifier_and_decoder_by_the_plain_sum(network, of_method):
    batch = images(list(range(COUNT)))
    seeds = jax.jit(lambda batch: PLAIN.view(network, batch, KEY).seeds)(
        batch
    )  # a constant here, so no gradient passes through them

    def plain_sum(model, step):
        pixels = batch.images.astype(jnp.float32)
        stages, scores = model.classifier(batch.images, train=True, rng=image_keys(KEY, batch))
        maps, image = model.decoder.with_image(stages, (SIDE, SIDE), train=True)
        value, figures = pixel_alignment(
            Evidence(
                logits=maps,
                maps=jax.nn.softmax(maps),
                seeds=seeds,
                images=batch.images,
                raw=batch.images,
                keys=image_keys(KEY, batch),
                step=step,
            ),
            ALIGNMENT,
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(scores, batch.labels).mean()
        error = ((image - pixels / 255) ** 2).mean()
        return value + 0.7 * entropy + 0.3 * error, {
            **figures,
            "classification": entropy,
            "reconstruction": error,
            "accuracy": 100.0 * (scores.argmax(-1) == batch.labels).mean(),
        }

    expected, (figures_expected, rest_expected) = gradients(network, JOINT, plain_sum)()
    found, (figures, rest) = of_method("joint")
    assert set(found) == {"classifier", "decoder"}
    of_maps = {"foreground_10", "foreground_50", "foreground_90", "constant_maps"}
    assert figures.keys() - of_maps - {"dead_seeds"} == figures_expected.keys()
    for name, value in figures_expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=1e-5, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), rest, rest_expected)


@pytest.mark.slow
def test_the_encoder_learns_from_both_and_the_classes_from_their_cross_entropy_alone(of_method):
    with_entropy, without = of_method("joint")[0], of_method("joint", STEP - 1)[0]  # where it does not count yet
    for part in (with_entropy, without):
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(part["classifier"]["encoder"]["first"]))
    changed = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), with_entropy["classifier"], without["classifier"])
    assert min(jax.tree.leaves(changed["encoder"]["first"]["conv"])) > 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(without["classifier"]["head"]))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(with_entropy["classifier"]["head"]))


@pytest.mark.slow
def test_the_image_is_reconstructed_on_a_frozen_classifier_too(of_method):
    plain, (figures_plain, _) = of_method("plain")
    found, (figures, _) = of_method("frozen")
    assert set(found) == {"decoder"}
    np.testing.assert_allclose(figures["loss"] - figures_plain["loss"], 0.3 * figures["reconstruction"], rtol=1e-4)
    heads = [np.abs(part["decoder"]["reconstruction"]["kernel"]).max() for part in (plain, found)]
    assert heads[0] == 0 < heads[1]
    np.testing.assert_allclose(found["decoder"]["head"]["kernel"], plain["decoder"]["head"]["kernel"], rtol=1e-4)


def test_the_classifier_learns_at_a_rate_of_its_own():
    assert JOINT.learning_rate_factor(("classifier", "head", "fc", "kernel")) == 0.1
    assert JOINT.learning_rate_factor(("decoder", "head", "kernel")) == 1.0


@pytest.mark.slow
def test_a_view_has_the_seeds_that_the_loss_draws(network):
    class Still(FCAM):
        def __call__(self, images, *, train):
            return super().__call__(images, train=False)

    still = Still(network.classifier, network.decoder)
    positions = [4, 1]
    view, localized = jax.jit(lambda batch: (PLAIN.view(still, batch, KEY), PLAIN.localize(still, batch).maps))(
        images(positions)
    )
    np.testing.assert_array_equal(view.seeds, drawn(still, positions)["seeds"])
    np.testing.assert_allclose(view.foreground, localized, atol=1e-6)
    without = with_terms(crf=Weighted(DenseCRF(), 0.0))
    assert jax.eval_shape(lambda batch: without.view(still, batch, KEY).crf_gradient, images(positions)) is None
