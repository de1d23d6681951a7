"""Classes as folders of images."""

import shutil

import pytest

from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts.registry import splits
from fcam_jax.errors import InputError


def test_all_folders_are_classes_for_training_where_none_is_a_split(same_data):
    root = same_data.write("classes") / "train"
    assert splits(root) == ("train",)
    source = FolderSource(split="train", root=root)
    assert [(record.image_id, record.label) for record in source] == [
        ("ant/0 é.png", 0),
        ("ant/2 é.png", 0),
        ("bee, honey/1 é.png", 1),
    ]
    with pytest.raises(InputError, match=r"has no split 'val'; it has: train$"):
        FolderSource(split="val", root=root)


def test_a_class_may_be_called_as_a_split(same_data):
    root = same_data.write("classes") / "train"
    (root / "ant").rename(root / "train")
    source = FolderSource(split="train", root=root)
    assert source.class_names == ("bee, honey", "train")


def test_validation_may_be_called_valid(same_data):
    root = same_data.write("classes")
    (root / "val").rename(root / "valid")
    assert splits(root) == ("train", "val", "test")
    assert FolderSource(split="val", root=root)[0].image_id == "valid/ant/0 é.png"


def test_hidden_and_other_files_are_left_alone_and_deeper_folders_are_not(same_data):
    root = same_data.write("classes")
    (root / "train/ant/notes.txt").touch()
    (root / "train/ant/.thumbs").mkdir()
    shutil.copy(root / "train/ant/0 é.png", root / "train/ant/.thumbs/0.png")
    (root / "train/.hidden").mkdir()
    (root / "train/cat").mkdir()
    (root / "train/ant/deep").mkdir()
    shutil.copy(root / "train/ant/0 é.png", root / "train/ant/deep/9.PNG")
    source = FolderSource(split="train", root=root)
    assert [record.image_id for record in source if record.label == 0][-1] == "train/ant/deep/9.PNG"
    assert len(source) == 4 and source.class_names == same_data.classes


def test_a_class_that_training_lacks_is_told(same_data):
    root = same_data.write("classes")
    (root / "test/cat").mkdir()
    shutil.copy(root / "test/ant/0 é.png", root / "test/cat/0.png")
    with pytest.raises(InputError, match=r"test/cat/0\.png: the training images have no class cat"):
        FolderSource(split="test", root=root)
    source = FolderSource(split="test", root=root, on_error="skip")
    assert len(source) == 2 and len(source.left_out) == 1
    assert source.class_names == FolderSource(split="train", root=root).class_names == (*same_data.classes, "cat")
