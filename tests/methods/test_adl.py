"""ADL: the two maps, which of them is drawn, and that only training sees them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from one_device import CLASSES, InInference, batch, classifier, on_one_device

from fcam_jax.errors import InputError
from fcam_jax.methods.adl import ADL, attention_dropout, attention_places
from fcam_jax.methods.classifier import plain
from fcam_jax.models.encoder import unchanged
from fcam_jax.models.heads import WGAP

DROP, WEIGH = jnp.asarray(True), jnp.asarray(False)


def test_both_maps_are_those_of_the_released_program(shared):
    golden = np.load(shared / "golden" / "wsol_methods.npz")
    x, dropped, weighed = (
        golden[name].transpose(0, 2, 3, 1) for name in ("adl_in", "adl_drop_out", "adl_importance_out")
    )
    np.testing.assert_array_equal(attention_dropout(jnp.asarray(x), DROP, 0.9), dropped)
    np.testing.assert_allclose(attention_dropout(jnp.asarray(x), WEIGH, 0.9), weighed, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_what_an_image_attends_to_most_is_dropped_by_its_own_maximum(threshold):
    x = (
        np.random.default_rng(0).normal(0.3, 1, (3, 5, 6, 4)).astype(np.float32)
        * np.array([1, 10, 0.1])[:, None, None, None]
    )
    x = x.astype(np.float32)
    expected = x.copy()
    for image in expected:
        attention = image.mean(-1)
        image[attention >= threshold * attention.max()] = 0
    found = np.asarray(attention_dropout(jnp.asarray(x), DROP, threshold))
    np.testing.assert_array_equal(found, expected)
    assert (found == 0).all(-1).any((1, 2)).all()


@pytest.mark.slow
def test_the_gradient_passes_through_the_importance_map():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 4)), jnp.float32)
    check_grads(
        lambda x: attention_dropout(jnp.asarray(x), WEIGH, 0.9), (x,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2
    )
    _, pull = jax.vjp(lambda x: attention_dropout(x, DROP, 0.9), x)
    np.testing.assert_array_equal(pull(jnp.ones_like(x))[0], attention_dropout(x, DROP, 0.9) != 0)


class Recording(InInference):
    """Shows three places a map of ones and gives what comes back in place of class scores."""

    def __call__(self, images, *, train, rng=None, at=unchanged):
        places = ("stem", *attention_places(self.encoder))
        ones = jnp.ones((len(images), 2, 2, 1))
        return (), jnp.stack([at(place, ones)[:, 0, 0, 0] for place in places], axis=1)


@pytest.mark.slow
def test_one_draw_a_place_and_step_for_all_images_by_the_rate():
    tiny = classifier(wgap)
    model = Recording(tiny.encoder, tiny.head)

    def shown(keys):
        return jax.vmap(lambda key: ADL(rate=0.75).loss(model, batch(), key, jnp.asarray(0))[1])(keys)

    shown = np.asarray(on_one_device(shown, jax.random.split(jax.random.key(0), 600)))
    assert (shown == shown[:, :1]).all()  # all images alike
    shown = shown[:, 0]
    assert (shown[:, 0] == 1).all()  # no place of attention
    dropped = shown[:, 1:] == 0
    np.testing.assert_allclose(shown[:, 1:][~dropped], 1 / (1 + np.exp(-1)), rtol=1e-6)
    assert (np.abs(dropped.mean(0) - 0.75) < 0.06).all()
    assert (np.abs(np.corrcoef(dropped.T)[np.triu_indices(3, 1)]) < 0.15).all()  # each place draws for itself


def wgap(encoder, rngs):
    return WGAP(encoder.channels[-1], CLASSES, rngs=rngs)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_loss_is_that_of_the_changed_maps(rate):
    tiny = classifier(wgap)
    model, given, key = InInference(tiny.encoder, tiny.head), batch(), jax.random.key(0)
    stages = model.stages(model.normalize(given.images))
    x = stages[0]
    for index in (1, 2, 3):
        x = attention_dropout(model.encoder.stage(index, x, train=False), jnp.asarray(rate == 1), 0.9)
    changed, logits, _ = on_one_device(ADL(rate=rate).loss, model, given, key, jnp.asarray(0))
    np.testing.assert_allclose(logits, model.head(x), rtol=1e-5, atol=1e-6)
    unchanged, as_localized, _ = on_one_device(plain, model, given, key)
    np.testing.assert_allclose(as_localized, model(given.images, train=False)[1], rtol=1e-5, atol=1e-6)
    assert abs(changed - unchanged) > 1e-4


@pytest.mark.parametrize("settings", [{"rate": -0.1}, {"threshold": 1.5}])
def test_a_setting_outside_its_range_is_named(settings):
    with pytest.raises(InputError, match=f"^{next(iter(settings))} is"):
        ADL(**settings)
