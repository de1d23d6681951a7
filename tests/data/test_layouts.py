"""One data set in every layout gives the same records; which layout a folder has; what is left out."""

import hashlib
import json

import numpy as np
import pytest

from fcam_jax.data.folder import Folder, FolderSource
from fcam_jax.data.layouts.registry import splits
from fcam_jax.errors import InputError

LAYOUTS = ("wsol", "csv", "jsonl", "coco", "classes")


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_records(same_data, layout, masks):
    root = same_data.write(layout, masks)
    assert splits(root) == ("train", "val", "test")
    for split in ("train", "val", "test"):
        source = FolderSource(split=split, root=root)
        expected = same_data.images(split)
        assert [(record.image_id, record.label) for record in source] == [row[:2] for row in expected]
        assert source.class_names == same_data.classes and source.num_classes == 2 and source.left_out == ()
        lines = "".join(f"{name},{label}\n" for name, label, _ in expected)
        assert source.fingerprint == hashlib.sha256(lines.encode()).hexdigest()
        assert bool(source.truth) == (layout != "classes")
        for record, (_, _, (x0, y0, x1, y1)) in zip(source, expected, strict=True):
            assert record.image.shape == (10, 20, 3)
            if layout == "classes":
                assert record.boxes is None and record.mask is None
            elif masks:
                filled = np.zeros((10, 20), bool)
                filled[y0:y1, x0:x1] = True
                np.testing.assert_array_equal(record.mask, filled)
            else:
                assert record.boxes.tolist() == [[x0, y0, x1, y1]] and record.mask is None


def test_a_folder_with_two_layouts_needs_one_named(same_data):
    root = same_data.write("wsol")
    (root / "manifest.jsonl").write_text(json.dumps({"path": "images/" + same_data.images("train")[0][0], "label": 0}))
    with pytest.raises(InputError, match=r"has the layouts wsol, manifest; name one: --config\.data\.layout=wsol"):
        splits(root)
    assert splits(root, "manifest") == ("train",) and len(splits(root, "wsol")) == 3
    with pytest.raises(InputError, match=r"has no split 'val'; it has: train$"):
        FolderSource(split="val", root=root, layout="manifest")
    with pytest.raises(
        InputError, match=r"unknown layout 'imagenet'; known: classes, coco, cub, manifest, voc, wsol, yolo"
    ):
        splits(root, "imagenet")
    with pytest.raises(InputError, match=r"no split of layout 'coco' there"):
        splits(root, "coco")


def test_a_folder_without_a_data_set_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no data set"):
        splits(tmp_path)
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        splits(tmp_path / "nowhere")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_number_of_classes_is_checked_and_may_be_larger(same_data, layout):
    root = same_data.write(layout)
    assert FolderSource(split="test", root=root, num_classes=2).class_names == same_data.classes
    larger = FolderSource(split="test", root=root, num_classes=9)
    assert larger.num_classes == 9 and larger.class_names == (
        None if layout == "wsol" else (*same_data.classes, *[""] * 7)
    )
    with pytest.raises(InputError, match=r"data\.num_classes"):
        FolderSource(split="test", root=root, num_classes=1)


@pytest.mark.parametrize("layout", ["wsol", "csv", "jsonl", "coco"])
def test_images_with_an_error_are_left_out_and_told(same_data, layout):
    root = same_data.write(layout)
    gone = same_data.images("train")[1][0]
    next(root.rglob(gone)).unlink()
    with pytest.raises(InputError, match=r"1 é\.png: no such file$|2 é\.png: no such file$"):
        FolderSource(split="train", root=root)
    source = FolderSource(split="train", root=root, on_error="skip")
    assert len(source) == 2 and len(source.left_out) == 1 and gone in source.left_out[0]
    assert gone not in [record.image_id for record in source]
    with pytest.raises(InputError, match=r"^on_error is 'ignore'; known: fail, skip"):
        Folder(root=str(root), on_error="ignore")


def test_upright_images_have_another_fingerprint(same_data):
    root = same_data.write("csv")
    as_stored, upright = (FolderSource(split="val", root=root, upright=turned) for turned in (False, True))
    assert as_stored.fingerprint != upright.fingerprint
