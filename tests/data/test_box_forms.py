"""Boxes as shares, as x y width height, and as numbers of other programs: in pixels, or one line with the cure."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.folder import Folder, FolderSource
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.registry import locate, read
from fcam_jax.errors import InputError

# Corners, and the same as x y width height, which are no corners in most cases.
CORNERS = [[10, 5, 18, 9], [2, 1, 6, 9], [12, 4, 20, 10], [11, 6, 15, 8]]
XYWH = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in CORNERS]
CENTRE = [[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0] for x0, y0, x1, y1 in CORNERS]
YX = [[y0, x0, y1, x1] for x0, y0, x1, y1 in CORNERS]


def shares(boxes):
    return [[round(n / (20, 10)[i % 2], 6) for i, n in enumerate(box)] for box in boxes]


def write(root: pathlib.Path, layout: str, boxes, sized: bool = True) -> pathlib.Path:
    """Images of 20 x 10 pixels of two classes for training, one box each."""
    pixels = np.zeros((10, 20, 3), np.uint8)
    for k in range(len(boxes)):
        (root / "images").mkdir(exist_ok=True)
        PIL.Image.fromarray(pixels + np.uint8(k)).save(root / f"images/{k}.png")
    size = {"width": 20, "height": 10} if sized else {}
    if layout == "coco":
        content = {
            "images": [{"id": k, "file_name": f"{k}.png", **size} for k in range(len(boxes))],
            "annotations": [{"image_id": k, "category_id": k % 2, "bbox": box} for k, box in enumerate(boxes)],
            "categories": [{"id": 0, "name": "owl"}, {"id": 1, "name": "wren"}],
        }
        (root / "train.json").write_text(json.dumps(content))
    elif layout == "jsonl":
        rows = [{"path": f"images/{k}.png", "label": k % 2, "boxes": [box], **size} for k, box in enumerate(boxes)]
        (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        folder = root / "metadata/train"
        folder.mkdir(parents=True)
        names = [f"{k}.png" for k in range(len(boxes))]
        (folder / "image_ids.txt").write_text("\n".join(names))
        (folder / "class_labels.txt").write_text("\n".join(f"{name},{k % 2}" for k, name in enumerate(names)))
        (folder / "image_sizes.txt").write_text("\n".join(f"{name},20,10" for name in names))
        lines = (",".join(map(str, (name, *box))) for name, box in zip(names, boxes, strict=True))
        (folder / "localization.txt").write_text("\n".join(lines))
    return root


def found(root: pathlib.Path, **options) -> list[list[int]]:
    source = FolderSource(split="train", root=root, **options)
    return [record.boxes.tolist()[0] for record in source]


@pytest.mark.parametrize(
    ("layout", "boxes", "form"),
    [
        ("coco", XYWH, ""),
        ("coco", CORNERS, "corners"),
        ("coco", CENTRE, "centre"),
        ("coco", shares(XYWH), ""),
        ("coco", shares(CORNERS), "corners"),
        ("jsonl", CORNERS, ""),
        ("jsonl", XYWH, "xywh"),
        ("jsonl", shares(CORNERS), ""),
        ("jsonl", shares(CENTRE), "centre"),
        ("jsonl", [[n + 0.4 for n in box] for box in CORNERS], ""),
        ("jsonl", YX, "yx"),
        ("jsonl", [[n / (10, 20)[i % 2] for i, n in enumerate(box)] for box in YX], "yx"),
        ("wsol", CORNERS, ""),
        ("wsol", XYWH, "xywh"),
    ],
)
def test_boxes_are_brought_to_pixels(tmp_path, layout, boxes, form):
    assert found(write(tmp_path, layout, boxes), boxes=form) == CORNERS


@pytest.mark.parametrize("layout", ["coco", "jsonl"])
def test_shares_are_told(tmp_path, layout):
    problems = Problems()
    read(locate(write(tmp_path, layout, shares(XYWH)), boxes="xywh"), "train", 0, problems)
    assert any("shares of the image" in str(problem) for problem in problems.found)


def test_shares_without_sizes_are_refused(tmp_path):
    with pytest.raises(InputError, match="boxes are shares of the image; they need its width and height"):
        found(write(tmp_path, "coco", shares(XYWH), sized=False))


def test_a_manifest_without_sizes_takes_them_from_the_images(tmp_path):
    assert found(write(tmp_path, "jsonl", shares(CORNERS), sized=False)) == CORNERS
    with pytest.raises(InputError, match=r"but all are as x y width height: --config\.data\.folder\.boxes=xywh$"):
        found(write(tmp_path, "jsonl", XYWH, sized=False))


@pytest.mark.parametrize(
    ("parts", "told"), [(100, "in shares of 1/100; they must be in pixels"), (1000, "in shares of 1/1000")]
)
@pytest.mark.parametrize("layout", ["coco", "jsonl"])
def test_shares_of_other_units_are_told(tmp_path, layout, parts, told):
    boxes = [[parts * n for n in box] for box in shares(XYWH if layout == "coco" else CORNERS)]
    problems = Problems()
    read(locate(write(tmp_path, layout, boxes)), "train", 0, problems)
    assert any(told in str(problem) for problem in problems.found)


@pytest.mark.parametrize(
    ("layout", "boxes", "cure"),
    [
        ("coco", CORNERS, "corners"),
        ("jsonl", XYWH, "xywh"),
        ("wsol", XYWH, "xywh"),
        ("coco", CENTRE, "centre"),
        ("jsonl", YX, "yx"),
    ],
)
def test_boxes_of_another_form_are_one_line_with_the_cure(tmp_path, layout, boxes, cure):
    if cure == "centre":
        boxes = [[16, 5, 8, 8], [14, 7, 10, 6]]
    root = write(tmp_path, layout, boxes)
    with pytest.raises(
        InputError, match=rf"of \d boxes are none of their image.*--config\.data\.folder\.boxes={cure}$"
    ):
        found(root)
    with pytest.raises(InputError, match=r"^boxes is 'yxhw'"):
        Folder(root=str(root), boxes="yxhw")


def test_one_wrong_box_among_many_is_an_error_of_its_image(tmp_path):
    root = write(tmp_path, "jsonl", [*CORNERS * 5, [18, 5, 2, 9]])
    with pytest.raises(InputError, match=r"images/20\.png: box must have"):
        found(root)
    assert len(found(root, on_error="skip")) == 20
