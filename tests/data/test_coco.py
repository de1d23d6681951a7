"""COCO's files: where they lie, what becomes of boxes, categories and crowds, and how mistakes are told."""

import json
import shutil

import numpy as np
import pytest

from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts import coco_file
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.registry import locate, read, splits
from fcam_jax.errors import InputError


@pytest.fixture
def spoil(same_data):
    """Write the data set with another content of the training file, and open it."""

    def opened(change, split: str = "train", masks: bool = False, **options) -> FolderSource:
        shutil.rmtree(same_data.folder, ignore_errors=True)
        root = same_data.write("coco", masks)
        content = same_data.coco(split, masks)
        changed = change(content) or content
        path = root / f"annotations/instances_{split}2017.json"
        path.write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())
        coco_file._categories.cache_clear()
        return FolderSource(split=split, root=root, **options)

    return opened


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_{}2017.json", "images"),
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}.json", "images/{}"),
        ("annotations/{}.json", ""),
        ("{}.json", "{}"),
        ("{}/_annotations.coco.json", "{}"),
    ],
)
def test_files_and_images_are_found(same_data, annotations, images, tmp_path):
    root = same_data.write("coco")
    names = {"train": "train", "val": "valid" if "_annotations" in annotations else "val", "test": "test"}
    moved = tmp_path / "moved"
    for split, name in names.items():
        path = moved / annotations.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        (root / f"annotations/instances_{split}2017.json").rename(path)
        target = moved / images.format(name) / split
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / split).rename(target)
    assert splits(moved) == ("train", "val", "test")
    source = FolderSource(split="val", root=moved)
    assert [record.image_id for record in source] == [row[0] for row in same_data.images("val")]


def test_two_files_of_a_split_are_told(same_data):
    root = same_data.write("coco")
    shutil.copy(root / "annotations/instances_val2017.json", root / "annotations/instances_val2014.json")
    with pytest.raises(InputError, match=r"several files of split val, keep one: .*2014\.json, .*2017\.json"):
        splits(root)


@pytest.mark.parametrize(
    ("bbox", "corners"),
    [
        ([1, 2, 3, 4], [1, 2, 4, 6]),
        ([1.4, 1.5, 3, 4], [1, 2, 4, 6]),
        ([0.0, 0.0, 20.000001, 10.0], [0, 0, 20, 10]),
        ([-0.9, 0, 20, 10.9], [0, 0, 19, 10]),
        ([3.1, 3.1, 0.2, 0.2], [3, 3, 4, 4]),
        ([19.8, 9.8, 0.2, 0.2], [19, 9, 20, 10]),
        (["1.4", "2", 3, "4"], [1, 2, 4, 6]),
    ],
)
def test_corners_go_to_the_nearest_pixel(spoil, bbox, corners):
    assert spoil(first("annotations", bbox=bbox))[0].boxes.tolist() == [corners]


@pytest.mark.parametrize(
    "bbox",
    [
        None,
        "1 2 3 4",
        [1, 2, 3],
        [1, 2, 3, None],
        [1, 2, 3, True],
        [1, 2, 3, "1_0"],
        [1, 2, 3, "nan"],
        [1, 2, 3, float("nan")],
        [1, 2, 10**400, 3],
        [1, 2, 0, 4],
        [1, 2, -3, 4],
        [-1, 0, 5, 5],
        [1, 2, 20, 4],
        [20, 2, 0.5, 4],
    ],
)
def test_what_is_no_box_of_the_image_is_refused(spoil, bbox):
    with pytest.raises(InputError, match=r"annotations\[0\], train/ant/0 é\.png: b?box"):
        spoil(first("annotations", bbox=bbox))


def test_crowds_are_ignored_and_other_classes_are_no_ground_truth(spoil):
    def change(content):
        crowd = {"size": [10, 20], "counts": [100, 100]}
        content["images"][0]["label"] = "ant"
        content["annotations"] += [
            {"image_id": 100, "category_id": 7, "iscrowd": 1, "segmentation": crowd, "bbox": [0, 0, 5, 5]},
            {"image_id": 100, "category_id": 10, "segmentation": [[0, 0, 3, 0, 3, 3]], "bbox": [0, 0, 3, 3]},
        ]

    record = spoil(change, masks=True)[0]
    assert record.label == 0 and record.mask.sum() == 60 and record.boxes is None
    np.testing.assert_array_equal(record.ignore, np.arange(20)[None] >= np.full((10, 1), 10))


def test_boxes_are_used_alone_where_objects_lack_a_region(spoil):
    def change(content):
        for entry in content["annotations"][:2]:
            entry |= {"segmentation": [[0, 0, 3, 0, 3, 3]]}

    record = spoil(change)[0]
    assert record.mask is None and len(record.boxes) == 1


def test_an_image_may_state_its_class_without_an_object(spoil):
    def change(content):
        for image in content["images"]:
            image["category_id"] = 10
        content["annotations"] = []

    source = spoil(change)
    assert [record.label for record in source] == [1] * 3 and not source.truth


def first(kind: str, **values):
    return lambda content: content[kind][0].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: b'{\n"images": [,]}', "line 2: cannot be read as JSON: Expecting value, column 12"),
        (lambda _: b"\xff\xfe", "cannot be read as JSON: 'utf-8' codec"),
        (lambda _: b"[" * 100000, "cannot be read as JSON"),
        (lambda _: [1], "must be an object"),
        (lambda content: content.pop("images") and None, 'needs "images": a list of objects'),
        (first("categories", id="7_0"), "a category needs an integer id and a name"),
        (first("categories", name="fly"), "category 7 is 'ant', but 'fly' in"),
        (first("images", id=None), "images[0], train/ant/0 é.png: an image's id must be an integer or a text: None"),
        (first("images", id=101), "images[1], train/ant/2 é.png: its id or file_name is there more than once"),
        (first("images", file_name=3), "images[0], images[0]: file_name must be a text"),
        (first("images", file_name="../a.png"), "images[0], ../a.png: path that leads out of the image folder"),
        (first("images", file_name="train/z.png"), "train/z.png: no such file"),
        (first("images", width="2e1"), "width and height must both be positive integers: ('2e1', 10)"),
        (first("images", height=float("inf")), "width and height must both be positive integers: (20, inf)"),
        (first("images", category_id=8), "images[0], train/ant/0 é.png: unknown category 8"),
        (first("annotations", image_id=5), "annotations[0]: no image has the id 5"),
        (first("annotations", image_id=[5]), "annotations[0]: an image's id must be an integer or a text: [5]"),
        (first("annotations", category_id=8), "annotations[0], train/ant/0 é.png: unknown category 8"),
        (
            lambda content: content["annotations"].append(content["annotations"][0] | {"category_id": 10}),
            "images[0], train/ant/0 é.png: objects of several categories: ant, bee, honey",
        ),
        (first("annotations", image_id=101), "images[0], train/ant/0 é.png: no category: it has no object"),
        (first("annotations", iscrowd="yes"), "annotations[0]: iscrowd must be 0 or 1: 'yes'"),
        (first("annotations", category_id="1_0"), "annotations[0], train/ant/0 é.png: unknown category '1_0'"),
        (
            first("annotations", bbox=[1, 1, 0, 5]),
            "annotations[0], train/ant/0 é.png: box must have 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height of its "
            "image, as x y width height: [1.0, 1.0, 0.0, 5.0]",
        ),
        (lambda content: content["annotations"][0].pop("bbox") and None, "bbox: must be [x, y, width, height]: None"),
    ],
)
def test_a_mistake_is_told_with_its_place(spoil, change, words):
    with pytest.raises(InputError) as caught:
        spoil(change)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_image_with_a_broken_region_can_be_left_out(spoil):
    source = spoil(first("annotations", segmentation=[[1, 2]]), masks=True, on_error="skip")
    assert len(source) == 2 and "annotations[0]" in source.left_out[0] and "3 or more pairs" in source.left_out[0]


def test_evaluation_needs_an_object_in_every_image(spoil):
    def change(content):
        content["images"][0]["category_id"] = 7
        content["annotations"].pop(0)

    with pytest.raises(InputError, match=r"instances_val2017\.json: no box or mask of val/ant/0 é\.png"):
        spoil(change, "val")


def test_texts_for_numbers_are_read(spoil):
    def change(content):
        for entry in content["images"]:
            entry |= {"id": str(entry["id"]), "width": "20", "height": 10.0}
        for entry in content["annotations"]:
            entry |= {"category_id": str(entry["category_id"]), "image_id": float(entry["image_id"])}
            entry["bbox"] = list(map(str, entry["bbox"]))
        for entry in content["categories"]:
            entry["id"] = str(entry["id"])

    assert [record.label for record in spoil(change)] == [0, 0, 1]


@pytest.mark.parametrize("crowd", [0, "0", 0.0, False, None, "false", ""])
def test_no_crowd_has_many_spellings(spoil, crowd):
    assert spoil(first("annotations", iscrowd=crowd))[0].boxes is not None


@pytest.mark.parametrize("crowd", [1, "1", 1.0, True, "true"])
def test_a_file_of_crowds_alone_is_one_of_objects(spoil, crowd):
    def change(content):
        for entry in content["annotations"]:
            entry["iscrowd"] = crowd

    source = spoil(change, masks=True)
    assert len(source) == 3 and source[0].mask.sum() == 60 and source[0].ignore is None


def test_an_image_of_crowds_alone_has_their_class_but_no_object(spoil):
    record = spoil(first("annotations", iscrowd="1"))[0]
    assert record.label == 0 and record.boxes is None


def test_categories_of_one_name_are_one_class(spoil, same_data):
    def change(content):
        content["categories"] += [{"id": 20, "name": "ant"}, {"id": 3, "name": "fly"}]
        content["annotations"][0]["category_id"] = 20

    source = spoil(change)
    assert source.class_names == ("fly", "ant", "bee, honey") and source.labels().tolist() == [1, 1, 2]
    problems = Problems()
    read(locate(same_data.folder / "cocoFalse"), "train", 0, problems)
    assert any("categories of one name are one class: ant" in str(one) for one in problems.found)


def test_names_of_files_with_backslashes_are_read(spoil):
    def change(content):
        for entry in content["images"]:
            entry["file_name"] = entry["file_name"].replace("/", "\\")

    assert spoil(change)[0].image_id == "train/ant/0 é.png"


@pytest.mark.parametrize("none", [None, []])
def test_objects_may_have_masks_and_no_boxes(spoil, none):
    def change(content):
        for one in content["annotations"]:
            one["bbox"] = none

    assert spoil(change, "val", masks=True).truth == ("mask",)
