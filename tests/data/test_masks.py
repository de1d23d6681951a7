"""Mask files in whatever form programs write them: the right pixels, or a word of doubt."""

import io
import re

import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.checking import Check
from fcam_jax.data.folder import Folder, FolderSource
from fcam_jax.data.masks import MaskRule, decode_mask, doubts_of
from fcam_jax.errors import InputError

OBJECT = np.zeros((24, 32), bool)
OBJECT[8:16, 8:24] = True
GRAY = 255 * OBJECT.astype(np.uint8)
WHITE, PHOTO = np.full((24, 32, 3), 255, np.uint8), np.random.default_rng(0).integers(1, 256, (24, 32, 3), np.uint8)


def encoded(pixels, form="PNG", **options) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)).save(file, form, **options)
    return file.getvalue()


def of_palette(colours: list[int]) -> PIL.Image.Image:
    image = PIL.Image.fromarray(OBJECT.astype(np.uint8)).convert("P")
    image.putdata(OBJECT.astype(int).ravel().tolist())
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "data",
    [
        encoded(OBJECT),
        encoded(GRAY),
        encoded(OBJECT.astype(np.uint8)),
        encoded(OBJECT.astype(np.uint16)),  # the numbers of objects, in files of 16 bits
        encoded(255 * OBJECT.astype(np.uint16)),
        encoded(OBJECT.astype(np.int32), "TIFF"),
        encoded(OBJECT.astype(np.float32), "TIFF"),
        encoded(GRAY, "JPEG", quality=60),
        encoded(np.stack([GRAY] * 3, -1), "JPEG", quality=60),
        encoded(np.stack([GRAY] * 3, -1), "WEBP", quality=80),
        encoded(np.dstack([WHITE, GRAY])),
        encoded(np.dstack([0 * WHITE, GRAY])),
        encoded(np.dstack([PHOTO, GRAY]), "WEBP", lossless=True),
        encoded(np.dstack([0 * GRAY + 255, GRAY])),
        encoded(np.dstack([GRAY, GRAY, GRAY, 0 * GRAY + 255])),
        encoded(np.dstack([GRAY, GRAY, GRAY, 0 * GRAY])),
        encoded(of_palette([0, 0, 0, 128, 0, 0])),
        encoded(of_palette([128, 0, 0, 255, 255, 255]), transparency=0),
    ],
)
def test_the_object_is_found_whatever_the_form(data):
    np.testing.assert_array_equal(decode_mask(data, "m").object, OBJECT)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (encoded(255 - GRAY), MaskRule("dark")),
        (encoded(255 - GRAY, "JPEG", quality=60), MaskRule("dark")),
        (encoded(np.dstack([GRAY, GRAY, GRAY, 255 - GRAY])), MaskRule("bright")),
        (encoded(np.dstack([WHITE, GRAY // 2])), MaskRule("alpha", 100.0)),
        (encoded(of_palette([255, 255, 255, 0, 0, 0])), MaskRule("index")),
        (encoded(np.maximum(GRAY, 20)), MaskRule("", 127.0)),
        (encoded(GRAY.astype(np.uint16) + 1000), MaskRule("bright", 1100.0)),
    ],
)
def test_a_rule_says_what_the_file_does_not(data, rule):
    np.testing.assert_array_equal(decode_mask(data, "m", rule).object, OBJECT)


RIM = np.zeros_like(OBJECT)
RIM[7:9] = True  # a row of the object, and one beside it
OXFORD = np.where(RIM, 3, np.where(OBJECT, 1, 2)).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (encoded(OXFORD), MaskRule("1", undecided=3.0)),
        (encoded(3 - OXFORD), MaskRule("2", undecided=0.0)),
        (encoded(np.where(RIM, 128, 255 * OBJECT).astype(np.uint8)), MaskRule(undecided=128.0)),
        (encoded(np.where(RIM, 255, OBJECT).astype(np.uint8)), MaskRule(undecided=255.0)),
        (encoded(np.where(RIM, 9, 255 * ~OBJECT).astype(np.uint8)), MaskRule("dark", undecided=9.0)),
    ],
)
def test_of_a_trimap_the_rim_is_undecided(data, rule):
    file = decode_mask(data, "m", rule)
    np.testing.assert_array_equal(file.object, OBJECT & ~RIM)
    np.testing.assert_array_equal(file.undecided, RIM)
    assert not file.doubts()


def test_a_file_that_is_undecided_everywhere_has_no_object():
    file = decode_mask(encoded(np.full((3, 4), 3, np.uint8)), "m", MaskRule(undecided=3.0))
    assert not file.object.any() and file.undecided.all() and not file.doubts()


def test_a_value_of_a_format_that_changes_values_is_an_error():
    for rule in (MaskRule("1"), MaskRule(undecided=3.0)):
        with pytest.raises(InputError, match="m: its format changes values"):
            decode_mask(encoded(OXFORD, "JPEG"), "m", rule)


def test_alpha_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match="m: has no alpha channel"):
        decode_mask(encoded(GRAY), "m", MaskRule("alpha"))


def test_gray_values_and_alpha_are_doubted():
    noisy = GRAY.astype(int) + np.random.default_rng(0).integers(0, 20, GRAY.shape)
    (told,) = decode_mask(encoded(noisy.clip(0, 255).astype(np.uint8)), "m").doubts()
    assert "gray values" in told and "mask_threshold=127" in told
    assert not decode_mask(encoded(noisy.clip(0, 255).astype(np.uint8)), "m", MaskRule("", 127.0)).doubts()
    assert "mask_is=bright" in decode_mask(encoded(np.dstack([WHITE, GRAY])), "m").doubts()[0]
    numbers = (OBJECT * np.arange(32) // 4).astype(np.uint8)  # several objects
    assert not decode_mask(encoded(numbers), "m").doubts() and not decode_mask(encoded(GRAY), "m").doubts()


@pytest.mark.parametrize(
    ("mask", "boxes", "says"),
    [
        (OBJECT, None, ""),
        (OBJECT, [[16, 16, 48, 32]], ""),
        (OBJECT | (np.arange(24) > 12)[:, None], None, ""),  # it touches the border
        (OBJECT, [[0, 0, 12, 12]], "different places"),
        (OBJECT, [[8, 8, 10, 24], [4, 4, 5, 6]], "different places"),  # of another size of the image
        (~OBJECT, None, "mask_is=dark"),
        (np.ones_like(OBJECT), None, "covers the whole image"),
    ],
)
def test_what_speaks_against_a_mask(mask, boxes, says):
    told = doubts_of(mask, None if boxes is None else np.array(boxes), (64, 48))
    assert len(told) == bool(says) and says in "".join(told)


def test_a_threshold_that_leaves_no_object_is_told(tmp_path):
    for label in ("owl", "wren"):
        PIL.Image.fromarray(PHOTO).save(tmp_path / f"{label}.png")
        PIL.Image.fromarray(OBJECT.astype(np.uint8)).save(tmp_path / f"{label}_mask.jpg")
    rows = "".join(f"{label}.png,{label},val,{label}_mask.jpg\n" for label in ("owl", "wren"))
    (tmp_path / "manifest.csv").write_text(f"path,label,split,mask\n{rows}")
    told = [str(problem) for problem in Check().report(Folder(root=str(tmp_path))).problems]
    assert sum("its mask is black everywhere; its highest value is" in one for one in told) == 2


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((0, 1, 255), "the value 255 beside 0, 1"),
        ((0, 7, 12, 255), "the value 255 beside 0, 7, 12"),
        ((1, 2, 3), "the values 1, 2, 3 and no 0, so all is the object (of one alone: mask_is=1; of a rim: mask_und"),
        ((1, 2), "so all is the object (of one alone: mask_is=1)"),
        ((0, 51, 102, 255, 204), ""),
        ((0, 1, 2), ""),
        ((0, 1), ""),
        ((0, 255), ""),
        ((255, 255), ""),
    ],
)
def test_few_values_that_are_no_mask_are_doubted(values, told):
    doubts = decode_mask(encoded(np.array([values, values], np.uint8)), "m").doubts()
    assert [told in doubt for doubt in doubts] == [True] * bool(told)
    cured = decode_mask(encoded(np.array([values, values], np.uint8)), "m", MaskRule("", 127.0)).doubts()
    assert not cured


def test_three_grays_are_doubted_for_the_one_between():
    file = encoded(np.array([[0, 128, 255]], np.uint8))
    (told,) = decode_mask(file, "m").doubts()
    assert told.startswith("a mask file has the value 128 between 0 and 255, and it is the object")
    assert told.endswith("(where it is undecided: mask_undecided=128)")
    assert not decode_mask(file, "m", MaskRule("", 128.0)).doubts()


@pytest.fixture
def trimaps(tmp_path):
    """Two photographs with trimaps as those of Oxford-IIIT Pet."""
    for label, photo in (("owl", PHOTO), ("wren", 255 - PHOTO)):
        PIL.Image.fromarray(photo).save(tmp_path / f"{label}.png")
        PIL.Image.fromarray(OXFORD).save(tmp_path / f"{label}_trimap.png")
    rows = "".join(f"{label}.png,{label},val,{label}_trimap.png\n" for label in ("owl", "wren"))
    (tmp_path / "manifest.csv").write_text(f"path,label,split,mask\n{rows}")
    return tmp_path


def test_records_of_trimaps_have_an_object_and_what_is_undecided(trimaps):
    settings = {"mask_is": "1", "mask_undecided": 3.0}
    record = FolderSource(split="val", root=trimaps, **settings)[0]
    np.testing.assert_array_equal(record.mask, OBJECT & ~RIM)
    np.testing.assert_array_equal(record.ignore, RIM)
    assert not Check().report(Folder(root=str(trimaps), **settings)).problems


def test_what_a_rule_finds_no_object_by_is_told_with_the_values_that_there_are(trimaps):
    said = {
        "dark": r"its lowest value is 1 \(--config.data.folder.mask_threshold=1\)$",
        "7": "its values are 1, 2, 3$",
    }
    for rule, told in said.items():
        first, *_ = Check().report(Folder(root=str(trimaps), mask_is=rule)).problems
        assert re.search(f"its mask has no object by mask_is, mask_threshold, mask_undecided; {told}", str(first))


def test_an_undecided_ground_is_told(trimaps):
    table = (trimaps / "manifest.csv").read_text().replace("mask\n", "mask,ignore\n")
    (trimaps / "manifest.csv").write_text(re.sub(r",(\w+_trimap.png)", r",\1,\1", table))
    problems = Check().report(Folder(root=str(trimaps), mask_is="1")).problems
    assert [str(one).partition(": ")[2] for one in problems] == [
        "its mask and what is undecided leave no background (and 1 more images of val)"
    ]


@pytest.mark.parametrize("value", ["brigt", "-1", "1.5"])
def test_a_rule_that_is_none_is_refused(value):
    with pytest.raises(InputError, match=r"mask_is is .*; known: bright, dark, alpha, index, or a value such as 1"):
        Folder(root="x", mask_is=value)
