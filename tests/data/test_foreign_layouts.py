"""Data sets as other programs write them: CUB's download, Pascal VOC, YOLO, one COCO file for all images."""

import collections
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts.entries import divide
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.registry import locate, read, splits
from fcam_jax.errors import InputError

SIZE = (20, 10)
CLASSES = ("owl", "wren")
BOX = (4, 2, 12, 8)


def save(path: pathlib.Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.default_rng(number).integers(0, 256, (10, 20, 3), np.uint8)).save(path)


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def warnings(root: pathlib.Path, split: str = "train", **options) -> list[str]:
    problems = Problems()
    read(locate(root, **options), split, 0, problems)
    return [str(one) for one in problems.found]


def cub(root: pathlib.Path, count: int = 20) -> pathlib.Path:
    """Half of the images of each of two classes are for training."""
    ids = [f"{1 + k % 2:03}.{CLASSES[k % 2]}/{k}.png" for k in range(count)]
    for k, name in enumerate(ids):
        save(root / "images" / name, k)
    lines = {
        "images": lambda k: ids[k],
        "image_class_labels": lambda k: 1 + k % 2,
        "train_test_split": lambda k: k // 2 % 2,
        "bounding_boxes": lambda k: "4.0 2.0 8.0 6.0",
    }
    for name, of in lines.items():
        write(root / f"{name}.txt", "".join(f"{k + 1} {of(k)}\n" for k in range(count)))
    write(root / "classes.txt", "1 001.owl\n2 002.wren\n")
    return root


def voc_xml(*names: str, box: str = "<xmin>5</xmin><ymin>3</ymin><xmax>12</xmax><ymax>8</ymax>") -> str:
    objects = "".join(f"<object><name>{name}</name><bndbox>{box}</bndbox></object>" for name in names)
    return f"<annotation><size><width>20</width><height>10</height></size>{objects}</annotation>"


def voc(root: pathlib.Path) -> pathlib.Path:
    for k in range(8):
        save(root / f"JPEGImages/{k}.jpg", k)
        write(root / f"Annotations/{k}.xml", voc_xml(CLASSES[k % 2]))
    write(root / "ImageSets/Main/train.txt", "0\n1\n2\n3\n")
    write(root / "ImageSets/Main/val.txt", "4 1\n5 -1\n")
    write(root / "ImageSets/Main/trainval.txt", "".join(f"{k}\n" for k in range(6)))
    write(root / "ImageSets/Main/owl_train.txt", "0 1\n1 -1\n")
    return root


def yolo(
    root: pathlib.Path, images: str = "images/{}", labels: str = "labels/{}", names: str = "names: [owl, wren]"
) -> pathlib.Path:
    for split in ("train", "val"):
        for k in range(4):
            save(root / images.format(split) / f"{split}{k}.jpg", k)
            write(root / labels.format(split) / f"{split}{k}.txt", f"{k % 2} 0.4 0.5 0.4 0.6\n")
    write(root / "data.yaml", names)
    return root


def single_coco(root: pathlib.Path, file: str = "annotations/instances_default.json", count: int = 20) -> pathlib.Path:
    for k in range(count):
        save(root / f"images/default/{k}.png", k)
    images = [{"id": k, "file_name": f"{k}.png", "width": 20, "height": 10} for k in range(count)]
    objects = [{"id": k, "image_id": k, "category_id": 1 + k % 2, "bbox": [4, 2, 8, 6]} for k in range(count)]
    categories = [{"id": 1, "name": "owl"}, {"id": 2, "name": "wren"}]
    write(root / file, json.dumps({"images": images, "annotations": objects, "categories": categories}))
    return root


@pytest.mark.parametrize(
    ("make", "has", "names"),
    [
        (cub, {"train": 8, "val": 2, "test": 10}, ("001.owl", "002.wren")),
        (voc, {"train": 4, "val": 2}, CLASSES),
        (yolo, {"train": 4, "val": 4}, CLASSES),
        (single_coco, {"train": 12, "val": 4, "test": 4}, CLASSES),
    ],
)
def test_images_boxes_and_classes_are_read(tmp_path, make, has, names):
    root = make(tmp_path)
    assert splits(root) == tuple(has)
    seen = []
    for split, count in has.items():
        source = FolderSource(split=split, root=root)
        assert len(source) == count and source.class_names == names and source.truth
        assert set(source.labels().tolist()) == {0, 1}
        for record in source:
            assert record.boxes.tolist() == [list(BOX)]
            assert record.label == int("".join(filter(str.isdigit, pathlib.Path(record.image_id).stem))) % 2
            seen.append(record.image_id)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(("make", "layout"), [(cub, "cub"), (voc, "voc"), (yolo, "yolo")])
def test_a_run_is_told_what_a_folder_is_taken_for_unless_it_says_so(tmp_path, make, layout):
    root = make(tmp_path)
    assert any(f"--config.data.layout={layout}" in line for line in warnings(root))
    assert not any("--config.data.layout" in line for line in warnings(root, layout=layout))


@pytest.mark.parametrize("make", [cub, voc, yolo, single_coco, lambda root: single_coco(root, "result.json")])
def test_a_root_one_folder_too_high_is_told_with_the_cure(tmp_path, make):
    make(tmp_path / "download")
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match=r"but download in it does, of layout \w+: --config\.data\.root=.*/download$"):
        splits(tmp_path)


def test_a_seed_divides_every_class_and_training_has_all():
    labels = [0] * 50 + [1] * 10 + [2] * 2 + [3] + [-1]
    found = divide(labels)
    assert found == divide(labels)
    by_class = collections.defaultdict(collections.Counter)
    for label, split in zip(labels, found, strict=True):
        by_class[label][split] += 1
    assert 9 <= by_class[0]["val"] <= 10 and 9 <= by_class[0]["test"] <= 10
    assert all(by_class[label]["train"] for label in (0, 1, 2, 3)) and by_class[-1] == {"train": 1}


# CUB


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("images.txt", "1 a.png\n1 b.png\n", "images.txt, line 2: must have a number of its own"),
        ("images.txt", "x a.png\n", "images.txt, line 1: must have a number"),
        ("image_class_labels.txt", "1 1\n", "image_class_labels.txt: has other images than images.txt, such as number"),
        ("image_class_labels.txt", "".join(f"{k + 1} 1_0\n" for k in range(20)), "label is not an integer: '1_0'"),
        ("bounding_boxes.txt", "".join(f"{k + 1} 1 2 3\n" for k in range(20)), "a box must be x y width height"),
    ],
)
def test_a_broken_table_of_cub_is_one_line(tmp_path, file, text, words):
    root = cub(tmp_path)
    write(root / file, text)
    with pytest.raises(InputError) as caught:
        FolderSource(split="train", root=root)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_names_that_no_file_can_have_are_errors(tmp_path):
    root = cub(tmp_path)
    write(root / "images.txt", (root / "images.txt").read_text().replace("/0.png", "/0\0.png"))
    with pytest.raises(InputError, match="control characters in the path"):
        FolderSource(split="test", root=root)


def test_classes_of_cub_are_called_as_folders_where_no_table_names_them(tmp_path):
    root = cub(tmp_path)
    (root / "classes.txt").unlink()
    (root / "train_test_split.txt").unlink()
    assert splits(root) == ("train", "val", "test")
    assert FolderSource(split="test", root=root).class_names == ("001.owl", "002.wren")


def test_segmentations_of_cub_are_the_masks_that_most_annotators_agree_on(tmp_path):
    root = cub(tmp_path)
    for image in (root / "images").rglob("*.png"):
        mask = np.zeros((10, 20), np.uint8)
        mask[1:9, 2:14] = 51  # one of five votes
        mask[2:8, 4:12] = 204
        path = root / "segmentations" / image.relative_to(root / "images")
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(mask).save(path)
    assert FolderSource(split="train", root=root)[0].mask.sum() == 48


# VOC


def test_images_without_lists_are_divided(tmp_path):
    root = voc(tmp_path)
    for path in (root / "ImageSets/Main").iterdir():
        path.unlink()
    assert sum(len(FolderSource(split=split, root=root)) for split in splits(root)) == 8
    assert any("by seed 0" in line for line in warnings(root))


def test_masks_of_voc_are_the_object_with_undecided_outlines(tmp_path):
    root = voc(tmp_path)
    for k in range(8):
        mask = PIL.Image.new("P", SIZE)
        mask.putpalette([0, 0, 0, 128, 0, 0] + [0] * 759 + [224, 224, 192])
        pixels = np.zeros((10, 20), np.uint8)
        pixels[2:8, 4:12], pixels[2:8, 3] = 1, 255
        mask.putdata(pixels.ravel().tolist())
        (root / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(root / f"SegmentationClass/{k}.png")
    record = FolderSource(split="val", root=root)[0]
    assert record.mask.sum() == 48 and record.ignore.sum() == 6 and record.ignore[2:8, 3].all()


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<annotation>", "cannot be read as VOC's XML"),
        (voc_xml("owl", "wren"), "objects of several categories: owl, wren"),
        (voc_xml(), "no category: it has no object"),
        (voc_xml("owl", box="<xmin>5</xmin>"), "box must have"),
        (voc_xml("owl", box="<xmin>5</xmin><ymin>3</ymin><xmax>25</xmax><ymax>8</ymax>"), "box must have"),
        (voc_xml("owl", box="<xmin>x</xmin>"), "cannot be read as VOC's XML: could not convert"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + voc_xml("&b;"), "has a document type"),
    ],
)
def test_a_broken_annotation_is_an_error_of_its_image(tmp_path, xml, words):
    root = voc(tmp_path)
    write(root / "Annotations/0.xml", xml)
    with pytest.raises(InputError) as caught:
        FolderSource(split="train", root=root)
    assert words in str(caught.value) and "Annotations/0.xml: 0: " in str(caught.value)
    assert len(FolderSource(split="train", root=root, on_error="skip")) == 3
    assert len(FolderSource(split="val", root=root)) == 2


# YOLO


@pytest.mark.parametrize(
    ("images", "labels", "names"),
    [
        ("images/{}2017", "labels/{}2017", "names:\n  0: owl\n  1: wren\n"),
        ("{}/images", "{}/labels", "nc: 2\nnames: ['owl', 'wren']"),
    ],
)
def test_folders_of_yolo_are_found(tmp_path, images, labels, names):
    root = yolo(tmp_path, images, labels, names)
    assert splits(root) == ("train", "val") and FolderSource(split="val", root=root).class_names == CLASSES


def test_yolo_without_folders_of_splits_is_divided(tmp_path):
    root = yolo(tmp_path, "images", "labels")
    (root / "data.yaml").unlink()
    write(root / "classes.txt", "owl\nwren\n")
    assert splits(root) == ("train", "val", "test")
    assert FolderSource(split="train", root=root).class_names == CLASSES


def test_polygons_of_yolo_are_masks(tmp_path):
    root = yolo(tmp_path)
    for path in (root / "labels").rglob("*.txt"):
        path.write_text("0 0.2 0.2 0.6 0.2 0.6 0.8 0.2 0.8\n")
    record = FolderSource(split="train", root=root)[0]
    assert record.mask.sum() == 48 and record.boxes.tolist() == [list(BOX)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0.4 0.5 0.4", "line 1: images/train/train0.jpg: must be a class and 4 numbers of a box"),
        ("1_0 0.4 0.5 0.4 0.6", "class is not an integer: '1_0'"),
        ("7 0.4 0.5 0.4 0.6", "no class has the number 7"),
        ("0 8 5 8 6", "box must have"),
        ("0 nan 0.5 0.4 0.6", "box must have"),
        ("", "no category: it has no object"),
        ("0 0.4 0.5 0.4 0.6\n1 0.4 0.5 0.4 0.6", "objects of several categories: owl, wren"),
    ],
)
def test_a_broken_label_is_an_error_of_its_image(tmp_path, text, words):
    root = yolo(tmp_path)
    write(root / "labels/train/train0.txt", text)
    with pytest.raises(InputError) as caught:
        FolderSource(split="train", root=root)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert len(FolderSource(split="train", root=root, on_error="skip")) == 3


@pytest.mark.parametrize("text", ["names: [", "nc: 2", "[1, 2]", "names: {a: b}"])
def test_a_yaml_without_names_is_told(tmp_path, text):
    with pytest.raises(InputError, match=r"data\.yaml: (must have the names|cannot be read as YAML)"):
        splits(yolo(tmp_path, names=text))


# one COCO file


@pytest.mark.parametrize(
    "file", ["result.json", "labels.json", "annotations/instances_default.json", "annotations.json"]
)
def test_one_coco_file_is_found_and_divided(tmp_path, file):
    root = single_coco(tmp_path, file)
    write(root / "package.json", '{"name": "nothing"}')
    write(root / "broken.json", "{")
    assert splits(root) == ("train", "val", "test")
    assert any("by seed 0" in line for line in warnings(root))


def test_several_coco_files_without_a_split_are_told(tmp_path):
    single_coco(tmp_path, "a.json")
    single_coco(tmp_path, "b.json")
    with pytest.raises(InputError, match=r"several files without a split, keep one: .*a\.json, .*b\.json"):
        splits(tmp_path)


@pytest.mark.parametrize("names", [("instances_Train", "instances_Validation"), ("training", "dev"), ("Train", "TEST")])
def test_coco_files_of_splits_in_other_words_are_found(tmp_path, names):
    for name in names:
        single_coco(tmp_path, f"annotations/{name}.json")
    assert len(splits(tmp_path)) == 2


def test_voc_trains_on_trainval_where_there_is_no_other_list_and_tells_what_is_in_none(tmp_path):
    root = voc(tmp_path)
    (root / "ImageSets/Main/train.txt").unlink()
    (root / "ImageSets/Main/val.txt").unlink()
    (root / "ImageSets/Main/owl_train.txt").unlink()
    assert splits(root) == ("train",) and len(FolderSource(split="train", root=root)) == 6
    assert any("2 of 8 images are in no list and left out: 6, 7" in one for one in warnings(root))


@pytest.mark.parametrize("points", ["0.3 0.3 2 0.4 0.4 2 0.5 0.5 1", "0.3 0.3 0.4 0.4"])
def test_points_of_a_pose_are_no_polygon(tmp_path, points):
    root = yolo(tmp_path)
    for path in (root / "labels").rglob("*.txt"):
        path.write_text(f"{path.read_text().strip()} {points}\n")
    write(root / "data.yaml", "names: [owl, wren]\nkpt_shape: [3, 3]\n")
    source = FolderSource(split="train", root=root)
    assert source.truth == ("boxes",) and source[0].boxes.tolist() == [list(BOX)]


def test_images_without_a_class_are_not_called_a_class(tmp_path):
    root = yolo(tmp_path)
    for path in (root / "labels").rglob("*.txt"):
        path.write_text("0 0.4 0.5 0.4 0.6\n1 0.4 0.5 0.4 0.6\n")
    assert not any("of one class" in one for one in warnings(root))
