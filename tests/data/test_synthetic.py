"""The embedded data set: repeatable, well annotated, and with its class in the mark alone."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from scipy import stats

from fcam_jax.data.synthetic import MARKS, SPLITS, Synthetic, SyntheticSource, render, tight_box
from fcam_jax.errors import InputError


def source(split="train", size=64, count=200, num_classes=8, seed=0) -> SyntheticSource:
    counts = {split: count} if split in SPLITS else {}
    return Synthetic(size=size, num_classes=num_classes, seed=seed, **counts).open(split)


def scene(index: int, label: int, size: int = 64):
    return render(np.random.default_rng((7, index)), label, size)


@pytest.fixture(scope="module")
def records():
    data = source()
    return [data[index] for index in range(len(data))]


@pytest.fixture(scope="module")
def scenes():
    """60 scenes of each of 4 classes, as (label, scene)."""
    return [(index % 4, scene(index, index % 4)) for index in range(240)]


@pytest.mark.slow
def test_record_has_image_label_id_box_and_mask(records):
    for record in records:
        assert record.image.shape == (64, 64, 3) and record.image.dtype == np.uint8
        assert record.boxes.shape == (1, 4) and record.mask.shape == (64, 64) and record.mask.dtype == bool
        assert 0 <= record.label < 8
        assert record.ignore is None
    assert len({record.image_id for record in records}) == len(records)


def test_images_use_the_range_of_eight_bits(records):
    pixels = np.stack([record.image for record in records])
    assert pixels.min() < 10 and pixels.max() > 245 and 80 < pixels.mean() < 150


def test_record_does_not_depend_on_order_of_access_length_or_global_state(records):
    np.random.seed(1)
    shorter = source(count=100)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(shorter.__getitem__, reversed(range(100))))[::-1]
    for one, other in zip(records, again, strict=False):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
        assert (one.label, one.image_id) == (other.label, other.image_id)


def test_splits_and_seeds_have_different_images():
    images = [source(split=split, seed=seed)[3].image.astype(int) for split in SPLITS for seed in (0, 1)]
    for first in range(len(images)):
        for second in range(first):
            assert abs(images[first] - images[second]).mean() > 10


def test_classes_are_balanced(records):
    np.testing.assert_array_equal(np.bincount([record.label for record in records]), 25)


def test_reading_past_the_end_stops_iteration():
    assert len(list(source(count=3))) == 3


def test_box_encloses_the_mask(records):
    for record in records:
        rows, columns = np.nonzero(record.mask)
        x, y, w, h = cv2.boundingRect(np.stack([columns, rows], 1).astype(np.int32))
        assert record.boxes[0].tolist() == [x, y, min(x + w, 63), min(y + h, 63)]


def test_box_of_a_mask_of_unequal_sides():
    mask = np.zeros((6, 9), bool)
    mask[2:4, 5:9] = True
    assert tight_box(mask).tolist() == [5, 2, 8, 4]


def test_body_is_one_object_of_moderate_size_mostly_inside_the_image(records):
    areas = np.array([record.mask.mean() for record in records])
    assert areas.min() > 0.09 and areas.max() < 0.45
    assert areas.std() > 0.05
    on_border = [m[0].any() or m[-1].any() or m[:, 0].any() or m[:, -1].any() for m in (r.mask for r in records)]
    assert 0.02 < np.mean(on_border) < 0.35
    assert all(cv2.connectedComponents(record.mask.astype(np.uint8))[0] == 2 for record in records)


def test_body_may_lie_anywhere(records):
    centres = np.array([(record.boxes[0, :2] + record.boxes[0, 2:]) / 2 for record in records])
    assert centres.std(0).min() > 6


@pytest.mark.slow
def test_mark_lies_inside_the_body_and_is_small(scenes):
    shares = []
    for _, drawn in scenes:
        assert (drawn.body[drawn.mark > 0] > 0.5).all()
        shares.append(drawn.mark.sum() / drawn.body.sum())
    assert max(shares) < 0.15 and min(shares) > 0.03 and np.mean(shares) < 0.1


def test_mark_may_be_anywhere_in_the_body(scenes):
    grid = np.mgrid[:64, :64]
    offsets = []
    for _, drawn in scenes:
        mark, body = ((grid * w).sum((1, 2)) / w.sum() for w in (drawn.mark, drawn.body))
        offsets.append((mark - body) / np.sqrt(drawn.body.sum() / np.pi))
    assert np.abs(np.mean(offsets, 0)).max() < 0.1
    assert np.std(offsets, 0).min() > 0.25


@pytest.mark.parametrize("label", range(1, len(MARKS)))
def test_classes_differ_in_the_pixels_of_the_mark_alone(label):
    first, second = scene(5, 0), scene(5, label)
    # The camera blurs over one pixel.
    near_mark = cv2.dilate((first.mark > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    changed = (first.image != second.image).any(-1)
    assert changed[first.mark > 0.9].mean() > 0.6
    assert not changed[~near_mark].any()


def test_colours_off_the_mark_do_not_tell_the_class(scenes):
    regions = {
        "body": lambda drawn: (drawn.body > 0.9) & (drawn.mark == 0),
        "background": lambda drawn: drawn.body == 0,
        "mark": lambda drawn: drawn.mark > 0.9,
    }

    def least_p(region):
        means = np.array([drawn.image[region(drawn)].mean(0) for _, drawn in scenes])
        spreads = np.array([drawn.image[region(drawn)].std(0) for _, drawn in scenes])
        labels = np.array([label for label, _ in scenes])
        features = np.concatenate([means, spreads], 1).T
        return min(stats.kruskal(*(row[labels == label] for label in range(4))).pvalue for row in features)

    assert least_p(regions["body"]) > 1e-3
    assert least_p(regions["background"]) > 1e-3
    assert least_p(regions["mark"]) < 1e-9


def test_background_is_rougher_than_the_body_but_their_colours_overlap(scenes):
    roughness, colours = [], []
    for _, drawn in scenes:
        gray = cv2.cvtColor(drawn.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        detail = np.abs(gray - cv2.GaussianBlur(gray, (0, 0), 2))
        inside = cv2.erode(drawn.body, np.ones((5, 5))) * (cv2.dilate(drawn.mark, np.ones((7, 7))) == 0) > 0.9
        outside = cv2.dilate(drawn.body, np.ones((5, 5))) == 0
        roughness.append((detail[inside].mean(), detail[outside].mean()))
        colours.append((drawn.image[inside].mean(0), drawn.image[outside].mean(0)))
    body, background = np.array(roughness).T
    assert np.mean(body < background) > 0.85
    inside_colours, outside_colours = np.array(colours).transpose(1, 0, 2)
    # No channel tells bodies from backgrounds over the data set.
    assert np.abs(inside_colours.mean(0) - outside_colours.mean(0)).max() < inside_colours.std(0).min()


@pytest.mark.parametrize("size", [32, 65, 224])
def test_other_sizes_keep_the_proportions(size):
    record = source(size=size)[1]
    assert record.image.shape == (size, size, 3)
    assert 0.05 < record.mask.mean() < 0.37
    assert record.boxes.max() < size


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"split": "dev"}, "unknown split.*'dev'.*test, train, val"),
        ({"count": 0}, "train is 0; it must be at least 1"),
        ({"size": 16}, "size is 16; it must be at least 32"),
        ({"num_classes": 1}, "num_classes is 1; it must lie between 2 and 12"),
        ({"num_classes": 200}, "num_classes is 200; it must lie between 2 and 12"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(InputError, match=message):
        source(**setting)
