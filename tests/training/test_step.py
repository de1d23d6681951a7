import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import assert_same, mesh_of, run, step_of
from tiny_stages import batch, fcam, placed

from fcam_jax.data.augment import augmenter
from fcam_jax.errors import InputError
from fcam_jax.losses import PixelAlignment
from fcam_jax.models.batch_norm import freeze_norms
from fcam_jax.training.placed import Placed, data_mesh, replicate, spread
from fcam_jax.training.step import initial_state, jitted_step, make_train_step
from fcam_jax.types import DATA_AXIS

pytestmark = pytest.mark.slow


def test_one_device_equals_four(stage):
    assert_same(run(stage, 1), run(stage, 4))


@pytest.mark.long
def test_one_device_equals_four_on_tokens(token_stage):
    test_one_device_equals_four(token_stage)


@pytest.mark.parametrize("stage", ["classifier"], indirect=True)
def test_one_device_equals_four_where_norms_are_frozen(stage):
    freeze_norms(stage.model.encoder)
    stage.name = "classifier with frozen norms"
    test_one_device_equals_four(stage)


def test_a_step_changes_every_parameter_and_lowers_the_loss_of_its_batch(stage):
    mesh = data_mesh(8)
    state = initial_state(placed(stage, mesh), stage.optimizer)
    before = jax.device_get(state.params)
    step, losses = step_of(stage, 4), []
    for _ in range(12):  # of the same draws
        state = dataclasses.replace(state, step=replicate(jax.numpy.int32(0), mesh))
        state, metrics = step(state, spread(batch(0), mesh), replicate(jax.random.key(0), mesh))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-3:]) < 0.99 * np.mean(losses[:3]), losses
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(jax.device_get(state.params)), strict=True):
        assert not np.array_equal(old, new)


def test_the_frozen_classifier_is_bit_identical_after_training(fcam_stage):
    before = jax.device_get(initial_state(placed(fcam_stage, data_mesh(8)), fcam_stage.optimizer).rest)
    after, _ = run(fcam_stage, 4)
    assert set(after.params) == {"decoder"}
    frozen = before["classifier"]
    assert any("mean" in str(path) for path, _ in jax.tree_util.tree_leaves_with_path(frozen))
    for a, b in zip(jax.tree.leaves(frozen), jax.tree.leaves(after.rest["classifier"]), strict=True):
        np.testing.assert_array_equal(a, b)
    statistics = zip(jax.tree.leaves(before["decoder"]), jax.tree.leaves(after.rest["decoder"]), strict=True)
    assert all(not np.array_equal(a, b) for a, b in statistics)


def test_the_state_that_goes_into_a_step_is_donated_but_the_model_is_not(stage):
    mesh = data_mesh(8)
    state = initial_state(placed(stage, mesh), stage.optimizer)
    step_of(stage, 4)(state, spread(batch(0), mesh), replicate(jax.random.key(0), mesh))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    initial_state(placed(stage, mesh), stage.optimizer)


@pytest.mark.sampled
def test_steps_do_not_recompile(stage):
    mesh = data_mesh(8)
    state = initial_state(placed(stage, mesh), stage.optimizer)
    step = jitted_step(placed(stage, mesh), stage.method, stage.optimizer)
    for number in range(3):
        state, _ = step(state, spread(batch(number), mesh), replicate(jax.random.key(0), mesh))
    assert step._cache_size() == 1


def test_a_fitted_number_is_a_factor_that_is_kept_and_recompiles_nothing(fcam_stage):
    mesh = mesh_of(1)
    key, images = replicate(jax.random.key(0), mesh), spread(batch(0), mesh)

    def update(weight, fitted=(), factors=()):
        terms = fcam_stage.method.alignment.terms
        weighted = {**terms, "crf": dataclasses.replace(terms["crf"], weight=weight)}
        method = dataclasses.replace(fcam_stage.method, alignment=PixelAlignment(weighted))
        parts = Placed.split(fcam(fitted), method, mesh)
        step = jitted_step(parts, method, fcam_stage.optimizer)
        found = []
        for factor in factors or (None,):
            state = initial_state(parts, fcam_stage.optimizer)
            if factor is not None:
                state.rest["fitted"]["crf"] = replicate(jnp.float32(factor), mesh)
            found.append(jax.device_get(step(state, images, key)))
        assert step._cache_size() == 1
        return found

    plain, figures = step_of(fcam_stage, 1)(initial_state(placed(fcam_stage, mesh), fcam_stage.optimizer), images, key)
    [(weaker, lower)] = update(0.3e-9)
    (first, same), (second, quartered) = update(1.2e-9, fitted=["crf"], factors=(1, 0.25))
    assert set(plain.rest) == {"classifier", "decoder"} and "fitted" in first.rest
    assert [float(one.rest["fitted"]["crf"]) for one in (first, second)] == [1, 0.25]
    np.testing.assert_allclose([same["loss"], quartered["loss"]], [figures["loss"], lower["loss"]], rtol=1e-6)
    assert figures["loss"] != lower["loss"]
    for one, other in zip(jax.tree.leaves(weaker.params), jax.tree.leaves(second.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.sampled
def test_the_compiler_is_told_its_options(stage, monkeypatch):
    mesh = data_mesh(8)
    state = initial_state(placed(stage, mesh), stage.optimizer)
    monkeypatch.setattr("fcam_jax.training.placed.compiler_options", lambda platform: {f"xla_none_of_{platform}": "1"})
    step = make_train_step(placed(stage, mesh), stage.method, stage.optimizer)
    localize = placed(stage, mesh).localize({"maps": stage.method.localize})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_none_of_cpu"):
        step(state, spread(batch(0), mesh), replicate(jax.random.key(0), mesh))
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_none_of_cpu"):
        localize(state, batch(0))


def test_maps_are_scores_at_the_images_size(stage):
    mesh = data_mesh(8)
    state = initial_state(placed(stage, mesh), stage.optimizer)
    localize = placed(stage, mesh).localize({"maps": stage.method.localize})
    found = localize(state, batch(0))["maps"]
    assert found.maps.shape == (8, 16, 16) and found.logits.shape == (8, 3)
    assert float(found.maps.min()) >= 0 and float(found.maps.max()) <= 1
    assert float(jnp.ptp(found.maps)) > 0


def test_a_batch_that_cannot_be_spread_is_named():
    with pytest.raises(InputError, match="multiple of the 4 devices"):
        data_mesh(6)


@pytest.mark.sampled
def test_augmentation_changes_what_the_method_sees_alike_on_any_number_of_devices(stage):
    class Watch(type(stage.method)):
        def loss(self, model, batch, rng, step):
            loss, metrics = super().loss(model, batch, rng, step)
            shown = jnp.asarray(batch.images, jnp.float32)
            change = jnp.abs(shown - batch.raw).mean()
            return loss, metrics | {
                "change": jax.lax.pmean(change, DATA_AXIS),
                "level": jax.lax.pmean(shown.mean(), DATA_AXIS),
            }

    method = Watch(**{field.name: getattr(stage.method, field.name) for field in dataclasses.fields(stage.method)})
    logged = {}
    for devices in (1, 4):
        mesh = mesh_of(devices)
        state = initial_state(Placed.split(stage.model, method, mesh), stage.optimizer)
        parts = Placed.split(stage.model, method, mesh)
        step = make_train_step(parts, method, stage.optimizer, augmenter(["jitter", "blur"]))
        figures = []
        for _ in range(2):
            state, metrics = step(state, spread(batch(0), mesh), replicate(jax.random.key(0), mesh))
            figures.append(jax.device_get(metrics))
        logged[devices] = figures
    assert all(figures["change"] > 5 for figures in logged[1])
    assert abs(logged[1][0]["level"] - logged[1][1]["level"]) > 0.1  # another draw at another step
    for one, four in zip(logged[1], logged[4], strict=True):
        np.testing.assert_allclose(one["level"], four["level"], rtol=1e-4)
        np.testing.assert_allclose(one["loss"], four["loss"], rtol=1e-3)
