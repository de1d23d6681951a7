"""Data sets prepared out of folders and archives, what is checked on the way, and going on after an interruption."""

import http.server
import json
import shutil
import threading
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from replicas import Replica, as_tar, as_zip, encoded

from fcam_jax.cli import command
from fcam_jax.data.folder import FolderSource
from fcam_jax.data.images import decode_image
from fcam_jax.data.loaded import LoadedImages
from fcam_jax.data.pipeline import TrainingStream
from fcam_jax.data.published import builder as wsol_builder
from fcam_jax.data.published import check as wsol_check
from fcam_jax.data.published import files as wsol_files
from fcam_jax.data.published.prepare import LEFT_OUT, PROBLEMS, SAMPLES
from fcam_jax.data.tfds_source import TfdsSource, _Shards

DATASETS = ("cub", "openimages", "ilsvrc")


@pytest.fixture
def make(tmp_path, monkeypatch):
    def replica(key="cub", **options):
        made = Replica(key, tmp_path / key, **options)
        made.publish(monkeypatch)
        return made

    return replica


def complaint(replica, *more) -> str:
    with pytest.raises(SystemExit) as caught:
        replica.prepare(*more)
    message = str(caught.value)
    assert message.startswith("error: ") and "\n" not in message
    return message


def opened(replica, split) -> TfdsSource:
    dataset = replica.dataset
    return TfdsSource(name=dataset.name, split=split, data_dir=replica.data_dir, num_classes=dataset.num_classes)


def assert_as_in_folder(replica, splits=("train", "val", "test"), below=None):
    """The prepared records are those that `FolderSource` makes of the extracted files."""
    shutil.rmtree(replica.source, ignore_errors=True)
    replica.extract()
    laid_out = replica.root / "laid_out"
    shutil.rmtree(laid_out, ignore_errors=True)
    laid_out.mkdir()
    (laid_out / "images").symlink_to(replica.source / replica.dataset.folder)
    (laid_out / "metadata").symlink_to(replica.metadata)
    for split in splits:
        source = opened(replica, split)
        classes = replica.dataset.num_classes
        folder = FolderSource(split=split, root=laid_out, num_classes=classes)
        assert len(source) == len(folder) == replica.counts[split]
        assert (source.fingerprint, source.truth, source.left_out) == (folder.fingerprint, folder.truth, ())
        np.testing.assert_array_equal(source.labels(), folder.labels())
        for record, expected in zip(source, folder, strict=True):
            assert (record.image_id, record.label) == (expected.image_id, expected.label)
            for name in ("image", "boxes", "mask", "ignore"):
                value, wanted = getattr(record, name), getattr(expected, name)
                assert (value is None) == (wanted is None), name
                if wanted is not None:
                    np.testing.assert_array_equal(value, wanted)
                    assert value.dtype == wanted.dtype


@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize("key", DATASETS)
def test_archives_give_the_records_of_the_extracted_files(make, key, variant):
    replica = make(key)
    replica.pack(variant)
    replica.prepare()
    assert not (replica.data_dir / f"{replica.dataset.name}.work").exists()
    assert_as_in_folder(replica)


@pytest.mark.parametrize(
    ("key", "below"),
    [
        ("cub", None),
        ("cub", "CUB_200_2011/images"),
        ("cub", "images"),
        ("openimages", None),
        ("openimages", ""),
        ("ilsvrc", None),
        ("ilsvrc", ""),
    ],
)
def test_folders_give_the_records_of_their_files(make, key, below):
    replica = make(key)
    replica.extract(below)
    replica.prepare()
    assert_as_in_folder(replica)


def test_folders_and_archives_may_be_mixed(make):
    replica = make()
    replica.pack()
    (replica.source / "CUBV2.tar").unlink()
    replica.extract(splits=["val"])
    replica.prepare()
    assert_as_in_folder(replica)


def test_classes_are_called_as_their_folders(make, monkeypatch):
    replica = make("ilsvrc")
    replica.publish(monkeypatch, num_classes=2)
    replica.extract()
    replica.prepare()
    for split in ("train", "val", "test"):
        assert opened(replica, split).class_names == ("n01440000", "n01440001")


def test_classes_are_known_without_reading_examples(make, monkeypatch):
    replica = make("cub")
    replica.extract()
    replica.prepare()
    source = opened(replica, "train")
    labels = [record.label for record in source]

    def never(self, position):
        raise AssertionError("read")

    monkeypatch.setattr(_Shards, "__getitem__", never)
    assert source.labels().tolist() == labels


def test_the_summary_counts(make, capsys):
    replica = make("openimages")
    replica.extract()
    replica.prepare()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in lines[1:4]] == [
        ["train", "6", "2", "none", "0.0"],
        ["val", "4", "2", "7", "masks"],
        ["test", "5", "2", "9", "masks"],
    ]
    assert lines[-1].endswith(f"--config.data.root={replica.data_dir} --config.data.tfds=openimages30k_wsol")
    page = (replica.prepared / SAMPLES).read_text()
    assert page.count("<img ") == 15 and "http" not in page


def test_a_finished_data_set_is_left_alone(make, capsys):
    replica = make()
    replica.extract()
    replica.prepare()
    before = {path: path.stat().st_mtime_ns for path in replica.prepared.iterdir()}
    shutil.rmtree(replica.source)
    capsys.readouterr()
    replica.prepare()
    assert capsys.readouterr().out.startswith(f"{replica.prepared} is prepared already")
    assert {path: path.stat().st_mtime_ns for path in replica.prepared.iterdir()} == before


def test_other_numbers_than_the_published_need_partial(make, monkeypatch):
    replica = make("ilsvrc")
    replica.publish(monkeypatch, images=replica.counts | {"val": 10000}, boxes={"test": 80477})
    replica.extract()
    message = complaint(replica)
    assert "val has 4 images, published are 10000; test has 7 boxes, published are 80477; give --partial" in message
    replica.prepare("--partial")
    assert_as_in_folder(replica)


def test_the_evaluation_archive_of_openimages_has_no_training_images(make, capsys):
    replica = make("openimages")
    files = {**replica.files["val"], **replica.files["test"]}
    replica.source.mkdir()
    (replica.source / "OpenImages30k_eval.zip").write_bytes(as_zip(files))
    message = complaint(replica)
    assert "holds no image of OpenImages's train split; it must hold OpenImages_images.zip" in message
    replica.prepare("--partial")
    assert "no image of train is in" in capsys.readouterr().err
    assert_as_in_folder(replica, ("val", "test"))


def damage(replica) -> list[str]:
    """Spoil five of the images; returns what is said about each, in the order of the splits."""
    folder = replica.source / replica.dataset.folder
    train, val, test = (list(replica.files[split]) for split in ("train", "val", "test"))
    images = [name for name in val if name.endswith(".jpg")]
    (folder / train[1]).write_bytes(b"")
    (folder / train[4]).unlink()
    (folder / images[2]).write_bytes(replica.files["val"][images[2]][:-200])
    (folder / next(name for name in test if name.endswith("_m0.png"))).write_bytes(b"no mask")
    (folder / test[-1]).write_bytes(encoded(1, (8, 8), "PNG"))  # a mask of another size than its fellow
    return ["empty (0 bytes)", f"{train[4]}: is not in --source", "damaged: Premature end", "not an image", "one size"]


def test_all_that_cannot_be_used_is_told_at_once(make):
    replica = make("openimages")
    replica.extract()
    expected = damage(replica)
    message = complaint(replica)
    assert "error: 5 image(s) cannot be used: " in message and "--on_error=skip" in message
    assert not replica.prepared.exists()
    told = (replica.data_dir / f"{replica.dataset.name}.work" / PROBLEMS).read_text().splitlines()
    assert all(words in line for words, line in zip(expected, told, strict=True))
    # A long line has its middle left out: how much depends on where the tests have their files.
    assert message.startswith(f"error: 5 image(s) cannot be used: {told[0]}; ") and expected[-1] in message

    replica.extract()  # mended
    replica.prepare()
    assert_as_in_folder(replica)


def test_images_that_cannot_be_used_can_be_left_out(make):
    replica = make("openimages")
    replica.extract()
    expected = damage(replica)
    replica.prepare("--on_error=skip")
    lines = (replica.prepared / LEFT_OUT).read_text().splitlines()
    assert all(words in line for words, line in zip(expected, lines, strict=True))
    train = opened(replica, "train")
    ids = replica.texts["train"]["image_ids"]
    assert [record.image_id for record in train] == [ids[0], ids[2], ids[3], ids[5]]
    assert list(train.left_out) == lines[:2]
    assert [len(opened(replica, split)) for split in ("val", "test")] == [3, 3]


def test_images_whose_lines_are_wrong_can_be_left_out(make):
    replica = make("ilsvrc")
    lines = replica.texts["test"]["localization"]
    image_id = replica.image_id("test", 0)
    lines[0] = f"{image_id},0,1,0,7"
    replica.write_metadata()
    replica.extract()
    assert "test/localization.txt, line 1: box must have" in complaint(replica)
    replica.prepare("--on_error=skip")
    source = opened(replica, "test")
    assert [record.image_id for record in source] == replica.texts["test"]["image_ids"][1:]
    [line] = source.left_out
    assert "line 1: box must have" in line


def test_sizes_are_compared(make):
    replica = make()
    replica.extract()
    name = replica.image_id("test", 0)
    (replica.source / "CUB" / name).write_bytes(encoded(1, (12, 9)))
    assert f"{name}: has 12 x 9 pixels, but 12 x 8 according to" in complaint(replica)


@pytest.fixture
def work_done(monkeypatch):
    """Counts of decoded images and of written shards, which hold two or three images each."""
    done = SimpleNamespace(decoded=0, shards=0, before_shard=lambda: None)

    def decode(*arguments):
        done.decoded += 1
        return original(*arguments)

    def writer(*arguments):
        done.before_shard()
        done.shards += 1
        return original_writer(*arguments)

    original, original_writer = wsol_check.decode_image, wsol_builder.ArrayRecordWriter
    monkeypatch.setattr(wsol_check, "decode_image", decode)
    monkeypatch.setattr(wsol_builder, "ArrayRecordWriter", writer)
    monkeypatch.setattr(wsol_builder, "_SHARD_BYTES", 2000)
    return done


def test_an_interrupted_preparation_goes_on(make, work_done):
    def interrupt():
        if work_done.shards == 3:
            raise KeyboardInterrupt

    replica = make()
    replica.extract()
    work_done.before_shard = interrupt
    with pytest.raises(SystemExit, match="interrupted; start again"):
        replica.prepare()
    assert work_done.decoded == 15 and work_done.shards == 3

    work_done.before_shard = lambda: None
    replica.prepare()
    shards = len([*replica.prepared.glob("*.array_record-*")])
    assert work_done.decoded == 15 and work_done.shards == shards > 5
    assert_as_in_folder(replica)


def test_only_what_was_not_good_is_decoded_again(make, work_done):
    replica = make("openimages")
    replica.extract()
    bad = len(damage(replica))
    complaint(replica)
    work_done.decoded = 0
    replica.extract()
    replica.prepare()
    assert work_done.decoded == bad


def test_an_image_that_changes_after_it_was_checked_is_noticed(make, work_done):
    replica = make()
    replica.extract()
    name = replica.image_id("test", 2)

    def replace():
        (replica.source / "CUB" / name).write_bytes(replica.files["train"][replica.image_id("train", 2)])

    work_done.before_shard = replace
    assert f"{name}: has changed since it was checked; start again" in complaint(replica)
    work_done.before_shard = lambda: None
    replica.prepare()
    replica.files["test"][name] = replica.files["train"][replica.image_id("train", 2)]
    assert_as_in_folder(replica)


def test_shards_follow_the_metadata(make, work_done):
    """A shard of an interrupted call is not used once labels or boxes have changed."""

    def interrupt():
        if work_done.shards == 5:
            raise KeyboardInterrupt

    replica = make()
    replica.extract()
    work_done.before_shard = interrupt
    with pytest.raises(SystemExit, match="interrupted"):
        replica.prepare()
    work_done.before_shard = lambda: None
    replica.texts["train"]["localization"][0] = f"{replica.image_id('train', 0)},2,2,4,4"
    replica.write_metadata()
    replica.prepare()
    assert_as_in_folder(replica)


def test_a_published_checksum_is_compared_once(make, monkeypatch):
    replica = make()
    replica.pack()
    original, sums = wsol_files._sha256, []
    monkeypatch.setattr(wsol_files, "_sha256", lambda path: sums.append(original(path)) or sums[-1])
    path = replica.source / "CUB_200_2011.tgz"

    size = path.stat().st_size

    def published(sha256, size=size):
        archive = replica.dataset.archives[0]
        changed = type(archive)(archive.name, archive.splits, size, sha256)
        replica.publish(monkeypatch, archives=(changed, replica.dataset.archives[1]))

    published("0" * 64)
    message = complaint(replica)
    assert f"CUB_200_2011.tgz: its SHA-256 is {sums[0]}, that of the published archive {'0' * 64}" in message
    published(sums[0], 7)
    assert f"has {size} bytes, the published archive 7" in complaint(replica)
    published(sums[0])
    replica.prepare()
    assert len(sums) == 1
    assert_as_in_folder(replica)


@pytest.fixture
def server():
    """Serves what a test puts under its addresses; a number is sent as the status."""
    pages: dict[str, bytes | int] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path, 404)
            self.send_response(200 if isinstance(page, bytes) else page)
            if isinstance(page, bytes):
                self.send_header("Content-Length", str(len(page.removesuffix(b"<cut>")) + 9 * page.endswith(b"<cut>")))
            self.end_headers()
            self.wfile.write(page.removesuffix(b"<cut>") if isinstance(page, bytes) else b"")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield SimpleNamespace(pages=pages, url=f"http://127.0.0.1:{running.server_port}")
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("key", DATASETS)
def test_metadata_are_downloaded_once(make, server, key):
    replica = make(key)
    replica.extract()
    for path in replica.metadata.rglob("*.txt"):
        if path.stat().st_size:  # what is empty here is not there where it is published
            server.pages[f"/{path.relative_to(replica.metadata.parent)}"] = path.read_bytes()
    cut = f"/{replica.dataset.folder}/test/class_labels.txt"
    whole = server.pages[cut]

    for page, reason in ((500, "500"), (404, "404"), (whole + b"<cut>", "9 more expected")):
        server.pages[cut] = page
        message = complaint(replica, f"--metadata_url={server.url}")
        assert message.startswith(f"error: {server.url}{cut}: cannot be downloaded") and reason in message
        assert (
            f"put them in {replica.data_dir / replica.dataset.name}.metadata/" in message
            and "--metadata=DIR" in message
        )

    server.pages.clear()
    server.pages |= {cut: whole}
    for path in replica.metadata.glob("test/localization.txt"):
        server.pages[f"/{path.relative_to(replica.metadata.parent)}"] = path.read_bytes()
    for path in replica.metadata.glob("test/image_sizes.txt"):
        if path.stat().st_size:
            server.pages[f"/{path.relative_to(replica.metadata.parent)}"] = path.read_bytes()
    replica.prepare(f"--metadata_url={server.url}")
    assert_as_in_folder(replica)


def test_openimages_may_have_no_files_of_sizes(make):
    replica = make("openimages")
    replica.extract()
    for path in [*replica.metadata.glob("*/image_sizes.txt"), replica.metadata / "train/localization.txt"]:
        path.unlink()
    replica.prepare()
    replica.write_metadata()
    assert_as_in_folder(replica)


@pytest.mark.parametrize("key", ["cub", "ilsvrc"])
def test_sizes_that_boxes_need_may_not_be_missing(make, key):
    replica = make(key)
    replica.extract()
    path = replica.metadata / "val/image_sizes.txt"
    path.unlink()
    assert f"{path}: cannot be read: No such file or directory" in complaint(replica)


def test_a_training_split_may_have_neither_sizes_nor_boxes(make):
    replica = make("ilsvrc")
    replica.extract()
    for name in ("image_sizes", "localization"):
        (replica.metadata / f"train/{name}.txt").unlink()
    replica.prepare()
    replica.write_metadata()
    assert_as_in_folder(replica)


def test_an_id_that_climbs_out_is_refused(make):
    replica = make()
    replica.extract()
    replica.texts["train"]["image_ids"][0] = "../secret.jpg"
    replica.write_metadata()
    assert "train/image_ids.txt, line 1: " in complaint(replica)


def test_a_server_that_does_not_answer_is_one_line(make):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}"
    replica = make()
    replica.extract()
    assert f"{url}/CUB/train/image_ids.txt: cannot be downloaded" in complaint(replica, f"--metadata_url={url}")


def test_a_wrong_source_is_one_line(make):
    replica = make()
    assert f"--source={replica.source}: no such folder" in complaint(replica)
    replica.source.mkdir()
    assert "holds no image of CUB's val split; it must hold CUBV2.tar, or CUB/" in complaint(replica)
    assert "holds no image of CUB's test split; it must hold CUB_200_2011.tgz" in complaint(replica, "--partial")
    (replica.source / "CUBV2.tar").write_bytes(b"<html>not found</html>" * 100)
    assert "CUBV2.tar: cannot be read as an archive" in complaint(replica)
    (replica.source / "CUBV2.tar").write_bytes(as_tar({"../x.jpg": b"x"}))
    assert "leads out of the archive" in complaint(replica)


def test_a_wrong_data_dir_or_name_is_one_line(make, monkeypatch):
    replica = make()
    replica.extract()
    replica.data_dir.write_text("a file")
    assert f"--data_dir={replica.data_dir} cannot be written" in complaint(replica)
    replica.data_dir.unlink()
    assert "--dataset is 'coco'; known: cub, ilsvrc, openimages" in complaint(replica, "--dataset=coco")
    assert f"--metadata={replica.root / 'no'}: no such folder" in complaint(
        replica, f"--metadata={replica.root / 'no'}"
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "still to be written, but its disk has 0.00 GB left" in complaint(replica)
    assert not replica.prepared.exists()


def test_a_disk_that_fills_up_is_one_line(make, monkeypatch):
    class Full:
        def __init__(self, *_):
            pass

        def write(self, _):
            raise RuntimeError("write() failed: No space left on device")

    replica = make()
    replica.extract()
    monkeypatch.setattr(wsol_builder, "ArrayRecordWriter", Full)
    assert "a shard cannot be written (write() failed: No space left on device)" in complaint(replica)


def test_two_calls_at_a_time_are_refused(make, work_done):
    replica = make()
    replica.extract()
    messages = []

    def second():
        if not messages:
            messages.append(None)
            messages.append(complaint(replica))

    work_done.before_shard = second
    replica.prepare()
    assert "cub_wsol is being prepared by another call (process " in messages[1]
    assert_as_in_folder(replica)


@pytest.mark.slow
def test_cub50_is_the_same_by_both_ways(shared, tmp_path):
    root = shared / "data/cub50"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/val").symlink_to(root / "metadata/val")
    command.main(
        [
            "prepare",
            "--dataset=cub",
            f"--source={root}",
            f"--data_dir={tmp_path}",
            f"--metadata={tmp_path / 'texts'}",
            "--partial",
        ]
    )
    source = TfdsSource(name="cub_wsol", split="val", data_dir=tmp_path, num_classes=200)
    folder = FolderSource(split="val", root=root, num_classes=50)
    assert source.fingerprint == folder.fingerprint and len(source) == len(folder) == 250
    for record, expected in zip(source, folder, strict=True):
        assert (record.image_id, record.label) == (expected.image_id, expected.label)
        np.testing.assert_array_equal(record.image, expected.image)
        np.testing.assert_array_equal(record.boxes, expected.boxes)
    streams = [TrainingStream(LoadedImages(one, 146), batch_size=32, crop=128, seed=0) for one in (source, folder)]
    for _ in range(3):
        for array, same in zip(*(jax.tree.leaves(next(stream)) for stream in streams), strict=True):
            np.testing.assert_array_equal(array, same)
    assert json.loads((tmp_path / "cub_wsol/1.0.0/metadata.json").read_text())["partial"] is True


def test_a_published_jpeg_that_libjpeg_warns_of_is_kept_and_told(make, capsys):
    replica = make("cub")
    image_id = replica.image_id("test", 0)
    data = replica.files["test"][image_id]
    whole = decode_image(data, "whole")
    replica.files["test"][image_id] = data[:-2] + 40 * b"\x12" + data[-2:]
    replica.extract()
    replica.prepare()
    warned = capsys.readouterr().err
    assert "warning: 1 image(s) of test are kept though libjpeg warns of them, e.g. " in warned and image_id in warned
    np.testing.assert_array_equal(opened(replica, "test")[0].image, whole)
