"""What a run says of its data before it begins."""

import cv2
import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.arrays import levels_of
from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts.problems import Problem
from fcam_jax.data.summary import SAMPLE, findings, of_split, summary
from fcam_jax.data.synthetic import Synthetic
from fcam_jax.errors import InputError
from fcam_jax.runs.prediction.images import images_of


def written(root, split="train", counts=(2, 1), pixels=None, **options):
    """A folder for each class; returns the source."""
    rng = np.random.default_rng(0)
    for label, count in enumerate(counts):
        for i in range(count):
            path = root / split / f"class {label:04}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 256, (6, 8, 3), np.uint8) if pixels is None else pixels(rng)
            PIL.Image.fromarray(image).save(path, **options)
    return FolderSource(split=split, root=root)


def test_splits_classes_and_what_is_left_out_are_told(same_data):
    root = same_data.write("csv")
    next(root.glob("train/*/0*")).unlink()
    sources = {split: FolderSource(split=split, root=root, on_error="skip") for split in ("train", "val")}
    train, val, looked = summary(sources)
    assert train.startswith("train: 2 images of 2 classes (ant 1, bee, honey 1); 2 boxes in 2 images; 1 left out: ")
    assert "no such file" in train
    assert val == "val: 2 images of 2 classes (ant 1, bee, honey 1); 2 boxes in 2 images"
    assert looked == "of 4 images, 4 headers and 4 whole files were looked at"


def test_a_thousand_classes_take_one_bounded_line(tmp_path):
    line = of_split(written(tmp_path, counts=(1,) * 300))
    assert line.startswith("300 images of 300 classes (class 0000 1, ") and "and 290 more)" in line
    assert len(line) < 400


def test_exif_is_told_once_for_all_images(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    source = written(tmp_path, counts=(3, 4), exif=exif)
    (told,) = [line for line in summary({"train": source}) if "EXIF" in line]
    assert told.startswith("warning: ") and "upright=True" in told and told.endswith("(and 6 more images of train)")


def test_only_a_sample_of_many_images_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("fcam_jax.data.summary.SAMPLE", type(SAMPLE)(most=(4, 2)))
    (tmp_path / "train").mkdir()
    source = written(tmp_path, counts=(20,))
    assert summary({"train": source})[-1].startswith(
        "of 20 images, 4 headers and 2 whole files were looked at; fcam check"
    )


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_few_levels_of_16_bits_are_told_with_their_window(tmp_path, bits):
    top = 2**bits
    source = written(tmp_path, pixels=lambda rng: rng.integers(0, top, (40, 50)).astype(np.uint16))
    (told,) = [line for line in summary({"train": source}) if "16-bit" in line]
    assert f"--config.data.folder.window=0,{top - 1}" in told
    shown = FolderSource(split="train", root=tmp_path, window=(0, top - 1))
    assert shown[0].image.max() > 250 and not [line for line in summary({"train": shown}) if "warning" in line]
    assert shown.fingerprint != source.fingerprint


def test_a_hot_pixel_does_not_hide_few_levels(tmp_path):
    def pixels(rng):
        return np.where(np.arange(2000).reshape(40, 50) == 7, 65535, rng.integers(0, 4096, (40, 50))).astype(np.uint16)

    assert "--config.data.folder.window=0,4095" in "".join(summary({"train": written(tmp_path, pixels=pixels)}))


def test_offset_values_of_16_bits_are_told_with_their_window(tmp_path):
    source = written(
        tmp_path, pixels=lambda rng: np.full((6, 8), 21000, np.uint16) + rng.integers(0, 4, (6, 8), np.uint16)
    )
    assert "window=21000,21003" in "".join(summary({"train": source}))


def test_images_in_0_to_1_are_told(tmp_path):
    source = written(tmp_path, pixels=lambda rng: rng.integers(0, 2, (6, 8, 3), np.uint8))
    assert "8-bit images like this have values of 0 to 1 alone" in "".join(summary({"train": source}))


def test_values_of_more_than_8_bits_are_shown_by_the_window_wherever_they_are_given(tmp_path):
    deep = np.linspace(0, 4095, 48).reshape(6, 8).astype(np.uint16)
    right = np.rint(deep / 4095 * 255).astype(np.uint8)
    PIL.Image.fromarray(deep).save(tmp_path / "x.png")
    cv2.imwrite(str(tmp_path / "rgb.png"), np.stack([deep, 0 * deep, deep // 2], -1))  # BGR
    PIL.Image.fromarray(deep.astype(np.float32)).save(tmp_path / "x.tif")
    PIL.Image.fromarray(deep.astype(np.int32) - 1000).save(tmp_path / "signed.tif")
    for given in (deep, PIL.Image.fromarray(deep), tmp_path / "x.png", tmp_path / "x.tif", deep.astype(np.float32)):
        np.testing.assert_array_equal(images_of(given, (0, 4095))[0], np.stack([right] * 3, -1))
    np.testing.assert_array_equal(images_of(tmp_path / "rgb.png", (0, 4095))[0][..., 2], right)
    np.testing.assert_array_equal(images_of(tmp_path / "signed.tif", (-1000, 3095))[0][..., 0], right)
    with pytest.raises(InputError, match=r"config\.data\.folder\.window=0,4095"):
        images_of(tmp_path / "x.tif")
    np.testing.assert_array_equal(images_of(right, (0, 4095))[0][..., 0], right)  # 8 bits are as they are


@pytest.mark.parametrize("take", [images_of, levels_of])
def test_whole_numbers_of_0_and_1_are_refused(take):
    with pytest.raises(InputError, match="multiply them by 255"):
        take(np.eye(4, dtype=np.uint8)[..., None].repeat(3, -1))


def test_other_sources_are_told(tmp_path):
    lines = summary({"val": Synthetic().open("val")})
    assert len(lines) == 1 and "images of" in lines[0]


def test_findings_that_differ_in_files_and_numbers_are_one_line_and_lines_are_few():
    alike = [Problem(f"{i}.png", None, str(i), f"has {i} pixels", "warning") for i in range(50)]
    assert findings(alike) == ["warning: 0.png: has 0 pixels (and 49 more like it)"]
    different = [Problem("x", None, None, "y" * i) for i in range(1, 1000)]
    assert len(findings(different)) == 11 and max(map(len, findings(different))) < 500
