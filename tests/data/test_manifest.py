"""Tables of images: how values are spelt, and the one line that each mistake gets."""

import hashlib
import json
import re
import unicodedata

import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.registry import locate, read, splits
from fcam_jax.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


@pytest.fixture
def root(tmp_path):
    for name in ("a.png", "b.png", "c d,é.png"):
        PIL.Image.fromarray(PIXELS).save(tmp_path / name)
    for number in range(2):
        mask = np.zeros((8, 12), bool)
        mask[number : number + 2] = True
        PIL.Image.fromarray(mask).save(tmp_path / f"m{number}.png")
    return tmp_path


def opened(root, text: str | bytes, name: str = "manifest.csv", split: str = "train", **options) -> FolderSource:
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return FolderSource(split=split, root=root, **options)


def test_a_csv_field_may_hold_several_boxes_and_masks(root):
    text = 'label,path,mask,boxes,ignore\n1,a.png,m0.png; m1.png,0 0 12 8;3 1 5 2,m0.png\n0,"c d,é.png",m0.png,,\n'
    source = opened(root, text)
    first, second = source[0], source[1]
    assert first.boxes.tolist() == [[0, 0, 12, 8], [3, 1, 5, 2]] and second.boxes is None
    np.testing.assert_array_equal(np.flatnonzero(first.mask.all(1)), [0, 1, 2])
    np.testing.assert_array_equal(np.flatnonzero(first.ignore.all(1)), [0, 1])
    assert second.image_id == "c d,é.png" and second.ignore is None
    assert source.num_classes == 2 and source.class_names is None


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ("path,label\na.png,owl\nb.png,auk\n", ("auk", "owl", "", "")),
        ("path,label,class_name\na.png,1,owl\nb.png,0,auk\n", ("auk", "owl", "", "")),
        ("path,label,class_name\na.png,2,owl\nb.png,0,\n", ("", "", "owl", "")),
    ],
)
def test_classes_keep_their_names_where_there_are_more(root, rows, names):
    assert opened(root, rows, num_classes=4).class_names == names


@pytest.mark.parametrize(
    "spell", [lambda text: text.replace("\n", "\r\n"), str.strip, lambda text: "\ufeff" + text + "\n\n"]
)
@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl"])
def test_line_ends_and_encoding_marks_do_not_matter(root, name, spell):
    csv_text, json_text = (
        "path,label\na.png,x\nb.png,y\n",
        '{"path":"a.png","label":"x"}\n{"path":"b.png","label":"y"}\n',
    )
    source = opened(root, spell(csv_text if name.endswith("csv") else json_text), name)
    assert [(record.image_id, record.label) for record in source] == [("a.png", 0), ("b.png", 1)]
    assert source.class_names == ("x", "y")


def test_labels_are_those_of_all_splits(root):
    text = "path,label,split\na.png,wren,test\nb.png,owl,val\nm0.png,auk,\n"
    assert opened(root, text, split="test")[0].label == 2
    source = opened(root, text)
    assert source.class_names == ("auk", "owl", "wren") and len(source) == 1
    assert opened(root, text.replace("wren", "9").replace("owl", "3").replace("auk", "0")).num_classes == 10


def test_a_mistake_in_one_split_leaves_the_others_alone(root):
    text = "path,label,split\na.png,wren,test\nb.png,,train\nm0.png,owl,train\n"
    assert len(opened(root, text, split="test")) == 1
    with pytest.raises(InputError, match=r"line 3: b\.png: no label$"):
        opened(root, text)


def test_the_checksum_of_an_image_is_compared_when_it_is_read(root):
    digest = hashlib.sha256((root / "a.png").read_bytes()).hexdigest()
    source = opened(root, f"path,label,sha256\na.png,0,{digest.upper()}\n")
    np.testing.assert_array_equal(source[0].image, PIXELS)
    (root / "a.png").write_bytes((root / "a.png").read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"a\.png: is damaged or was exchanged"):
        source[0]


def test_a_box_is_compared_with_the_image_where_no_size_is_stated(root):
    source = opened(root, "path,label,boxes\na.png,0,0 0 13 8\n")
    with pytest.raises(InputError, match=r"a\.png: has 12 x 8 pixels; box must have .*: \[0, 0, 13, 8\]"):
        source[0]


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("path,label,colour", "a.png,0,red", "line 1: unknown column(s) colour; known: path, label,"),
        ("path,boxes", "a.png,", "line 1: the first line must name each column once, path and label among them"),
        ("path,label,label", "a.png,0,1", "line 1: the first line must name each column once"),
        ("path,label", "a.png", "line 3: has 1 fields, the first line 2"),
        ("path,label", "a.png,0,1", "line 3: has 3 fields, the first line 2"),
        ("path,label", '"a.png,0', "line 3: cannot be read as CSV"),
        ("path,label", "a.png,", "line 3: a.png: no label"),
        ("path,label", "a.png,nan", "line 3: a.png: no label"),
        ("path,label", ",0", "line 3: line 3: no path"),
        ("path,label", "a.png,x", "line 3: a.png: label 'x', but most labels are integers"),
        ("path,label", "a.png,-1", "line 3: a.png: label must be in [0, 8), by data.num_classes: -1"),
        ("path,label", "b.png,0", "line 3: b.png is there more than once"),
        ("path,label", "../a.png,0", "line 3: ../a.png: path that leads out of the image folder: ../a.png"),
        ("path,label", "/a.png,0", "path that leads out of the image folder"),
        ("path,label", "z.png,0", "z.png: no such file"),
        ("path,label,mask", "a.png,0,z.png", "z.png: no such file"),
        ("path,label,mask", "a.png,0,m0.png; ../z.png", "path that leads out of the image folder: ../z.png"),
        ("path,label,split", "a.png,0,holdout", "line 3: a.png: unknown split 'holdout'; known: train, val, test"),
        ("path,label,boxes", "a.png,0,1 2 3", "line 3: a.png: boxes must each have 4 corners x0 y0 x1 y1: [[1, 2, 3]]"),
        ("path,label,boxes", "a.png,0,1 2 x 4", "box corner is not a number of pixels: [[1, 2, 'x', 4]]"),
        ("path,label,boxes", "a.png,0,1 2 99999999999 4", "box corner is not a number of pixels"),
        ("path,label,boxes", "a.png,0,5 2 3 4", "line 3: a.png: box must have 0 <= x0 < x1 <= width"),
        ("path,label,boxes", "a.png,0,-1 2 3 4", "box must have"),
        ("path,label,boxes,width,height", "a.png,0,0 0 12 9,12,8", "box must have"),
        ("path,label,width,height", "a.png,0,12,", "width and height must both be positive integers: (12, 0)"),
        ("path,label,sha256", "a.png,0,12ab", "sha256 must have 64 hexadecimal digits"),
        ("path,label,class_name", "a.png,0,owl", "line 3: a.png: label 0 is 'wren' in a line above"),
    ],
)
def test_a_mistake_is_shown_with_its_line(root, header, row, words):
    good = {"path": "b.png", "label": "0", "class_name": "wren"}
    text = f"{header}\n{','.join(good.get(name, '') for name in header.split(','))}\n{row}\n"
    with pytest.raises(InputError) as caught:
        opened(root, text, num_classes=8)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    if "line 3: a.png: " in words:
        source = opened(root, text, num_classes=8, on_error="skip")
        assert [record.image_id for record in source] == ["b.png"] and len(source.left_out) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"path": "a.png", "label": }', "line 2: cannot be read as JSON: Expecting value, column 28"),
        ('["a.png", 0]', "line 2: must be an object"),
        ("[" * 100000, "line 2: cannot be read as JSON"),
        ('{"path": "a.png", "label": 1' + "0" * 5000 + "}", "line 2: cannot be read as JSON: Exceeds the limit"),
        ('{"path": "a.png", "label": 0, "bbox": []}', "line 2: unknown column(s) bbox"),
        ('{"path": 7, "label": 0}', "path must be a text: 7"),
        ('{"path": "a\\nb.png", "label": 0}', r"a\nb.png: control characters in the path"),
        ('{"path": "a\\ud800.png", "label": 0}', "path is not valid Unicode"),
        ('{"path": "a.png", "label": NaN}', "label must be an integer or a name: nan"),
        ('{"path": "a.png", "label": true}', "label must be an integer or a name: True"),
        ('{"path": "a.png", "label": 0.0}', "label must be an integer or a name: 0.0"),
        ('{"path": "a.png", "label": 0, "boxes": [1, 2, 3, 4]}', "boxes must each have 4 corners"),
        ('{"path": "a.png", "label": 0, "boxes": [[1, 2, 3, NaN]]}', "box corner is not a number of pixels"),
        ('{"path": "a.png", "label": 0, "mask": 5}', "mask must be a path or run lengths: 5"),
        ('{"path": "a.png", "label": 0, "mask": {"size": [8, 12], "counts": [5]}}', "mask: run lengths of 5 pixels"),
    ],
)
def test_a_mistake_in_json_lines_is_shown_with_its_line(root, line, words):
    with pytest.raises(InputError) as caught:
        opened(root, json.dumps({"path": "b.png", "label": 0}) + "\n" + line, "manifest.jsonl")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_that_is_no_text_or_is_there_twice_is_refused(root):
    with pytest.raises(InputError, match=r"manifest\.csv: cannot be read as text"):
        opened(root, b"path,label\na.png,\xff\xfe\n")
    with pytest.raises(InputError, match=r"has manifest\.csv and manifest\.jsonl, keep one"):
        opened(root, "", "manifest.jsonl")


ROWS = [("a.png", "owl", "train", "1 2 5 6"), ("b.png", "wren", "train", "0 0 12 8")]


def lines(rows, mark: str = ",") -> str:
    return "".join(mark.join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        lines([("path", "label", "split", "boxes"), *ROWS], ";"),
        lines([("path", "label", "split", "boxes"), *ROWS], "\t"),
        lines([("path", "label", "split", "boxes"), *ROWS], "|"),
        lines([("path", "label", "split", "boxes"), *ROWS]).encode("utf-16"),
        "\ufeff" + lines([(" path", " label ", "split", "boxes "), *([f" {x} " for x in row] for row in ROWS)]),
        lines([("Image Path", "Class", "Subset", "BBox"), *ROWS]),
        lines([("file_name", "category", "set", "bounding_box"), *ROWS]),
        lines([("", "path", "label", "split", "boxes"), *((str(i), *row) for i, row in enumerate(ROWS))]),
        lines([("Unnamed: 0", "path", "label", "split", "boxes"), *((str(i), *row) for i, row in enumerate(ROWS))]),
        lines([("path", "label", "split", "boxes"), *((p, c, "Training", b) for p, c, _, b in ROWS)]),
        lines([("path", "label", "boxes"), *((p, c, f'"[{b.replace(" ", ", ")}]"') for p, c, _, b in ROWS)]),
        lines([("path", "label", "boxes"), *((p, c, f'"[({b.replace(" ", ", ")})]"') for p, c, _, b in ROWS)]),
        lines([("path", "label", "boxes"), *((p, c, f'"{b.replace(" ", ".0,")}"') for p, c, _, b in ROWS)]),
        lines([("path", "label", "xmin", "ymin", "xmax", "ymax"), *((p, c, *b.split()) for p, c, _, b in ROWS)]),
        lines([("path", "label", "x1", "y1", "x2", "y2"), *((p, c, *b.split()) for p, c, _, b in ROWS)]),
        "path,label,x,y,w,h\na.png,owl,1,2,4,4\nb.png,wren,0,0,12,8\n",
        "path,label,width,height,x,y,w,h\na.png,owl,12,8,1,2,4,4\nb.png,wren,12.0,8.0,0,0,12,8\n",
        "path,label,left,top,width,height\na.png,owl,1,2,4,4\nb.png,wren,0,0,12,8\n",
        lines([("path", "label", "boxes"), *((f"./{p}", c, b) for p, c, _, b in ROWS)]),
    ],
)
def test_tables_of_other_programs_are_read(root, text):
    source = opened(root, text)
    assert source.class_names == ("owl", "wren")
    assert [(record.image_id, record.boxes.tolist()) for record in source] == [
        ("a.png", [[1, 2, 5, 6]]),
        ("b.png", [[0, 0, 12, 8]]),
    ]


def test_paths_of_windows_and_absolute_ones_are_read(root):
    (root / "sub").mkdir()
    (root / "a.png").rename(root / "sub/a.png")
    source = opened(root, f"path,label\nsub\\a.png,x\n{root / 'b.png'},y\n")
    assert [record.image_id for record in source] == ["sub/a.png", "b.png"]


def test_several_rows_of_an_image_are_put_together(root):
    text = "path,label,boxes,mask\na.png,x,1 1 4 4,m0.png\nb.png,y,0 0 2 2,m0.png\na.png,x,5 1 8 4,m1.png\n"
    source = opened(root, text)
    assert len(source) == 2 and source[0].boxes.tolist() == [[1, 1, 4, 4], [5, 1, 8, 4]]
    np.testing.assert_array_equal(np.flatnonzero(source[0].mask.all(1)), [0, 1, 2])
    with pytest.raises(InputError, match=r"line 4: a\.png has label 'x' in line 2$"):
        opened(root, text.replace("a.png,x,5", "a.png,y,5"))


def test_names_in_another_form_of_unicode_are_found(root):
    for name, form in (("é.png", "NFD"), ("ü.png", "NFC")):
        (root / "a.png").rename(root / unicodedata.normalize(form, name))
        PIL.Image.fromarray(PIXELS).save(root / "a.png")
    text = "path,label\n" + unicodedata.normalize("NFC", "é.png,0\n") + unicodedata.normalize("NFD", "ü.png,1\n")
    assert len(list(opened(root, text))) == 2


@pytest.mark.parametrize("label", ["1_0", "1e3", "+1", "²", "٣", "1.0", "0x1", "1 0"])
def test_labels_are_integers_in_plain_digits_alone(root, label):
    with pytest.raises(InputError, match=f"line 4: m0.png: label '{re.escape(label)}', but most labels are integers"):
        opened(root, f"path,label\na.png,0\nb.png,1\nm0.png,{label}\n")
    assert opened(root, f"path,label\na.png,{label}\nb.png,x\n").class_names == tuple(sorted((label, "x")))


@pytest.mark.parametrize(
    ("names", "split"),
    [(["labels.csv"], "train"), (["train.csv", "val.csv"], "val"), (["Training.tsv", "test.csv"], "test")],
)
def test_a_table_with_images_and_labels_is_the_manifest(root, names, split):
    for name in names:
        mark = "\t" if name.endswith("tsv") else ","
        (root / name).write_text(lines([("id", "species", "age"), ("a", "owl", "3"), ("b", "wren", "4")], mark))
    (root / "notes.csv").write_text("day,weather\n1,rain\n")
    (root / "photos/deep").mkdir(parents=True)
    (root / "photos/a.png").write_bytes((root / "a.png").read_bytes())
    (root / "photos/b.png").write_bytes((root / "b.png").read_bytes())
    (root / "a.png").unlink()
    source = FolderSource(split=split, root=root)
    assert source.class_names == ("owl", "wren") and source[1].image.shape == (8, 12, 3)
    problems = Problems()
    read(locate(root), split, 0, problems)
    assert any("is read as the manifest, but not its columns age" in str(one) for one in problems.found)


def test_tables_in_the_folders_of_splits_are_read(root):
    for name in ("train", "valid"):
        (root / name).mkdir()
        (root / "a.png").rename(root / name / "a.png")
        PIL.Image.fromarray(PIXELS).save(root / "a.png")
        text = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,12,8,owl,1,2,5,6\n"
        (root / name / "_annotations.csv").write_text(text)
    source = FolderSource(split="val", root=root)
    assert [record.boxes.tolist() for record in source] == [[[1, 2, 5, 6]]]


def test_several_such_tables_are_told(root):
    for name in ("a.csv", "b.csv"):
        (root / name).write_text("path,label\na.png,0\n")
    with pytest.raises(
        InputError, match=r"several tables have images and labels, call one manifest\.csv: a\.csv, b\.csv"
    ):
        splits(root)


def test_rows_of_no_known_split_are_told_with_their_line(root):
    with pytest.raises(InputError, match=r"manifest\.csv, line 2: unknown split 'fold 1'; known: train, val, test"):
        (root / "manifest.csv").write_text("path,label,split\na.png,0,fold 1\n")
        splits(root)


def test_images_without_an_object_count_for_classification_where_their_class_has_none(root):
    text = "path,label,split,boxes\na.png,defect,val,1 1 4 4\nb.png,normal,val,\nm0.png,normal,val,\n"
    source = opened(root, text, split="val")
    assert source.truth == ("boxes",) and [record.boxes is None for record in source] == [False, True, True]
    mixed = text.replace("m0.png,normal", "m0.png,defect")
    with pytest.raises(
        InputError, match=r"no box or mask of b\.png \(allowed by --config\.data\.folder\.unlocalized=allow\)"
    ):
        opened(root, mixed, split="val")
    assert len(opened(root, mixed, split="val", unlocalized="allow")) == 3
    assert len(opened(root, mixed, split="val", on_error="skip")) == 1
    problems = Problems()
    (root / "manifest.csv").write_text(text)
    read(locate(root), "val", 0, problems)
    assert ["2 of 3 images have neither box nor mask, of class normal" in str(one) for one in problems.found] == [True]


@pytest.mark.parametrize("table", ["{}/_annotations.csv", "{}.csv"])
def test_images_of_one_name_are_those_of_their_split(tmp_path, table):
    for number, split in enumerate(("train", "valid")):
        (tmp_path / split).mkdir()
        PIL.Image.new("L", (4, 4), number).save(tmp_path / split / "0.png")
        (tmp_path / table.format(split)).write_text("filename,class\n0.png,owl\n")
    assert [int(FolderSource(split=split, root=tmp_path)[0].image.max()) for split in ("train", "val")] == [0, 1]


def test_a_table_of_images_that_are_nowhere_is_told_with_the_cure(tmp_path):
    for label in ("owl", "wren"):
        (tmp_path / "train" / label).mkdir(parents=True)
        PIL.Image.new("L", (4, 4)).save(tmp_path / "train" / label / "0.png")
    (tmp_path / "train.csv").write_text("id,label\n7,owl\n8,wren\n")
    problems = Problems()
    read(locate(tmp_path), "train", 0, problems)
    assert any("such as 7" in str(one) and "--config.data.layout=classes" in str(one) for one in problems.found)


def test_numbers_may_begin_with_a_point(root):
    source = opened(root, "path,label,boxes,width,height\na.png,0,.25 .25 .5 .5,12,8\n")
    assert source[0].boxes.tolist() == [[3, 2, 6, 4]]


@pytest.mark.parametrize(("label", "told"), [("owl;wren", True), ("owl | wren", True), ("tench, Tinca tinca", False)])
def test_several_labels_in_one_are_told(root, label, told):
    (root / "manifest.csv").write_text(f'path,label\na.png,owl\nb.png,"{label}"\n')
    problems = Problems()
    read(locate(root), "train", 0, problems)
    assert any("each label is one class" in str(problem) for problem in problems.found) == told


def test_labels_with_accents_in_two_forms_are_one_class(root):
    names = [unicodedata.normalize(form, "Zaunkönig") for form in ("NFC", "NFD")]
    source = opened(root, f"path,label\na.png,{names[0]}\nb.png,{names[1]}\n")
    assert source.class_names == (names[0],) and source.labels().tolist() == [0, 0]


@pytest.mark.parametrize("header", ["Image Path,Class Label", "id_code,diagnosis", "image_id,dx"])
def test_columns_of_other_tables_are_found(root, header):
    source = opened(root, f"{header}\na.png,owl\nb.png,wren\n", "labels.csv")
    assert source.class_names == ("owl", "wren")


def test_some_boxes_in_0_to_1_are_told(root):
    (root / "manifest.csv").write_text("path,label,boxes\na.png,0,1 1 9 7\nb.png,1,0.1 0.2 0.5 0.9\n")
    problems = Problems()
    read(locate(root), "train", 0, problems)
    assert any("1 of 2 boxes lie in [0, 1], but not all" in str(problem) for problem in problems.found)
