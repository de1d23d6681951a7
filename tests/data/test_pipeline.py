"""Batches: coverage, order, determinism, resumption, sharing among processes, and errors out of threads."""

import itertools
import json
import threading

import jax
import numpy as np
import pytest

from fcam_jax.data import pipeline
from fcam_jax.data.loaded import LeftOut, LoadedImages, Memory
from fcam_jax.data.pipeline import FixedCrops, TrainingStream, crop_batches, evaluation_batches, whole_batches
from fcam_jax.data.source import Record
from fcam_jax.errors import InputError
from fcam_jax.types import OBJECT, UNDECIDED
from fcam_jax.types.batch import Features


class Numbered:
    """Images that hold their index in the red channel and noise in the others; counts how often each is read."""

    num_classes = 3
    class_names = None
    truth = ("boxes",)
    left_out = ()
    fingerprint = "numbered"

    def __init__(self, length: int, side: int = 6, broken: int = -1):
        self.length, self.side, self.broken = length, side, broken
        self.reads = [0] * length
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return self.length

    def labels(self) -> np.ndarray:
        return np.arange(self.length) % 3

    def __getitem__(self, index: int) -> Record:
        with self.lock:
            self.reads[index] += 1
        if index == self.broken:
            raise InputError(f"images/{index}.jpg: cannot be decoded: image file is truncated")
        image = np.random.default_rng(index).integers(0, 256, (self.side, self.side, 3), np.uint8)
        image[..., 0] = index
        return Record(image, index % 3, f"{index}.jpg", boxes=np.array([[1, 1, self.side, self.side]]))


def stream(source, batch_size=4, seed=0, resize=6, memory=None, left_out=None, annotated=False, **options):
    images = LoadedImages(source, resize, memory=memory, left_out=left_out, annotated=annotated)
    return TrainingStream(images, **{"batch_size": batch_size, "crop": 4, "seed": seed} | options)


def evaluated(source, size=3, left_out=None, memory=None, **options):
    return evaluation_batches(LoadedImages(source, size, annotated=True, left_out=left_out, memory=memory), **options)


def take(batches, count: int) -> list:
    return list(itertools.islice(batches, count))


def joined(batches, name: str = "index") -> np.ndarray:
    return np.concatenate([getattr(batch, name) for batch in batches])


def assert_same(some, others) -> None:
    for name in ("images", "labels", "index", "valid"):
        np.testing.assert_array_equal(joined(some, name), joined(others, name))


def test_cams_travel_with_their_images_and_the_crop_says_where_an_image_lies():
    source = Numbered(9, side=16)
    cams = np.arange(9, dtype=np.float16)[:, None, None] * np.ones((1, 3, 3), np.float16)
    batch = next(stream(source, batch_size=8, resize=16, crop=8, cams=cams.__getitem__))
    np.testing.assert_array_equal(batch.cams[:, 1, 1], batch.index)
    assert batch.cams.dtype == np.float16 and batch.crop.dtype == np.float32
    for image, index, (top, left, side, mirrored) in zip(batch.images, batch.index, 16 * batch.crop, strict=True):
        whole = source[int(index)].image
        row, column = int(top), int(left)
        expected = whole[row : row + int(side), column : column + int(side)]
        np.testing.assert_array_equal(image, expected[:, ::-1] if mirrored else expected)
    assert next(stream(source)).cams is None


def test_a_training_batch_holds_cropped_images_with_labels_and_positions():
    batch = next(stream(Numbered(20), batch_size=5))
    assert batch.images.shape == (5, 4, 4, 3) and batch.images.dtype == np.uint8
    np.testing.assert_array_equal(batch.images[:, 2, 2, 0], batch.index)
    np.testing.assert_array_equal(batch.labels, batch.index % 3)
    np.testing.assert_array_equal(batch.valid, np.ones(5, np.float32))


@pytest.mark.parametrize(("length", "batch_size"), [(10, 4), (7, 3), (12, 4), (1, 2), (3, 8)])
def test_every_epoch_holds_every_image_once_and_runs_on_into_the_next(length, batch_size):
    epochs = 6
    seen = joined(take(stream(Numbered(length), batch_size), -(-length * epochs // batch_size)))
    for epoch in range(epochs):
        assert sorted(seen[epoch * length : (epoch + 1) * length]) == list(range(length))


@pytest.mark.slow
def test_every_epoch_and_every_seed_has_its_own_order():
    orders = []
    for seed in range(3):
        seen = joined(take(stream(Numbered(30), batch_size=30, seed=seed), 4))
        orders += [tuple(order) for order in seen.reshape(4, 30)]
    assert len(set(orders)) == 12
    assert tuple(range(30)) not in orders


def test_crops_differ_between_epochs_and_seeds():
    batches = [*take(stream(Numbered(1), batch_size=1), 20), *take(stream(Numbered(1), batch_size=1, seed=1), 20)]
    images = joined(batches, "images")
    assert len(np.unique(images[:20].reshape(20, -1), axis=0)) > 8  # of the 3 * 3 * 2 that there are
    assert not np.array_equal(images[:20], images[20:])


def test_the_stream_is_repeated_by_its_seed():
    assert_same(take(stream(Numbered(10)), 6), take(stream(Numbered(10)), 6))


def test_images_depend_on_their_place_alone_not_on_batches_or_threads(monkeypatch):
    expected = take(stream(Numbered(10), batch_size=4), 6)
    assert_same(take(stream(Numbered(10), batch_size=3), 8), expected)
    monkeypatch.setattr(pipeline, "READ_THREADS", 1)
    assert_same(take(stream(Numbered(10), batch_size=4), 6), expected)
    monkeypatch.setattr(pipeline, "READ_THREADS", 16)
    assert_same(take(stream(Numbered(10), batch_size=4), 6), expected)


@pytest.mark.parametrize("done", [0, 1, 3, 7])
def test_a_resumed_stream_goes_on_exactly(done):
    uninterrupted = stream(Numbered(10))
    take(uninterrupted, done)
    state = json.loads(json.dumps(uninterrupted.get_state()))
    expected = take(uninterrupted, 5)
    fresh = stream(Numbered(10))
    fresh.set_state(state)
    assert_same(take(fresh, 5), expected)
    used = stream(Numbered(10))
    take(used, 9)
    used.set_state(state)
    assert_same(take(used, 5), expected)


def test_an_order_of_its_own_holds_for_every_batch_size_and_goes_on_exactly():
    def order(place: int) -> int:
        return (place // 2 * 3 + place % 2) % 10

    expected = [order(place) for place in range(40)]
    whole = stream(Numbered(10), order=order)
    np.testing.assert_array_equal(joined(take(whole, 5)), expected[:20])
    resumed = stream(Numbered(10), 5, order=order)
    resumed.set_state(whole.get_state())
    np.testing.assert_array_equal(joined(take(resumed, 4)), expected[20:])


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (4, 2), (2, 4)])
def test_another_number_of_processes_goes_on_with_the_very_next_image(before, after):
    def streams(count):
        return [stream(Numbered(11), 8, process_index=index, process_count=count) for index in range(count)]

    interrupted = streams(before)
    for part in interrupted:
        take(part, 3)
    states = [json.loads(json.dumps(part.get_state())) for part in interrupted]
    assert states == [states[0]] * before
    resumed = streams(after)
    for part in resumed:
        part.set_state(states[0])
    uninterrupted = take(stream(Numbered(11), 8), 6)[3:]
    for number, parts in enumerate(zip(*(take(part, 3) for part in resumed), strict=True)):
        order = np.arange(8).reshape(-1, after).T.ravel()
        assert_same(parts, [jax.tree.map(lambda array, order=order: array[order], uninterrupted[number])])


def test_the_place_of_another_version_is_refused():
    with pytest.raises(InputError, match="another version of this program"):
        stream(Numbered(4)).set_state({"next_index": 3})


@pytest.mark.parametrize(("length", "batch_size", "processes"), [(10, 4, 2), (7, 6, 3), (5, 8, 8), (16, 4, 4)])
def test_processes_share_every_training_batch_without_overlap(length, batch_size, processes):
    whole = take(stream(Numbered(length), batch_size), 5)
    parts = [
        take(stream(Numbered(length), batch_size, process_index=index, process_count=processes), 5)
        for index in range(processes)
    ]
    for number, batch in enumerate(whole):
        shared = [part[number] for part in parts]
        assert {len(part.index) for part in shared} == {batch_size // processes}
        order = np.arange(batch_size).reshape(-1, processes).T.ravel()
        assert_same(shared, [jax.tree.map(lambda array, order=order: array[order], batch)])


def test_images_are_read_once_where_all_fit_into_the_cache():
    source, fits = Numbered(10), 10 * 6 * 6 * 3
    batches = stream(source, memory=Memory(fits))
    cached = take(batches, 10)
    assert max(source.reads) <= 2 and sum(source.reads) < 20  # two threads may read an image at the same time
    uncached = Numbered(10)
    assert_same(take(stream(uncached, memory=Memory(fits - 1)), 10), cached)
    assert min(uncached.reads) >= 4


def test_splits_share_the_memory_and_the_log_says_what_is_kept(caplog):
    caplog.set_level("INFO")
    memory, first, second = Memory(2 * 10 * 6 * 6 * 3 - 1), Numbered(10), Numbered(10)
    for name, source in (("train", first), ("val", second)):
        images = LoadedImages(source, 6, memory=memory, name=name)
        for _ in range(3):
            [images(index) for index in range(10)]
    assert first.reads == [1] * 10 and second.reads == [3] * 10
    assert "train: 10 of 6 x 6 pixels, 0.00 GiB, kept in memory" in caplog.text
    assert "val: 10 of 6 x 6 pixels, 0.00 GiB, decoded anew every time: data.cache_gigabytes" in caplog.text


def test_ground_truth_is_cut_out_and_mirrored_with_its_image():
    class Marked(Numbered):
        """A white rectangle on black is box and mask; what lies right of it is undecided."""

        def __getitem__(self, index: int) -> Record:
            rng = np.random.default_rng(index)
            x0, y0, x1, y1 = (*rng.integers(2, 10, 2), *rng.integers(10, 14, 2))
            mask, ignore = np.zeros((2, 16, 16), bool)
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
            ignore[:, x1 + 1 :] = True
            image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1)
            return Record(image, 0, str(index), np.array([[x0, y0, x1, y1], [0, 0, 0, 0]]), mask, ignore)

    batches = stream(
        Marked(20),
        batch_size=20,
        resize=16,
        crop=10,
        annotated=True,
        objects=True,
        cams=np.zeros((20, 2, 2)).__getitem__,
    )
    corners = 0
    for batch, annotations in (batches.with_annotations() for _ in range(3)):
        for image, annotation, crop, objects in zip(batch.images, annotations, batch.crop, batch.objects, strict=True):
            white = image[..., 0] > 0
            np.testing.assert_array_equal(objects == OBJECT, white)
            np.testing.assert_array_equal(objects == UNDECIDED, annotation.ignore)
            np.testing.assert_array_equal(annotation.mask, white)
            rows, columns = np.nonzero(white)
            expected = [columns.min(), rows.min(), columns.max(), rows.max()] if white.any() else []
            np.testing.assert_array_equal(annotation.boxes[: len(annotation.boxes) and 1].ravel(), expected)
            beside = np.flip(annotation.ignore, 1) if crop[3] else annotation.ignore
            assert not (annotation.ignore & white).any() and np.all(np.diff(beside.astype(int), axis=1) >= 0)
            corners += len(annotation.boxes) == 2
    assert 0 < corners < 30  # the corner pixel's box is seldom in the crop


def test_an_image_that_cannot_be_used_is_left_out_of_training_and_noted_once():
    left_out, source = LeftOut(), Numbered(10, broken=6)
    seen = joined(take(stream(source, batch_size=10, left_out=left_out), 3))
    for epoch in seen.reshape(3, 10):
        assert sorted(epoch) == [0, 1, 2, 3, 4, 5, 7, 7, 8, 9]
    assert left_out.lines() == ["images/6.jpg: cannot be decoded: image file is truncated"]
    np.testing.assert_array_equal(
        seen, np.where(order := joined(take(stream(Numbered(10), 10), 3)), order, 0) + (order == 6)
    )


@pytest.mark.parametrize(("count", "lines"), [(5, 5), (6, 6), (9, 6)])
def test_the_log_names_a_few_of_the_images_that_are_left_out(caplog, count, lines):
    left_out = LeftOut()
    for number in [*range(count), 0, 1]:
        left_out.add(f"{number}.jpg: not an image")
    assert len(left_out.lines()) == count and len(caplog.records) == lines
    assert ("more images" in caplog.text) == (count > 5)


def test_training_on_nothing_usable_ends():
    with pytest.raises(InputError, match="none of the 1 training images can be used; the first: images/0"):
        next(stream(Numbered(1, broken=0), batch_size=1, left_out=LeftOut()))


@pytest.mark.parametrize("broken", [0, 5, 9])
def test_an_image_that_cannot_be_used_is_left_out_of_evaluation_as_padding(broken):
    left_out = LeftOut()
    batches = list(evaluated(Numbered(10, broken=broken), batch_size=4, left_out=left_out))
    assert len(batches) == 3 and len(left_out.lines()) == 1
    seen = []
    for batch, annotations in batches:
        assert np.all(np.diff(batch.valid) <= 0) and batch.valid.sum() == len(annotations)
        seen += batch.index[batch.valid > 0].tolist()
    assert seen == [index for index in range(10) if index != broken]


def test_whole_images_come_in_the_order_of_their_positions():
    images = LoadedImages(Numbered(10, broken=2), 6, left_out=LeftOut())
    batches = list(whole_batches(images, [7, 2, 0, 9], batch_size=3))
    assert [positions.tolist() for positions, _ in batches] == [[7, 0], [9]]
    assert [batch.index[batch.valid > 0].tolist() for _, batch in batches] == [[7, 0], [9]]
    assert [batch.images.shape for _, batch in batches] == [(3, 6, 6, 3)] * 2
    assert list(whole_batches(images, [], batch_size=3)) == []


def test_fixed_crops_are_the_same_at_every_visit_and_those_of_their_numbers():
    source, fixed = Numbered(5, side=16), FixedCrops(3, seed=7)
    images = LoadedImages(source, 16)
    rows = crop_batches(images, range(15), batch_size=4, fixed=fixed, side=8)
    crops = {int(row): batch.images[n] for found, batch in rows for n, row in enumerate(found)}
    assert sorted(crops) == list(range(15))
    assert all((crops[row][..., 0] == row // 3).all() for row in crops)
    assert len({crop[..., 1:].tobytes() for crop in crops.values()}) == 15

    def features(rows):
        return Features({}, scores=rows[:, None].astype(np.float32), cams=np.zeros((len(rows), 1, 1), np.float32))

    given = {"resize": 16, "crop": 8, "batch_size": 5, "fixed": fixed, "features": features}
    seen = take(stream(source, seed=1, **given), 12)
    for batch in seen:
        for image, index, row in zip(batch.images, batch.index, batch.features.scores[:, 0], strict=True):
            assert row // 3 == index
            np.testing.assert_array_equal(image, crops[int(row)])
    assert {int(row) for batch in seen for row in batch.features.scores[:, 0]} == set(range(15))
    other = next(crop_batches(images, [0], batch_size=1, fixed=FixedCrops(3, seed=8), side=8))[1]
    assert not np.array_equal(other.images[0], crops[0])


def test_fixed_crops_of_images_that_are_left_out_are_no_rows():
    images = LoadedImages(Numbered(4, side=16, broken=1), 16, left_out=LeftOut())
    batches = crop_batches(images, range(8), batch_size=3, fixed=FixedCrops(2, seed=0), side=8)
    found = [(rows.tolist(), batch.index[batch.valid > 0].tolist()) for rows, batch in batches]
    assert found == [([0, 1], [0, 0]), ([4, 5], [2, 2]), ([6, 7], [3, 3])]


def test_a_bad_training_image_reaches_the_caller_as_it_is():
    batches = stream(Numbered(10, broken=6))
    with pytest.raises(InputError) as caught:
        take(batches, 3)
    assert str(caught.value) == "images/6.jpg: cannot be decoded: image file is truncated"


def test_the_batches_before_a_bad_image_are_whole():
    order = joined(take(stream(Numbered(20)), 5))
    batches = stream(Numbered(20, broken=int(order[10])))
    np.testing.assert_array_equal(joined(take(batches, 2)), order[:8])
    before = batches.get_state()
    with pytest.raises(InputError):
        next(batches)
    mended = stream(Numbered(20))
    mended.set_state(before)
    np.testing.assert_array_equal(next(mended).index, order[8:12])


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="crop of 7 pixels does not fit into images resized to 6"):
        stream(Numbered(4), crop=7)
    with pytest.raises(InputError, match="batch of 4 images cannot be shared equally by 3"):
        stream(Numbered(4), process_count=3)
    with pytest.raises(InputError, match="batch of 0 images"):
        evaluated(Numbered(4), batch_size=0)
    with pytest.raises(InputError, match="no images"):
        stream(Numbered(0))


@pytest.mark.parametrize(("length", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_evaluation_takes_every_image_once_in_order_and_pads_the_last_batch(length, batch_size):
    batches = list(evaluated(Numbered(length), batch_size=batch_size))
    assert [batch.images.shape for batch, _ in batches] == [(batch_size, 3, 3, 3)] * -(-length // batch_size)
    images, valid = (joined([batch for batch, _ in batches], name) for name in ("images", "valid"))
    np.testing.assert_array_equal(valid, np.arange(len(valid)) < length)
    np.testing.assert_array_equal(images[:length, 0, 0, 0], np.arange(length))
    assert not images[length:].any()
    annotations = [annotation for _, some in batches for annotation in some]
    assert [annotation.image_id for annotation in annotations] == [f"{index}.jpg" for index in range(length)]
    assert all(len(some) == batch.valid.sum() for batch, some in batches)
    np.testing.assert_array_equal(annotations[0].boxes, [[0, 0, 3, 3]])  # from 6 x 6 pixels to 3 x 3


@pytest.mark.parametrize(
    ("length", "batch_size", "processes"),
    [(10, 4, 2), (10, 4, 4), (9, 8, 4), (1, 6, 3), (16, 4, 1), (5, 4, 2), (17, 6, 3)],
)
def test_processes_evaluate_every_image_once_in_the_same_number_of_batches(length, batch_size, processes):
    parts = [
        list(evaluated(Numbered(length), batch_size=batch_size, process_index=index, process_count=processes))
        for index in range(processes)
    ]
    assert {len(part) for part in parts} == {-(-length // batch_size)}
    seen = []
    for batch, annotations in itertools.chain(*parts):
        assert len(batch.valid) == batch_size // processes
        valid = batch.valid == 1
        assert [annotation.image_id for annotation in annotations] == [f"{index}.jpg" for index in batch.index[valid]]
        seen += batch.index[valid].tolist()
    assert sorted(seen) == list(range(length))


def test_evaluation_reads_every_image_once():
    source = Numbered(10)
    list(evaluated(source, batch_size=4))
    assert source.reads == [1] * 10


def test_a_bad_evaluation_image_reaches_the_caller_as_it_is():
    batches = evaluated(Numbered(10, broken=6), batch_size=4)
    next(batches)
    with pytest.raises(InputError, match=r"^images/6\.jpg: cannot be decoded"):
        next(batches)


def test_a_damaged_file_stops_training_with_its_name(dataset):
    source = dataset.open()
    path = dataset.root / "images/b/3.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"b/3\.png: "):
        take(stream(source, batch_size=3), 1)
