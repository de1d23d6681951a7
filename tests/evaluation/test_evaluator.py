"""The evaluator: the figures of the metrics that it feeds, whatever the batches are."""

import dataclasses
import functools
import threading
import time

import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation.box_accuracy import BoxAccuracy
from fcam_jax.evaluation.class_accuracy import ClassAccuracy, class_ranks
from fcam_jax.evaluation.evaluator import evaluate
from fcam_jax.evaluation.findings import Wanted
from fcam_jax.evaluation.metrics import kinds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.stream import in_threads
from fcam_jax.types import Annotation, Batch, Localization

COUNT, SIDE, CLASSES, STEP = 11, 16, 7, 0.01


def split(boxes=True, masks=True):
    """Score maps, class scores and ground truth of a split."""
    rng = np.random.default_rng(0)
    maps = rng.random((COUNT, SIDE, SIDE)).astype(np.float32)
    logits = rng.normal(size=(COUNT, CLASSES)).astype(np.float32)
    annotations = []
    for i in range(COUNT):
        x, y = rng.integers(0, 6, 2).tolist()
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y : y + 9, x : x + 8] = True
        maps[i] = 0.5 * maps[i] + 0.5 * mask * rng.uniform(0, 1)
        annotations.append(
            Annotation(
                f"{i}.png",
                int(rng.integers(CLASSES)),
                np.array([[x, y, x + 7, y + 8]]) if boxes else None,
                mask if masks else None,
                (rng.random((SIDE, SIDE)) < 0.1) & ~mask if masks else None,
            )
        )
    return maps, logits, annotations


def batches(data, size):
    """The split in batches; the last one is padded with what no metric could take."""
    _maps, _logits, annotations = data
    for start in range(0, COUNT, size):
        index = np.arange(start, start + size)
        real = index < COUNT
        labels = [annotations[i].label if i < COUNT else 0 for i in index]
        yield (
            Batch(
                images=np.broadcast_to(index[:, None, None, None], (size, SIDE, SIDE, 3)).astype(np.uint8),
                labels=np.array(labels, np.int32),
                index=np.where(real, index, 0).astype(np.int32),
                valid=real.astype(np.float32),
            ),
            annotations[start : start + size],
        )


def localizer(data):
    """A model that knows the maps of the images of a batch; NaN for padding."""
    maps, logits, _ = data

    def localize(batch):
        padding = batch.valid[:, None, None] == 0
        found = Localization(
            np.where(padding, np.float32(np.nan), maps[batch.index]),
            np.where(padding[:, 0], np.float32(np.nan), logits[batch.index]),
        )
        return {"model": found}

    return localize


def evaluated(data, size=4, keep=frozenset(), val_threshold=None, also=(), **settings):
    settings = Wanted(step=STEP, kinds=kinds(also), **settings)
    taus = {} if val_threshold is None else {"model": val_threshold}
    return evaluate(localizer(data), batches(data, size), settings, keep, taus)["model"]


def directly(kind, data):
    maps, logits, annotations = data
    ids = [annotation.image_id for annotation in annotations]
    ranks = class_ranks(logits, np.array([annotation.label for annotation in annotations]), ids)
    metric = kind(STEP)
    for score_map, annotation, rank in zip(maps, annotations, ranks, strict=True):
        metric = metric.update(score_map, annotation, int(rank))
    return metric


def test_figures_are_those_of_the_metrics_fed_directly():
    data = split()
    evaluation = evaluated(data)
    boxes, masks, classes = (directly(kind, data) for kind in (BoxAccuracy, PixelPrecision, ClassAccuracy))
    assert evaluation.metrics == boxes.compute() | masks.compute() | classes.compute()
    assert 0 < evaluation.metrics["top1_loc"] < evaluation.metrics["MaxBoxAcc"] < 100
    assert evaluation.curves.keys() == boxes.curves().keys()
    for name, curve in boxes.curves().items():
        np.testing.assert_array_equal(evaluation.curves[name], curve)
    best = evaluation.curves["MaxBoxAcc"].argmax()
    assert evaluation.thresholds[best] == evaluation.metrics["MaxBoxAcc_threshold"]


@pytest.mark.parametrize("size", [1, 3, 11, 20])
def test_figures_do_not_depend_on_the_batch_size(size):
    data = split()
    assert evaluated(data, size).metrics == evaluated(data, 4).metrics


def test_only_what_the_ground_truth_allows_is_measured():
    boxes_only = directly(BoxAccuracy, split()).compute().keys() | {"top1_cls", "top5_cls"}
    assert evaluated(split(masks=False)).metrics.keys() == boxes_only
    masks_only = evaluated(split(boxes=False))
    assert masks_only.metrics.keys() == {"PxAP", "top1_cls", "top5_cls"}
    assert masks_only.curves == {}


def test_examples_are_the_images_at_the_positions_asked_for():
    data = split()
    assert evaluated(data).examples == []
    kept = evaluated(data, keep=frozenset({9, 0, 4})).examples
    assert [example.annotation.image_id for example in kept] == ["0.png", "4.png", "9.png"]
    for example, position in zip(kept, (0, 4, 9), strict=True):
        assert (example.image == position).all()
        np.testing.assert_array_equal(example.score_map, data[0][position])


def test_examples_know_what_was_predicted():
    _, logits, annotations = data = split()
    examples = evaluated(data, keep=frozenset(range(COUNT))).examples
    for example, scores, annotation in zip(examples, logits, annotations, strict=True):
        order = np.argsort(-scores, kind="stable").tolist()
        assert (example.predicted, example.rank) == (order[0], order.index(annotation.label))


def test_the_histogram_is_that_of_all_pixels():
    data = split()
    np.testing.assert_array_equal(evaluated(data).histogram, np.histogram(data[0], 256, (0, 1))[0])


def test_parts_and_intervals_follow_from_the_same_images():
    data = split()
    plain, found = evaluated(data), evaluated(data, parts=True, bootstrap=200, also=("MeanBestIoU", "PointingGame"))
    assert plain.by_class == plain.by_size == plain.intervals == {}
    added = {"MeanBestIoU", "PointingGame", "PointingGame_15px"}
    assert found.metrics.keys() - plain.metrics.keys() == added
    for parts in (found.by_class, found.by_size):
        assert sum(part["images"] for part in parts.values()) == COUNT
        mean = sum(part["images"] * part["BoxAcc_at_best"] for part in parts.values()) / COUNT
        assert mean == pytest.approx(plain.metrics["MaxBoxAcc"])
    assert found.by_class.keys() == {annotation.label for annotation in data[2]}
    assert found.intervals.keys() == found.metrics.keys()
    low, high = found.intervals["top1_cls"]
    assert low < found.metrics["top1_cls"] < high


def test_methods_are_measured_side_by_side():
    data = split()
    other = (data[0][::-1].copy(), *data[1:])
    both = evaluate(
        lambda batch: {"a": localizer(data)(batch)["model"], "b": localizer(other)(batch)["model"]},
        batches(data, 4),
        Wanted(step=STEP),
        frozenset({2}),
        {"b": 0.5},
    )
    for name, maps in (("a", data), ("b", other)):
        alone = evaluated(maps, keep=frozenset({2}), val_threshold=0.5 if name == "b" else None)
        assert both[name].metrics == alone.metrics
        np.testing.assert_array_equal(both[name].examples[0].score_map, alone.examples[0].score_map)
    assert both["a"].metrics["PxAP"] != both["b"].metrics["PxAP"]


def test_areas_of_the_device_become_their_mean():
    data = split()
    areas = np.random.default_rng(3).random((COUNT, 2)).astype(np.float32)

    def localize(batch):
        found = localizer(data)(batch)["model"]
        measures = {"Insertion": areas[batch.index, 0], "Deletion": areas[batch.index, 1]}
        return {"model": dataclasses.replace(found, measures=measures)}

    found = evaluate(localize, batches(data, 3), Wanted(step=STEP, parts=True, bootstrap=20))["model"]
    expected = 100 * areas.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose([found.metrics["Insertion"], found.metrics["Deletion"]], expected, rtol=1e-7)
    assert {"Insertion", "Deletion"} <= found.intervals.keys() & next(iter(found.by_class.values())).keys()


def test_the_threshold_of_validation_gives_figures_of_its_own():
    data = split()
    plain, found = evaluated(data), evaluated(data, val_threshold=0.3004)
    added = {name: value for name, value in found.metrics.items() if name not in plain.metrics}
    assert found.metrics | plain.metrics == found.metrics
    position = int(np.argmin(np.abs(found.thresholds - 0.3004)))
    assert added["BoxAcc_at_val"] == found.curves["MaxBoxAcc"][position] <= plain.metrics["MaxBoxAcc"]
    assert added["top1_loc_at_val"] == found.curves["top1_loc"][position]


@pytest.mark.parametrize("size", [1, 4])
def test_constant_maps_are_counted(size):
    data = split()
    assert evaluated(data, size).constant == ()
    data[0][[2, 7]] = 0
    data[0][9] = 0.5
    assert evaluated(data, size).constant == ("2.png", "7.png", "9.png")


def test_without_ground_truth_the_classification_alone_is_measured():
    maps, logits, annotations = split()
    plain = [dataclasses.replace(one, boxes=None, mask=None, ignore=None) for one in annotations]
    found, located = evaluated((maps, logits, plain)), evaluated((maps, logits, annotations))
    assert found.metrics == {name: located.metrics[name] for name in ("top1_cls", "top5_cls")}
    assert found.images == COUNT and not found.curves and not found.by_size


def test_an_empty_split_is_an_error():
    with pytest.raises(InputError, match="no image that can be used"):
        evaluate(localizer(split()), iter(()), Wanted(step=STEP))


@pytest.mark.parametrize("position", [5, COUNT - 1])
def test_a_map_or_class_score_that_is_no_number_names_its_image(position):
    data = split()
    data[0][position, 3, 3] = np.nan
    with pytest.raises(InputError, match=rf"image {position}\.png: score map holds NaN"):
        evaluated(data)
    data = split()
    data[1][position, 2] = np.nan
    with pytest.raises(InputError, match=rf"image {position}\.png: a class score is NaN"):
        evaluated(data)


def test_bad_data_from_the_batches_is_passed_on():
    def broken():
        yield next(batches(split(), 4))
        raise InputError("bird.jpg is truncated")

    with pytest.raises(InputError, match="truncated"):
        evaluate(localizer(split()), broken(), Wanted(step=STEP))


def test_tasks_give_their_results_in_order_two_groups_at_a_time():
    made = []

    def groups():
        for start in range(0, 20, 5):
            made.append(start)
            yield [functools.partial(divmod, i, 3) for i in range(start, start + 5)]

    results = in_threads(groups(), 3)
    assert made == [] and next(results) == (0, 0) and made == [0, 5]
    assert list(results) == [divmod(i, 3) for i in range(1, 20)]


def test_tasks_of_a_group_run_at_the_same_time():
    barrier = threading.Barrier(3)
    assert sorted(in_threads([[functools.partial(barrier.wait, 20)] * 3], 3)) == [0, 1, 2]


def test_after_a_failure_the_tasks_that_wait_are_dropped():
    done = []

    def fail():
        raise InputError("unusable")

    def slow():
        time.sleep(0.01)
        done.append(1)

    with pytest.raises(InputError, match="unusable"):
        list(in_threads([[fail], [slow] * 100], 1))
    assert len(done) < 100
