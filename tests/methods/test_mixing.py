"""HaS and CutMix: what is hidden and mixed, against the released program's values and their definitions; the losses."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from one_device import CLASSES, InInference, batch, classifier, cross_entropy, on_one_device

from fcam_jax.methods.mixing import CutMix, HaS, box, hide, mix, pixels_of_cells
from fcam_jax.models.heads import WGAP
from fcam_jax.types import DATA_AXIS


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden" / "wsol_methods.npz")


def keys(count):
    return jax.random.split(jax.random.key(0), count)


def test_cells_are_those_of_the_released_program(golden):
    kept = golden["has_seed0_grid5_rate05"]
    count, side, _ = kept.shape
    stream = random.Random(0)
    hidden = np.array([stream.random() <= 0.5 for _ in range(count * 5 * 5)]).reshape(count, 5, 5)
    np.testing.assert_array_equal(pixels_of_cells(jnp.asarray(hidden), 5, side, side), kept == 0)


@pytest.mark.parametrize(("grid", "rate"), [(4, 0.5), (5, 0.25), (24, 1.0), (3, 0.0)])
def test_cells_are_hidden_at_the_rate_and_the_rest_is_untouched(grid, rate):
    side, count = 24, 60
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    color = jnp.array([123.675, 116.28, 103.53])
    found = np.asarray(hide(keys(count), jnp.asarray(images), color, grid=grid, rate=rate))
    hidden = (found == np.asarray(color)).all(-1)
    np.testing.assert_array_equal(found[~hidden], images[~hidden])
    firsts = hidden[:, ::grid, ::grid]
    np.testing.assert_array_equal(hidden, firsts.repeat(grid, 1).repeat(grid, 2)[:, :side, :side])
    assert abs(firsts.mean() - rate) < 4 * (rate * (1 - rate) / firsts.size) ** 0.5 + 1e-9


def test_the_box_is_that_of_the_released_program(golden):
    for lam, row, column, *expected in golden["cutmix_lam_cx_cy_x1_y1_x2_y2"]:
        found = box(jnp.float32(lam), jnp.array([row, column], jnp.int32), (224, 224))
        assert [int(edge) for edge in found] == expected


@functools.cache
def mixing(devices, **settings):
    mesh = jax.make_mesh((devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    spread, same = PartitionSpec(DATA_AXIS), PartitionSpec()

    def per_device(key, images, labels):
        return mix(key, images, labels, **settings)

    return jax.jit(
        jax.shard_map(per_device, mesh=mesh, in_specs=(same, spread, spread), out_specs=(spread, spread, same))
    )


def mixed(devices, seed, **settings):
    """Images of a constant colour each, 16 of them, mixed on so many devices."""
    images = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None, None], (16, 12, 12, 3))
    step = mixing(devices, **settings)
    return jax.device_get(step(jax.random.key(seed), images, np.arange(100, 116, dtype=np.int32)))


@pytest.mark.slow
def test_a_box_of_the_partner_replaces_the_image_and_the_share_is_the_rest():
    shares, boxes = [], set()
    for seed in range(12):
        images, partners, share = mixed(4, seed, beta=1.0, probability=1.0)
        assert sorted(partners) == list(range(100, 116))  # everyone is the partner of one
        own = images == np.arange(16)[:, None, None, None]
        theirs = images == (partners - 100)[:, None, None, None]
        assert (own | theirs).all()
        different = partners - 100 != np.arange(16)
        np.testing.assert_allclose(own[different].mean((1, 2, 3)), share, atol=1e-6)
        rows, columns = np.nonzero(~own[different][0, :, :, 0])
        if len(rows):
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            boxes.add((rows.min(), columns.min()))
        shares.append(share)
    assert np.ptp(shares) > 0.5 and len(boxes) > 4


@pytest.mark.slow
def test_one_device_mixes_as_four_do():
    for one, four in zip(*(mixed(devices, 5, beta=1.0, probability=1.0) for devices in (1, 4)), strict=True):
        np.testing.assert_array_equal(one, four)


def wgap(encoder, rngs):
    return WGAP(encoder.channels[-1], CLASSES, rngs=rngs)


def shown_to(objective):
    """What a tiny classifier is shown by an objective, its scores, the loss and the figures."""
    shown = []

    class Watched(InInference):
        def __call__(self, images, **options):
            shown.append(images)
            return super().__call__(images, **options)

    tiny = classifier(wgap)
    model = Watched(tiny.encoder, tiny.head)

    def loss():
        shown.clear()
        return *objective.loss(model, batch(), jax.random.key(2), jnp.asarray(0)), shown[0]

    return *map(jax.device_get, on_one_device(loss)), model


def test_what_has_hides_is_zero_after_normalisation_and_the_loss_is_that_of_the_rest():
    loss, logits, _, shown, model = shown_to(HaS(grid=4, rate=0.5))
    normalised, whole = (np.asarray(model.normalize(jnp.asarray(images))) for images in (shown, batch().images))
    hidden = (normalised == 0).all(-1)
    np.testing.assert_array_equal(normalised[~hidden], whole[~hidden])
    assert 0.2 < hidden.mean() < 0.8 and any((one != hidden[0]).any() for one in hidden)
    np.testing.assert_allclose(loss, cross_entropy(logits, batch().labels), rtol=1e-5)


@pytest.mark.slow
def test_the_loss_of_cutmix_is_that_of_both_labels_by_their_shares():
    loss, logits, figures, shown, _ = shown_to(CutMix())
    images, labels = np.asarray(batch().images), np.asarray(batch().labels)
    # Noise: the partner is the image that the changed pixels are of.
    changed = (shown != images).any(-1).any(0)
    partners = [int(np.argmax([(one[changed] == other[changed]).mean() for other in images])) for one in shown]
    assert sorted(partners) == [0, 1, 2, 3] and 0 < changed.mean() < 1
    share = 1 - changed.mean()
    np.testing.assert_allclose(figures["share"], share, rtol=1e-6)
    expected = share * cross_entropy(logits, labels) + (1 - share) * cross_entropy(logits, labels[partners])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_batch_that_is_not_to_be_mixed_stays_as_it_is():
    images, _, share = mixed(4, 0, beta=1.0, probability=0.0)
    assert share == 1 and (images == np.arange(16)[:, None, None, None]).all()
