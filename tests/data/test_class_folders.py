"""Classes as folders of images."""

import contextlib
import pathlib
import shutil
import unicodedata

import PIL.Image
import pytest

from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.registry import locate, read, splits
from fcam_jax.data.layouts.tree import split_of
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


def moved(same_data, names: dict[str, str]):
    """The data set of three splits with folders of other names."""
    root = same_data.write("classes")
    for old, new in names.items():
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)
    return root


def problems_of(root, split: str = "train") -> list[str]:
    problems = Problems()
    read(locate(root), split, 0, problems)
    return [f"{one.severity}: {one}" for one in problems.found]


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Val", "Test"),
        ("TRAINING", "Validation", "TESTING"),
        ("training_set", "dev", "eval"),
        ("train2017", "val2017", "test2017"),
        ("1_train", "2_valid", "3_test"),
        ("Train Images", "Validation Images", "Test Images"),
        ("data-train", "dev-set", "test.data"),
        ("trn", "validation_split", "tst"),
        ("train", "Validate", "evaluation"),
    ],
)
def test_splits_have_many_names(same_data, names):
    root = moved(same_data, dict(zip(("train", "val", "test"), names, strict=True)))
    assert splits(root) == ("train", "val", "test")
    source = FolderSource(split="val", root=root)
    assert source.class_names == same_data.classes and source[0].image_id.startswith(f"{names[1]}/")


@pytest.mark.parametrize("name", ["trainer", "value", "contest", "steam_train", "devil", "latest", "trainval", "²"])
def test_other_names_are_no_splits(name):
    assert split_of(name) is None


def test_two_folders_of_one_split_are_told(same_data):
    root = same_data.write("classes")
    shutil.copytree(root / "train", root / "Training")
    with pytest.raises(InputError, match=r"Training and train are both folders of split train; keep one$"):
        splits(root)


def test_splits_with_images_and_no_classes_need_a_table(same_data):
    root = same_data.write("classes")
    for split in ("train", "val", "test"):
        for path in list((root / split).rglob("*.png")):
            path.rename(root / split / f"{path.parent.name} {path.name}")
    with pytest.raises(
        InputError, match=r"folders called as splits hold images without a folder .*: test, train, val$"
    ):
        splits(root)


@pytest.mark.parametrize("above", ["birds", "download/birds", "a/b/birds"])
def test_a_root_above_the_splits_is_told_with_the_cure(same_data, above):
    root = moved(same_data, {name: f"{above}/{name}" for name in ("train", "val", "test")})
    with pytest.raises(InputError, match=rf"--config\.data\.root=.*/{above}$"):
        FolderSource(split=splits(root)[0], root=root)


@pytest.mark.parametrize("above", ["data", "a/data"])
def test_a_root_above_the_classes_is_told_with_the_cure(same_data, above):
    root = moved(same_data, {f"train/{name}": f"{above}/{name}" for name in same_data.classes})
    for split in ("train", "val", "test"):
        shutil.rmtree(root / split)
    with pytest.raises(
        InputError, match=rf"all images lie in {above}, in folders ant, bee.*--config\.data\.root=.*{above}$"
    ):
        FolderSource(split="train", root=root)


def test_splits_below_the_classes_are_told(same_data):
    root = moved(same_data, {f"train/{name}": f"{name}/train" for name in same_data.classes})
    moved_again = {f"val/{name}": f"{name}/val" for name in same_data.classes}
    for old, new in moved_again.items():
        (root / old).rename(root / new)
    for split in ("train", "val", "test"):
        shutil.rmtree(root / split)
    with pytest.raises(InputError, match=r"its classes have folders train, val; splits must lie above the classes"):
        FolderSource(split="train", root=root)


def test_classes_below_other_folders_are_told(same_data):
    root = moved(same_data, {"train": "monday", "val": "tuesday", "test": "friday"})
    assert any(
        "no class holds an image itself, all lie in folders below: ant, bee, honey; if" in line
        for line in problems_of(root)
    )


@pytest.mark.parametrize("names", [("images", "masks"), ("Images", "Annotations", "labels"), ("images",)])
def test_folders_that_every_program_makes_are_no_classes(same_data, names):
    root = same_data.write("classes") / "train"
    for name in root.iterdir():
        name.rename(root / names[0]) if not (root / names[0]).exists() else shutil.rmtree(name)
    for name in names[1:]:
        shutil.copytree(root / names[0], root / name)
    with pytest.raises(InputError, match="folders of these names are no classes; a table must give"):
        FolderSource(split="train", root=root)


@pytest.mark.parametrize("ending", [".HEIC", ".dcm", ".CR2", ".mp4", ".nii.gz"])
@pytest.mark.parametrize("where", ["train/cat", "train/ant"])
def test_pictures_that_cannot_be_read_are_errors_of_their_folder(same_data, ending, where):
    root = same_data.write("classes")
    (root / where).mkdir(exist_ok=True)
    (root / where / f"IMG_1{ending}").touch()
    shown = pathlib.Path(f"x{ending}").suffix.lower()
    with pytest.raises(InputError, match=rf"{where}: 1 of [13] pictures cannot be read \({shown}\); save them as JPEG"):
        FolderSource(split="train", root=root)
    source = FolderSource(split="train", root=root, on_error="skip")
    assert len(source) == 3 and len(source.left_out) == 1 and source.class_names == same_data.classes


def test_a_data_set_of_nothing_but_such_pictures_is_told(tmp_path):
    for name in ("owl", "wren"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dcm").touch()
    with pytest.raises(InputError, match=r"owl: 1 of 1 pictures cannot be read \(\.dcm\).* \(and 1 more"):
        FolderSource(split="train", root=tmp_path)


@pytest.mark.parametrize("name", ["cat/IM0001", "cat/readme.txt", "cat/"])
def test_a_folder_without_images_is_told(same_data, name):
    root = same_data.write("classes")
    (root / "train/cat").mkdir()
    if not name.endswith("/"):
        (root / "train" / name).touch()
    assert any("train/cat: is no class: " in line for line in problems_of(root))


def test_what_systems_leave_behind_is_no_image(same_data):
    root = same_data.write("classes")
    image = root / "train/ant/0 é.png"
    names = (
        "@eaDir/0.png",
        "thumbnails/0.png",
        "__MACOSX/0.png",
        ".thumbnails/0.png",
        "._0.png",
        ".ipynb_checkpoints/0.png",
    )
    for name in (*names, "#recycle/0.png"):
        (root / "train/ant" / name).parent.mkdir(exist_ok=True)
        shutil.copy(image, root / "train/ant" / name)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (root / "train/ant" / name).touch()
    (root / "train/@eaDir").mkdir()
    shutil.copy(image, root / "train/@eaDir/0.png")
    assert len(FolderSource(split="train", root=root)) == 3 and problems_of(root) == []


def test_links_to_folders_are_followed_and_loops_are_not(same_data, tmp_path):
    root = same_data.write("classes")
    aside = tmp_path / "aside"
    (root / "train/ant").rename(aside)
    (root / "train/ant").symlink_to(aside)
    for name in ("self", "again"):
        (aside / name).symlink_to(aside)
    (aside / "up").symlink_to(root)
    (aside / "other").symlink_to(root / "train/bee, honey")
    (root / "train/loop").symlink_to(root / "train/loop")
    (root / "train/all").symlink_to(root)
    source = FolderSource(split="train", root=root)
    assert [record.image_id for record in source] == [row[0] for row in same_data.images("train")]
    assert source.class_names == same_data.classes


def test_numbers_are_sorted_by_value_and_accents_in_two_forms_are_one_class(same_data):
    root = same_data.write("classes")
    for split in ("train", "val", "test"):
        for old, new in zip(same_data.classes, ("10", "9"), strict=True):
            (root / split / old).rename(root / split / new)
    assert FolderSource(split="train", root=root).class_names == ("9", "10")
    (root / "train/9").rename(root / "train" / unicodedata.normalize("NFD", "zébre"))
    (root / "val/9").rename(root / "val" / unicodedata.normalize("NFC", "zébre"))
    source = FolderSource(split="val", root=root)
    assert source.class_names == ("10", "9", "zébre") and source.labels().tolist() == [0, 2]


def test_a_class_in_other_letters_is_told(same_data):
    root = same_data.write("classes")
    (root / "val/ant").rename(root / "val/Ant")
    with pytest.raises(InputError, match=r"the training images have no class Ant \(but ant\)"):
        FolderSource(split="val", root=root)


def test_tables_and_images_beside_the_folders_are_told(same_data):
    root = same_data.write("classes") / "train"
    (root / "diagnoses.csv").write_text("patient,finding\n1,2\n")
    shutil.copy(root / "ant/0 é.png", root / "loose.png")
    told = "\n".join(problems_of(root))
    assert (
        "is read by its folders alone; not read, as no CSV whose first line names path and label: diagnoses.csv" in told
    )
    assert "images that lie in no folder of a class are left alone: loose.png" in told


def test_one_class_is_told(same_data):
    root = same_data.write("classes")
    for split in ("train", "val", "test"):
        shutil.rmtree(root / split / "bee, honey")
    assert any("all training images are of one class, ant: " in line for line in problems_of(root))


def test_a_split_without_class_folders_is_told(same_data):
    root = moved(same_data, {"val/ant/0 é.png": "val/0.png", "val/bee, honey/1 é.png": "val/1.png"})
    assert any(
        "called as splits, but without images in a folder for each class: val" in one for one in problems_of(root)
    )


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"photo": "images/{}", "mask": "masks/{}"}, "photographs and masks lie in folders of a class (owl/masks"),
        ({"photo": "{}", "mask": "masks/{}"}, "pictures called as masks of others are taken as photographs"),
        ({"photo": "a ({}.png", "mask": "a ({}_mask.png"}, "pictures called as masks of others"),
        ({"photo": "{}.jpg", "mask": "{}_mask_1.png"}, "pictures called as masks of others"),
        ({"photo": "{}_with_mask.jpg", "mask": "{}_unmasked.jpg"}, ""),
    ],
)
def test_masks_among_photographs_are_told(tmp_path, names, told):
    for number, name in enumerate(pattern.format(n) for pattern in names.values() for n in ("1.png", "2.png")):
        for label, folder in enumerate(("owl", "wren")):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", (4, 4), (number, label, 0)).save(path)
    problems = Problems()
    with contextlib.suppress(InputError):
        read(locate(tmp_path), "train", 0, problems)
    assert any(told in str(one) for one in problems.found) if told else not problems.found


def test_classes_may_be_called_mask(same_data):
    assert not problems_of(moved(same_data, {f"{split}/ant": f"{split}/mask" for split in ("train", "val", "test")}))


def test_links_that_lead_nowhere_are_told(same_data):
    root = same_data.write("classes")
    (root / "train/cat").symlink_to(root / "nowhere")
    assert any("links that lead nowhere are left out: cat" in one for one in problems_of(root))


def test_images_of_splits_without_classes_need_a_table(same_data):
    root = moved(same_data, {f"{split}/ant": f"images/{split}" for split in ("train", "val")})
    for split in ("train", "val", "test"):
        shutil.rmtree(root / split)
    with pytest.raises(InputError, match="images: folders of these names are no classes; a table must give"):
        problems_of(root)


def test_images_of_a_class_may_lie_in_a_folder_images(same_data):
    classes = [f"{split}/{label}" for split in ("train", "val", "test") for label in ("ant", "bee, honey")]
    folders = {name: f"x/{name}/images" for name in classes}
    root = moved(same_data, folders) / "x"
    assert splits(root) == ("train", "val", "test") and not problems_of(root)
