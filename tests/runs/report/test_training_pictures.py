"""Pictures of training: the right colours in the right cells, when they are made, and that training does not notice."""

import dataclasses
from unittest import mock

import jax
import numpy as np
import optax
import PIL.Image
import pytest
from flax import nnx

from fcam_jax.cams import CAMS
from fcam_jax.errors import InputError
from fcam_jax.losses import PixelAlignment, Seeds, Size, Weighted
from fcam_jax.methods.fcam import FCAMMethod, View
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import Small
from fcam_jax.runs.data import Data
from fcam_jax.runs.plan import Stage
from fcam_jax.runs.report.drawing import CELL, FALSE_COLOUR, PREDICTED_COLOUR, draw_spots
from fcam_jax.runs.report.pictures import save_training_view
from fcam_jax.runs.report.training_pictures import training_pictures
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.training.placed import Placed, data_mesh, replicate, spread
from fcam_jax.training.settings import LoopSettings
from fcam_jax.training.step import TrainState, initial_state, make_train_step
from fcam_jax.types import Annotation, Batch

SIDE, WIDE = 32, CELL + 6


def read(path):
    with PIL.Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def view(gradient):
    seeds = np.full((1, SIDE, SIDE), -1)
    seeds[0, 4:6, 4:6], seeds[0, 20:23, 20:23] = 1, 0
    foreground = np.zeros((1, SIDE, SIDE), np.float32)
    foreground[:, :8] = 1
    return View(np.full((1, SIDE, SIDE, 3), 200, np.uint8), foreground, seeds, foreground, gradient)


def cell(pixels, column):
    return pixels[32 : 32 + CELL, 6 + column * WIDE : 6 + column * WIDE + CELL]


def test_seeds_and_the_sign_of_the_gradient_are_told_by_their_colours(tmp_path):
    gradient = np.zeros((1, SIDE, SIDE), np.float32)
    gradient[:, :8], gradient[:, 24:] = -3e-5, 1e-5
    save_training_view(tmp_path / "view.png", view(gradient), ["a class"], "epoch 0")
    pixels = read(tmp_path / "view.png")
    seeds = cell(pixels, 2)
    for colour, centre in ((PREDICTED_COLOUR, 5.0), (FALSE_COLOUR, 21.5)):
        rows, columns = np.nonzero((seeds == colour).all(-1))
        np.testing.assert_allclose([rows.mean() + 0.5, columns.mean() + 0.5], centre * CELL / SIDE, atol=1)
        assert min(np.ptp(rows), np.ptp(columns)) + 1 >= 9
    pull = cell(pixels, 4)
    top, middle, bottom = pull[20, 80], pull[80, 80], pull[150, 80]
    assert top[0] > top[2] + 50 and bottom[2] > bottom[0] + 20 and (middle > 235).all()
    assert np.abs(top - 245).max() > np.abs(bottom - 245).max()  # one range for both signs
    assert len(np.unique(cell(pixels, 3)[20, 80] - cell(pixels, 3)[150, 80])) > 1  # S is drawn


@pytest.mark.parametrize("gradient", [None, np.zeros((1, SIDE, SIDE), np.float32), np.full((1, SIDE, SIDE), np.nan)])
def test_a_term_that_is_off_or_does_not_pull_is_drawn_too(gradient, tmp_path):
    gradient = None if gradient is None else gradient.astype(np.float32)
    save_training_view(tmp_path / "view.png", view(gradient), ["$x_{\n"], "epoch 0")
    assert read(tmp_path / "view.png").shape[1] == 6 + WIDE * (4 if gradient is None else 5)


def test_spots_that_are_large_enough_keep_their_shape():
    mask = np.zeros((10, 10), bool)
    mask[2:8, 3:5] = True
    drawn = draw_spots(np.zeros((40, 40, 3), np.uint8), mask, (255, 0, 0), 9)
    np.testing.assert_array_equal(drawn[..., 0] > 0, np.kron(mask, np.ones((4, 4))) > 0)


@pytest.mark.parametrize(
    ("every", "epochs", "made"), [(1, 3, [0, 1, 2, 3]), (5, 12, [0, 5, 10, 12]), (5, 2, [0, 2]), (2, 0, [0])]
)
def test_pictures_are_made_at_the_start_at_intervals_and_at_the_end(stage, tmp_path, caplog, every, epochs, made):
    loop = LoopSettings("fcam", epochs=epochs, steps_per_epoch=10, log_steps=1, selection="last")
    fail = mock.Mock(side_effect=InputError("no images"))
    on_epoch = pictures_of(dataclasses.replace(stage, pictures_epochs=every, loop=loop), tmp_path, fail)
    for epoch in range(epochs + 1):
        on_epoch(mock.Mock(spec=TrainState), epoch)
    assert [int(record.args[0].stem.removeprefix("epoch_")) for record in caplog.records] == made


@pytest.fixture(scope="module")
def stage():
    encoder = Small((4, 6, 8, 10), rngs=nnx.Rngs(0))
    classifier = Classifier(encoder, WGAP(10, 3, rngs=nnx.Rngs(1)))
    model = FCAM(classifier, Decoder(encoder.channels, encoder.strides, (6, 6, 4, 4), rngs=nnx.Rngs(2)))
    alignment = PixelAlignment({"seeds": Weighted(Seeds(), 1.0), "size": Weighted(Size(), 0.1)})
    method = FCAMMethod(CAMS["cam"](), SeedSettings(0.5, 1, 1, 0.1, 0.1), alignment)
    return Stage(
        name="fcam",
        row="F-CAM",
        baselines={},
        build_model=lambda _: model,
        load_pretrained=lambda _: None,
        method=method,
        optimizer=lambda: optax.sgd(0.1),
        loop=LoopSettings("fcam", epochs=4, steps_per_epoch=2, log_steps=1, selection="last"),
        view=method.view,
        pictures_epochs=1,
    )


def placed(stage):
    return Placed.split(stage.build_model(None), stage.method, data_mesh(8))


def state_of(stage):
    return initial_state(placed(stage), stage.optimizer())


def batch(count=8):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
    return Batch(
        pixels, np.arange(count, dtype=np.int32) % 3, np.arange(count, dtype=np.int32), np.ones(count, np.float32)
    )


def pictures_of(stage, folder, sample):
    data = mock.Mock(spec=Data, sizes={"train": 2}, augment=None, class_names=None, sample=sample)
    return training_pictures(placed(stage), stage, data, 0, jax.random.key(1), folder)


def sample(count, seed):
    return batch(2), [Annotation(f"{label}.jpg", label) for label in range(2)]


@pytest.mark.slow
def test_training_does_not_notice_its_pictures(stage, tmp_path):
    mesh, key = data_mesh(8), replicate(jax.random.key(1), data_mesh(8))
    step = make_train_step(placed(stage), stage.method, stage.optimizer())
    ends = []
    for look in (lambda state, epoch: None, pictures_of(stage, tmp_path / "pictures", sample)):
        state = state_of(stage)
        for epoch in range(3):
            look(state, epoch)
            before = state
            state, _ = step(state, spread(batch(), mesh), key)
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))  # the picture holds on to none
        ends.append(jax.device_get(state))
    jax.tree.map(np.testing.assert_array_equal, ends[0].params, ends[1].params)
    jax.tree.map(np.testing.assert_array_equal, ends[0].rest, ends[1].rest)
    names = [f"epoch_{epoch:04d}.png" for epoch in range(3)]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == names
    shown = [read(tmp_path / "pictures" / name) for name in names]
    assert (cell(shown[0], 0) == cell(shown[2], 0)).all()
    assert (cell(shown[0], 2) != cell(shown[2], 2)).any() and (cell(shown[0], 3) != cell(shown[2], 3)).any()


def test_a_picture_that_is_there_is_not_made_again(stage, tmp_path):
    (tmp_path / "epoch_0001.png").write_bytes(b"as it was")

    def unwanted(count, seed):
        raise AssertionError("asked for images")

    pictures_of(stage, tmp_path, unwanted)(state_of(stage), 1)
    assert (tmp_path / "epoch_0001.png").read_bytes() == b"as it was"


@pytest.mark.parametrize(
    "error", [InputError("bad image"), OSError(28, "No space left"), RuntimeError("out of memory")]
)
def test_a_picture_that_fails_is_warned_of_and_leaves_nothing(stage, tmp_path, caplog, error):
    def fail(count, seed):
        raise error

    pictures_of(stage, tmp_path, fail)(state_of(stage), 0)
    assert "epoch_0000.png is not made" in caplog.text and str(error) in caplog.text
    assert not list(tmp_path.iterdir())
