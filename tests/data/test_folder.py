"""Data sets in a folder: what is read, and the one line that each mistake in them gets."""

import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.folder import Folder, FolderSource
from fcam_jax.data.layouts.wsol import read_metadata
from fcam_jax.errors import InputError


def complaint(dataset, **options) -> str:
    with pytest.raises(InputError) as caught:
        dataset.open(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_records_hold_what_the_files_say(dataset):
    source = dataset.open()
    assert len(source) == 3 and source.num_classes == 2
    for number in range(3):
        np.testing.assert_array_equal(source[number].image, dataset.pixels(number))
    assert [source[n].image_id for n in range(3)] == ["a/1.png", "a/2 second.png", "b/3.png"]
    assert [source[n].label for n in range(3)] == [0, 0, 1]
    assert [source[n].boxes.tolist() for n in range(3)] == [
        [[0, 0, 12, 8], [2, 2, 11, 7]],
        [[1, 2, 3, 4]],
        [[5, 5, 6, 6]],
    ]
    assert source[0].mask is None and source[0].ignore is None


def test_it_can_be_iterated_and_ends(dataset):
    assert len(list(dataset.open())) == 3


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.removesuffix("\n"),
        lambda text: text + "\n \n",
        lambda text: "\ufeff" + text,
    ],
)
def test_line_ends_and_encoding_marks_do_not_matter(dataset, spell):
    expected = [record.boxes.tolist() for record in dataset.open()]
    dataset.files = {name: spell(text) for name, text in dataset.files.items()}
    assert [record.boxes.tolist() for record in dataset.open()] == expected


def test_the_order_of_lines_is_that_of_the_image_ids(dataset):
    expected = [(record.label, record.image_id) for record in dataset.open()]
    for name in ("class_labels.txt", "image_sizes.txt"):
        lines = dataset.files[name].splitlines()
        dataset.files[name] = "\n".join(reversed(lines))
    assert [(record.label, record.image_id) for record in dataset.open()] == expected


def test_an_id_may_hold_a_comma(dataset):
    (dataset.root / "images/b/3.png").rename(dataset.root / "images/b/3,x.png")
    dataset.files = {name: text.replace("b/3.png", "b/3,x.png") for name, text in dataset.files.items()}
    assert dataset.open()[2].image_id == "b/3,x.png"


def test_missing_folders_are_named(dataset):
    assert complaint(dataset, root=dataset.root / "nowhere").startswith(f"{dataset.root / 'nowhere'}: no such folder")
    assert complaint(dataset, split="validation").endswith("metadata: has no split 'validation'; it has: test")
    with pytest.raises(InputError, match=r"^root is empty"):
        Folder()


@pytest.mark.parametrize("name", ["image_ids.txt", "class_labels.txt", "image_sizes.txt"])
def test_a_missing_metadata_file_is_named(dataset, name):
    del dataset.files[name]
    assert complaint(dataset).endswith(f"test/{name}: cannot be read: No such file or directory")


@pytest.mark.parametrize("name", ["class_labels.txt", "image_sizes.txt", "localization.txt"])
def test_an_id_without_its_line_is_named(dataset, name):
    kept = [line for line in dataset.files[name].splitlines() if not line.startswith("b/3.png")]
    dataset.files[name] = "\n".join(kept)
    missing = (
        "no box or mask of b/3.png (allowed by --config.data.folder.unlocalized=allow)"
        if name == "localization.txt"
        else "no line for b/3.png, which image_ids.txt lists"
    )
    assert complaint(dataset).endswith(f"{name}: {missing}")


@pytest.mark.parametrize("name", ["class_labels.txt", "image_sizes.txt", "localization.txt"])
def test_an_id_that_only_one_file_has_is_named(dataset, name):
    dataset.files[name] += dataset.files[name].splitlines()[0].replace("a/1.png", "a/9.png")
    assert complaint(dataset).endswith("image_ids.txt does not list a/9.png") and f"{name}, line " in complaint(dataset)


def test_of_many_problems_the_first_is_told_and_the_others_counted(dataset):
    dataset.files["class_labels.txt"] += "".join(f"x/{number}.png,0\n" for number in range(25))
    assert complaint(dataset).endswith(
        "class_labels.txt, line 4: image_ids.txt does not list x/0.png "
        f"(and 24 more; fcam check --root={dataset.root} lists them)"
    )


@pytest.mark.parametrize("name", ["image_ids.txt", "class_labels.txt", "image_sizes.txt"])
def test_an_id_that_is_there_twice_is_named(dataset, name):
    dataset.files[name] += dataset.files[name].splitlines()[0]
    assert complaint(dataset).endswith(f"{name}, line 4: a/1.png is there more than once")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("b/3.png,two", "class_labels.txt, line 3: label is not an integer: 'b/3.png,two'"),
        ("b/3.png,1.0", "label is not an integer: 'b/3.png,1.0'"),
        ("b/3.png,", "label is not an integer: 'b/3.png,'"),
        ("b/3.png,99999999999", "label is not an integer: 'b/3.png,99999999999'"),
        ("b/3.png,2", "class_labels.txt, line 3: label must be in [0, 2), by data.num_classes: 'b/3.png,2'"),
        ("b/3.png,-1", "label must be in [0, 2), by data.num_classes: 'b/3.png,-1'"),
        ("b/3.png", "class_labels.txt, line 3: expected an id and 1 field(s): 'b/3.png'"),
        ("\nb/3.png,x", "class_labels.txt, line 4: label is not an integer: 'b/3.png,x'"),
    ],
)
def test_a_bad_label_is_shown_with_its_line(dataset, line, words):
    dataset.files["class_labels.txt"] = dataset.files["class_labels.txt"].replace("b/3.png,1", line)
    assert complaint(dataset).endswith(words)


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        ("-1,5,6,6", "box must have 0 <= x0 < x1 <= width"),
        ("5,-1,6,6", "0 <= y0 < y1 <= height of its image"),
        ("5,5,13,6", "box must have"),
        ("5,5,6,9", "box must have"),
        ("6,5,6,6", "box must have"),
        ("5,6,6,6", "box must have"),
        ("6,5,5,6", "box must have"),
        ("5,5,6,x", "box corner is not an integer"),
        ("5,5,6,nan", "box corner is not an integer"),
    ],
)
def test_a_bad_box_is_shown_with_its_line(dataset, corners, words):
    dataset.files["localization.txt"] = dataset.files["localization.txt"].replace("5,5,6,6", corners)
    message = complaint(dataset)
    assert words in message
    assert "localization.txt, line 3: " in message and message.endswith(f"'b/3.png,{corners}'")


def test_a_box_line_with_too_few_corners_is_shown(dataset):
    dataset.files["localization.txt"] = dataset.files["localization.txt"].replace("b/3.png,5,5,6,6", "b/3.png,5,6")
    assert complaint(dataset).endswith("localization.txt, line 3: expected an id and 4 field(s): 'b/3.png,5,6'")


def test_a_box_may_touch_the_far_edges(dataset):
    np.testing.assert_array_equal(dataset.open()[0].boxes[0], [0, 0, 12, 8])


def test_a_size_must_be_positive(dataset):
    dataset.files["image_sizes.txt"] = dataset.files["image_sizes.txt"].replace("b/3.png,12,8", "b/3.png,12,0")
    assert complaint(dataset).endswith("image_sizes.txt, line 3: width and height must be positive: 'b/3.png,12,0'")


@pytest.mark.parametrize(
    "path", ["../secret.png", "a/../../secret.png", "/etc/passwd", "a\\..\\secret.png", "C:\\secret"]
)
def test_an_id_that_leads_out_of_the_image_folder_is_refused(dataset, path):
    dataset.files = {name: text.replace("b/3.png", path) for name, text in dataset.files.items()}
    assert complaint(dataset).endswith(f"image_ids.txt, line 3: path that leads out of the image folder: {path}")


def test_two_dots_inside_a_name_are_fine(dataset):
    (dataset.root / "images/b/3.png").rename(dataset.root / "images/b/3..png")
    dataset.files = {name: text.replace("b/3.png", "b/3..png") for name, text in dataset.files.items()}
    assert len(dataset.open()) == 3


def test_an_empty_split_is_refused(dataset):
    dataset.files["image_ids.txt"] = "\n"
    assert complaint(dataset).endswith("image_ids.txt: lists no images")


def test_text_that_is_not_text_is_refused(dataset):
    dataset.open()
    (dataset.root / "metadata/test/class_labels.txt").write_bytes(b"a/1.png,0\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"class_labels\.txt: is not a text in UTF-8"):
        FolderSource(split="test", root=dataset.root, num_classes=2)


def test_missing_images_are_listed_and_counted(dataset):
    (dataset.root / "images/a/2 second.png").unlink()
    (dataset.root / "images/b/3.png").unlink()
    (dataset.root / "images/b").rmdir()
    assert "images/a/2 second.png: no such file (and 1 more; " in complaint(dataset)
    assert dataset.open(on_error="skip").left_out[1].endswith("images/b/3.png: no such file")


def test_an_image_of_another_size_than_stated_is_refused_when_read(dataset):
    dataset.files["image_sizes.txt"] = dataset.files["image_sizes.txt"].replace("b/3.png,12,8", "b/3.png,8,12")
    source = dataset.open()
    assert source[0].image.shape == (8, 12, 3)
    with pytest.raises(InputError, match=r"3\.png: has 12 x 8 pixels, but 8 x 12 according to"):
        source[2]


def test_a_damaged_image_is_named_when_read(dataset):
    source = dataset.open()
    (dataset.root / "images/a/1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"a/1\.png: the image file is empty"):
        source[0]


def test_training_needs_neither_sizes_nor_localization(dataset):
    dataset.split = "train"
    dataset.files["localization.txt"] = "a/1.png,0,0,12,8\n"
    assert [record.boxes is not None for record in dataset.open()] == [
        True,
        False,
        False,
    ] and not dataset.open().truth
    dataset.files |= {"image_sizes.txt": "", "localization.txt": ""}
    assert dataset.open()[2].boxes is None


def test_evaluation_needs_localization_of_all_images_or_of_none(dataset):
    assert dataset.open().truth
    dataset.files["localization.txt"] = ""
    assert not dataset.open().truth
    (dataset.root / "metadata/test/localization.txt").unlink()
    del dataset.files["localization.txt"]
    assert not dataset.open().truth
    with pytest.raises(InputError, match=r"localization\.txt: cannot be read: No such file or directory"):
        read_metadata(dataset.root / "metadata/test", 2, needs_localization=True)
    dataset.files["localization.txt"] = "a/1.png,0,0,12,8\n"
    assert "no box or mask of a/2 second.png (allowed by " in complaint(dataset)
    assert "=allow) (and 1 more" in complaint(dataset) and dataset.open(unlocalized="allow").truth


def test_boxes_without_sizes_are_refused(dataset):
    dataset.files["image_sizes.txt"] = ""
    assert "without image_sizes.txt" in complaint(dataset)


@pytest.fixture
def masks(dataset):
    """The same data set with masks: two objects and an ignore mask for the first image, one object for the others."""
    rng = np.random.default_rng(7)
    planes = {name: rng.random((8, 12)) < 0.3 for name in ("m0", "m1", "ignore", "m2", "m3")}
    for name, plane in planes.items():
        PIL.Image.fromarray(plane).save(dataset.root / "images/a" / f"{name}.png")
    dataset.files["image_sizes.txt"] = ""
    dataset.files["localization.txt"] = (
        "a/1.png,a/m0.png,a/ignore.png\na/1.png,a/m1.png,\na/2 second.png,a/m2.png,\nb/3.png,a/m3.png,\n"
    )
    return planes


def test_masks_are_the_union_of_their_instances(dataset, masks):
    source = dataset.open()
    np.testing.assert_array_equal(source[0].mask, masks["m0"] | masks["m1"])
    np.testing.assert_array_equal(source[0].ignore, masks["ignore"])
    np.testing.assert_array_equal(source[1].mask, masks["m2"])
    assert source[1].ignore is None and source[0].boxes is None


def test_masks_may_have_another_resolution_than_their_image(dataset, masks):
    plane = np.eye(30, dtype=bool)
    PIL.Image.fromarray(plane).save(dataset.root / "images/a/m3.png")
    np.testing.assert_array_equal(dataset.open()[2].mask, plane)


def test_masks_of_one_image_must_agree_in_size(dataset, masks):
    PIL.Image.fromarray(np.eye(30, dtype=bool)).save(dataset.root / "images/a/m1.png")
    with pytest.raises(InputError, match=r"m1\.png: its size is not that of the other masks"):
        dataset.open()[0]


def test_bad_mask_lists_are_refused(dataset, masks):
    (dataset.root / "images/a/ignore.png").unlink()
    assert complaint(dataset).endswith("images/a/ignore.png: no such file")
    dataset.files["localization.txt"] = dataset.files["localization.txt"].replace("a/ignore.png", "../ignore.png")
    assert "localization.txt, line 1: path that leads out of the image folder: 'a/1.png" in complaint(dataset)
    dataset.files["localization.txt"] = "a/1.png,a/m0.png,\n"
    assert "localization.txt: no box or mask of a/2 second.png (allowed by " in complaint(dataset)
    assert "=allow) (and 1 more" in complaint(dataset)


@pytest.mark.parametrize(("split", "count"), [("train", 1250), ("val", 250), ("test", 1389)])
def test_cub50_is_read(shared, split, count):
    source = FolderSource(split=split, root=shared / "data/cub50", num_classes=50)
    assert len(source) == count
    for index in (0, 1, count - 1):
        record = source[index]
        height, width = record.image.shape[:2]
        assert min(height, width) <= 256 and record.image.std() > 5
        assert len(record.boxes) == 1
        x0, y0, x1, y1 = record.boxes[0]
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert record.image_id.startswith(f"{record.label + 1:03}.")  # folders are numbered by class, from 1


def test_a_label_that_would_give_countless_classes_is_taken_to_be_mistyped(dataset):
    dataset.files["class_labels.txt"] = "a/1.png,0\na/2 second.png,0\nb/3.png,2000000000\n"
    assert "labels give 2000000001 classes for 3 images of test" in complaint(dataset, num_classes=0)
    dataset.files["class_labels.txt"] = "a/1.png,0\na/2 second.png,0\nb/3.png,7\n"
    assert dataset.open(num_classes=0).num_classes == 8
