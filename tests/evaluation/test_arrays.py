"""The public function on arrays: golden figures, closed forms, every mistake in one line with argument and index."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation import evaluate_arrays

N, SIDE = 4, 20


def rectangle(x0, y0, x1, y1):
    """A map of ones whose contour box is the given one."""
    score_map = np.zeros((SIDE, SIDE))
    score_map[y0:y1, x0:x1] = 1
    return score_map


@pytest.fixture
def maps():
    return np.random.default_rng(0).random((N, SIDE, SIDE))


@pytest.fixture
def boxes():
    return np.array([[2, 3, 10, 12], [0, 0, 5, 5], [4, 4, 19, 19], [1, 2, 20, 20]])


@pytest.mark.slow
def test_boxes_and_classes_are_the_reference_programs(shared):
    golden = np.load(shared / "golden/evaluation/boxeval224.npz")
    truths = np.split(golden["resized_boxes"], np.cumsum(golden["box_count"])[:-1])
    found = evaluate_arrays(
        list(golden["maps"]), boxes=truths, labels=golden["targets"], predictions=golden["preds_ordered"]
    )
    assert found.metrics["MaxBoxAcc"] == pytest.approx(golden["max_p001_single"][1], abs=1e-12)
    assert found.metrics["MaxBoxAccV2"] == pytest.approx(golden["max_p001_multi"].mean(), abs=1e-12)
    assert found.metrics["top1_loc"] == pytest.approx(golden["maxtop1_p001_single"][1], abs=1e-12)
    assert found.metrics["top5_loc"] == pytest.approx(golden["maxtop5_p001_single"][1], abs=1e-12)
    assert found.best_thresholds["MaxBoxAcc"] == golden["besttau_p001_single"][1]
    np.testing.assert_allclose(found.curves["MaxBoxAcc"], 100 * golden["numcorrect_p001_single"][1] / 24)
    hits = golden["preds_ordered"][:, :1] == golden["targets"][:, None]
    assert found.metrics["top1_cls"] == pytest.approx(100 * hits.mean())


def test_masks_are_the_reference_programs(shared):
    golden = np.load(shared / "golden/evaluation/maskeval.npz")
    truth = golden["gt_mask"]
    found = evaluate_arrays(golden["maps"], masks=truth == 1, ignore=(truth == 255).astype(np.uint8))
    assert found.metrics == {"PxAP": pytest.approx(float(golden["pxap_p001"]), abs=1e-10)}


def test_low_resolution_maps_are_the_reference_programs(shared):
    golden = np.load(shared / "golden/evaluation/cam_upsample.npz")
    low = golden["low_14"]
    truth = np.tile([60, 60, 160, 160], (len(low), 1))
    enlarged = [cv2.resize(one.astype(np.float64), (224, 224), interpolation=cv2.INTER_CUBIC) for one in low]
    enlarged = [(one - one.min()) / (one - one.min()).max() for one in enlarged]
    assert evaluate_arrays(low, boxes=truth, size=224).metrics == evaluate_arrays(enlarged, boxes=truth).metrics
    mask = np.zeros((len(low), 224, 224), bool)
    mask[:, 60:160, 60:160] = True  # the frame is then that of the masks
    assert evaluate_arrays(low, masks=mask).metrics == evaluate_arrays(enlarged, masks=mask).metrics


def test_boxes_are_inclusive_pixel_corners():
    found = evaluate_arrays([rectangle(0, 0, 6, 9)], boxes=[[0, 0, 9, 9]], threshold_step=0.1)  # 70 of 100 pixels
    assert found.metrics["BoxAccV2_70"] == 100
    found = evaluate_arrays([rectangle(0, 0, 6, 8)], boxes=[[0, 0, 9, 9]], threshold_step=0.1)
    assert found.metrics["BoxAccV2_70"] == 0


@pytest.mark.parametrize(
    "convert",
    [
        lambda boxes: boxes.tolist(),
        lambda boxes: boxes[:, None],
        lambda boxes: [[box.tolist()] for box in boxes],
        lambda boxes: boxes.astype(np.float32),
        lambda boxes: [boxes[0], boxes[1:2], *boxes[2:].tolist()],
    ],
)
def test_one_box_an_image_may_come_in_any_form(maps, boxes, convert):
    assert evaluate_arrays(maps, boxes=convert(boxes)).metrics == evaluate_arrays(maps, boxes=boxes).metrics


@pytest.mark.parametrize("convert", [list, lambda maps: maps[..., None], lambda maps: [one[..., None] for one in maps]])
def test_maps_may_be_lists_or_have_a_channel(maps, boxes, convert):
    masks = maps > 0.7
    expected = evaluate_arrays(maps, boxes=boxes, masks=masks).metrics
    assert evaluate_arrays(convert(maps), boxes=boxes, masks=convert(masks.astype(float))).metrics == expected
    assert {"MaxBoxAcc", "PxAP"} <= expected.keys()


def test_maps_of_different_sizes_have_frames_of_their_own():
    maps, boxes = [rectangle(2, 3, 10, 12), rectangle(2, 3, 10, 12)[:15, :18]], [[2, 3, 10, 12]] * 2
    assert evaluate_arrays(maps, boxes=boxes).metrics["MaxBoxAcc"] == 100


def test_classes_by_logits_or_predictions(maps, boxes):
    labels = np.array([0, 1, 2, 3])
    logits = np.array([[9, 1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 5, 6, 7], [3, 2, 1, 0, 0, 0, 0], [1, 2, 3, 4, 0, 0, 0]])
    found = evaluate_arrays(maps, boxes=boxes, labels=labels, logits=logits).metrics
    assert (found["top1_cls"], found["top5_cls"]) == (50, 75)
    order = np.argsort(-logits, axis=1, kind="stable")
    assert evaluate_arrays(maps, boxes=boxes, labels=labels, predictions=order).metrics == found
    first = evaluate_arrays(maps, boxes=boxes, labels=labels, predictions=order[:, 0])
    assert first.metrics == {name: value for name, value in found.items() if not name.startswith("top5")}
    assert not [name for name in (*first.curves, *first.best_thresholds) if name.startswith("top5")]
    alone = evaluate_arrays(maps, labels=labels, logits=logits)
    assert alone.metrics == {"top1_cls": 50, "top5_cls": 75} and set(alone.by_class) == {0, 1, 2, 3}


def test_extras_intervals_and_a_table(maps, boxes):
    found = evaluate_arrays(maps, boxes=boxes, also="PointingGame, MeanBestIoU", bootstrap=50)
    assert {"PointingGame", "MeanBestIoU"} <= found.metrics.keys() == found.intervals.keys()
    lines = str(found).splitlines()
    assert lines[0] == "4 images" and lines[3].split()[:2] == ["MaxBoxAcc", f"{found.metrics['MaxBoxAcc']:.2f}"]
    assert lines[3].endswith("(best)") and found.by_class == {}


def test_maps_beyond_the_range_are_scaled_where_that_is_asked_for(maps, boxes):
    unit = np.stack([(one - one.min()) / (one - one.min()).max() for one in maps])
    assert evaluate_arrays(8 * unit - 4, boxes=boxes, minmax=True).metrics == evaluate_arrays(unit, boxes=boxes).metrics


def spoiled(maps, value):
    maps = maps.copy()
    maps[2, 0, 0] = value
    return maps


GOOD = {"boxes": [[1, 1, 5, 5]] * N}
CORNERS = "boxes must be corners x0, y0, x1, y1 in whole pixels, the last ones included, of a frame of 20 x 20 pixels"


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda m: spoiled(m, np.nan), GOOD, "maps[2]: holds NaN or infinity"),
        (lambda m: (255 * m).astype(np.uint8), GOOD, "maps[0]: holds uint8, must be floating point in [0, 1]"),
        (lambda m: spoiled(m, 3.5), GOOD, "maps[2]: lies in ["),
        (lambda m: [], GOOD, "maps is empty: there is nothing to evaluate"),
        (lambda m: m[:0], GOOD, "maps is empty: there is nothing to evaluate"),
        (lambda m: m[0], {"boxes": [[1, 1, 5, 5]]}, "maps has shape (20, 20), a single image's; give [n, h, w]"),
        (lambda m: [m[0], m[1, 0], *m[2:]], GOOD, "maps[1] has shape (20,), must be (height, width)"),
        (lambda m: 3, GOOD, "maps is int; give an array or a list"),
        (None, {}, "there is nothing to measure by: give boxes or masks, or labels with logits"),
        (None, {"labels": [0] * N}, "there is nothing to measure by"),
        (None, {"boxes": [[1, 1, 5, 5]] * 3}, "boxes has 3 entries, maps 4"),
        (None, {"boxes": [[1, 1, 5, 5]] * 3 + [[1, 1, 5]]}, "boxes[3] is no list of boxes"),
        (None, {"boxes": [[1, 1, 5, 5]] * 3 + [[]]}, "boxes[3] is empty; an image without an object has None"),
        (None, {"boxes": [[1, 1, 5, 5]] * 3 + [[1, 1, 21, 5]]}, f"boxes[3] holds [1, 1, 21, 5]; {CORNERS}"),
        (None, {"boxes": [[-1, 1, 5, 5]] * N}, f"boxes[0] holds [-1, 1, 5, 5]; {CORNERS}"),
        (None, {"boxes": [[20, 1, 20, 5]] * N}, f"boxes[0] holds [20, 1, 20, 5]; {CORNERS}"),
        (None, {"boxes": [[0.1, 0.1, 0.5, 0.9]] * N}, f"boxes[0] holds [0.1, 0.1, 0.5, 0.9]; {CORNERS}"),
        (None, {"boxes": [[0.0, 0.0, 1.0, 1.0]] * N}, f"boxes[0] holds [0, 0, 1, 1]; {CORNERS}"),
        (None, {"boxes": [[1.5, 1, 5, 5]] * N}, f"boxes[0] holds [1.5, 1, 5, 5]; {CORNERS}"),
        (None, {"boxes": [[12, 1, 5, 5]] * N}, f"boxes[0] holds [12, 1, 5, 5]; {CORNERS}"),
        (None, {"boxes": [[1, 1, np.nan, 5]] * N}, f"boxes[0] holds [1, 1, nan, 5]; {CORNERS}"),
        (None, {**GOOD, "labels": [0, 1, 2, 7], "logits": np.zeros((N, 5))}, "labels[3] is 7; logits are of 5 classes"),
        (None, {**GOOD, "labels": [0, 1, -2, 3]}, "labels[2] is -2; classes count from 0"),
        (None, {**GOOD, "labels": [0.5] * N}, "labels is float64 of shape (4,)"),
        (None, {**GOOD, "labels": [0] * 3}, "labels has 3 entries, maps 4"),
        (None, {**GOOD, "logits": np.zeros((N, 5))}, "logits: give labels with either logits or predictions"),
        (None, {**GOOD, "labels": [0] * N, "logits": np.full((N, 5), np.nan)}, "logits[0] holds NaN"),
        (None, {**GOOD, "labels": [0] * N, "logits": [0.0] * N}, "logits is float64 of shape (4,)"),
        (None, {**GOOD, "labels": [0] * N, "predictions": [[0, 1]] * 3 + [[2, 2]]}, "predictions[3] is [2, 2]"),
        (None, {"masks": np.zeros((N, SIDE, SIDE))}, "masks holds no pixel of an object in any image"),
        (
            None,
            {"masks": np.full((N, SIDE, SIDE), 255)},
            "masks[0] holds 255; it must be bool, or 0 and 1, e.g. masks > 0",
        ),
        (None, {"masks": np.ones((N, SIDE))}, "masks has shape (4, 20), a single image's"),
        (
            None,
            {"masks": np.ones((N, 5, 5)), "size": SIDE},
            "masks[0] has 5 x 5 pixels, the frame of evaluation 20 x 20",
        ),
        (None, {**GOOD, "ignore": np.ones((N, SIDE, SIDE))}, "ignore needs masks"),
        (None, {**GOOD, "size": 0}, "size is 0; it must be a number of pixels, or height and width"),
        (None, {**GOOD, "threshold_step": 0.0}, "threshold_step is 0.0; it must lie in (0, 1]"),
        (None, {**GOOD, "also": "Pointing"}, "also names 'Pointing'; known: MeanBestIoU, PointingGame"),
        (None, {**GOOD, "bootstrap": -1}, "bootstrap is -1; it must be at least 0"),
    ],
)
def test_a_mistake_is_one_line_with_argument_and_index(maps, change, arguments, message):
    with pytest.raises(InputError) as error:
        evaluate_arrays(maps if change is None else change(maps), **arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_map_outside_of_the_range_is_told_of_minmax(maps):
    with pytest.raises(InputError, match="minmax makes each map's own"):
        evaluate_arrays(3 * maps, **GOOD)


def test_boxes_in_another_frame_than_low_resolution_maps_are_told_of_size(maps):
    with pytest.raises(InputError, match=r"of a frame of 20 x 20 pixels: .* size= is another frame"):
        evaluate_arrays(maps, boxes=[[30, 40, 100, 120]] * N)
    assert evaluate_arrays(maps, boxes=[[30, 40, 100, 120]] * N, size=224).images == N


@pytest.mark.slow
def test_jax_is_not_loaded():
    code = "import sys; from fcam_jax.evaluation import evaluate_arrays; assert 'jax' not in sys.modules, 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_images_without_an_object_count_for_classification_alone(maps, boxes, caplog):
    labels, logits = np.array([0, 1, 0, 1]), np.eye(2)[[0, 1, 1, 1]]
    some = evaluate_arrays(maps[:2], boxes=boxes[:2], labels=labels[:2], logits=logits[:2], bootstrap=5)
    found = evaluate_arrays(maps, boxes=[*boxes[:2], None, None], labels=labels, logits=logits, bootstrap=5)
    assert found.metrics == some.metrics | {"top1_cls": 75.0} and found.images == 4 and found.without_object == 2
    assert str(found).startswith("4 images, 2 of them without an object")
    assert "2 image(s) without an object count for classification alone" in caplog.text
    assert sum(part["images"] for part in found.by_size.values()) == 2
    masks = [maps[0] > 0.5, None, maps[2] > 0.5, None]
    assert evaluate_arrays(maps, masks=masks).metrics == evaluate_arrays(maps[[0, 2]], masks=masks[::2]).metrics


def test_masks_without_a_background_are_told(caplog):
    maps = np.random.default_rng(0).random((2, 6, 8))
    some, whole = np.zeros((6, 8), bool), np.ones((6, 8), bool)
    some[2:] = True
    for ignore, told in (([whole, whole], True), ([some, whole], False)):
        caplog.clear()
        found = evaluate_arrays(maps, masks=[some, some], ignore=ignore)
        assert (found.metrics["PxAP"] == 100) == ("leave no background: PxAP is 100" in caplog.text) == told


@pytest.mark.parametrize(
    ("shape", "told"),
    [((20, 30), ""), ((30, 20), "turned"), ((10, 15), ""), ((12, 8), "turned"), ((20, 21), "another")],
)
def test_maps_of_another_aspect_than_their_masks_are_told(shape, told, caplog):
    rng, mask = np.random.default_rng(0), np.zeros((20, 30), bool)
    mask[5:9, 20:28] = True
    maps = [rng.random(shape), *rng.random((2, 20, 30))]
    assert evaluate_arrays(maps, masks=[mask] * 3).images == 3
    assert (told in caplog.text) if told else not caplog.text
    if told == "turned":
        with pytest.raises(InputError, match=r"3 of 3 maps have the aspect of the image turned; .* \(maps\[0\]: "):
            evaluate_arrays(rng.random((3, *shape)), masks=[mask] * 3)


def test_boxes_that_fit_turned_maps_say_so(maps):
    with pytest.raises(InputError, match=r"of a frame of 20 x 40 pixels: maps are \[n, height, width\], "):
        evaluate_arrays(np.random.default_rng(0).random((1, 40, 20)), boxes=[[25, 3, 38, 12]])
