"""Files out of folders and archives: their bytes, and what is refused."""

import concurrent.futures
import gzip
import io
import os
import random
import tarfile
import tracemalloc
import zipfile

import pytest
from replicas import add, as_tar, as_zip

from fcam_jax.data.published.archives import Folder, open_archive
from fcam_jax.errors import InputError

FILES = {f"a {n}/{i}.JPEG": os.urandom(100 * i + n) for n in range(3) for i in range(5)}
ARCHIVES = {
    "x.tar": lambda files: as_tar(files),
    "x.tgz": lambda files: as_tar(files, "w:gz"),
    "x.tar.gz": lambda files: as_tar(files, "w:gz"),
    "x.zip": lambda files: as_zip(files),
    "stored.zip": lambda files: as_zip(files, zipfile.ZIP_STORED),
}


def opened(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return open_archive(path, tmp_path / "work")


def complaint(tmp_path, name, data) -> str:
    with pytest.raises(InputError) as caught:
        opened(tmp_path, name, data)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name)) and "\n" not in message
    return message


@pytest.mark.parametrize("name", ARCHIVES)
def test_files_come_out_as_they_went_in_from_several_threads(tmp_path, name):
    store = opened(tmp_path, name, ARCHIVES[name](FILES))
    names = [*FILES] * 20
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert [data for data, _ in pool.map(store.read, names)] == [FILES[name] for name in names]
    assert "a 0/9.JPEG" not in store


def test_tars_inside_a_tar_are_read_in_place(tmp_path):
    data = as_tar({"n01.tar": as_tar({"x.JPEG": b"one"}), "n02.tar": as_tar({"x.JPEG": b"two", "y.JPEG": b"3"})})
    store = opened(tmp_path, "train.tar", data)
    assert [store.read(name)[0] for name in ("n01/x.JPEG", "n02/x.JPEG", "n02/y.JPEG")] == [b"one", b"two", b"3"]
    assert not (tmp_path / "work").exists()


def test_a_folder_is_read_as_it_is(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.jpg").write_bytes(b"x")
    store = Folder(tmp_path)
    assert store.read("a/x.jpg")[0] == b"x"
    assert "a/y.jpg" not in store and "b/x.jpg" not in store


@pytest.mark.parametrize("member", ["../x.jpg", "a/../../x.jpg", "/x.jpg", "..\\x.jpg"])
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_member_that_climbs_out_is_refused(tmp_path, name, member):
    assert "leads out of the archive" in complaint(tmp_path, name, ARCHIVES[name]({member: b"x"}))
    assert [path.name for path in tmp_path.rglob("x.jpg")] == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
def test_a_link_in_a_tar_is_refused(tmp_path, name, kind):
    member = tarfile.TarInfo("a/x.jpg")
    member.type, member.linkname = kind, "b.jpg"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz" if name == "x.tgz" else "w") as archive:
        add(archive, "b.jpg", b"b")
        archive.addfile(member)
    assert "'a/x.jpg' is a link" in complaint(tmp_path, name, file.getvalue())


def test_a_link_in_a_zip_is_refused(tmp_path):
    member = zipfile.ZipInfo("a/x.jpg")
    member.external_attr = 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    assert "'a/x.jpg' is a link" in complaint(tmp_path, "x.zip", file.getvalue())


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("part", [0.5, 0.0])
def test_half_an_archive_is_refused(tmp_path, name, part):
    data = ARCHIVES[name]({"a.jpg": os.urandom(20000)})
    assert "download it again" in complaint(tmp_path, name, data[: int(len(data) * part)])


def test_a_flipped_byte_in_a_zip_is_found(tmp_path):
    data = bytearray(as_zip({"a.jpg": bytes(1000)}, zipfile.ZIP_STORED))
    data[500] ^= 1
    with pytest.raises(InputError, match=r"x\.zip:a\.jpg: cannot be unpacked \(Bad CRC-32"):
        opened(tmp_path, "x.zip", bytes(data)).read("a.jpg")


def test_a_wrong_checksum_of_a_compressed_tar_is_found_and_nothing_of_it_kept(tmp_path):
    data = as_tar(FILES, "w:gz")
    assert "CRC check failed" in complaint(tmp_path, "x.tgz", data[:-8] + bytes(4) + data[-4:])
    assert not (tmp_path / "work/x.tgz").exists()
    assert "download it again" in complaint(tmp_path, "x.tgz", data[:-12])


def test_zeros_behind_a_compressed_tar_are_bounded(tmp_path):
    data = as_tar(FILES, "w:gz")
    assert "is not read" in complaint(tmp_path, "x.tgz", data + gzip.compress(bytes(64 << 20)))


@pytest.mark.slow
def test_of_a_member_no_more_is_unpacked_than_its_zip_says(tmp_path):
    data = as_zip({"a.jpg": bytes(256 << 20)}).replace((256 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    store = opened(tmp_path, "x.zip", data)
    tracemalloc.start()
    with pytest.raises(InputError, match="cannot be unpacked"):
        store.read("a.jpg")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_unpacking_goes_on_where_it_was_interrupted(tmp_path):
    files = {f"{i}.jpg": os.urandom(5000) for i in range(6)} | {"notes.txt": b"x"}
    data = as_tar(files, "w:gz")
    complaint(tmp_path, "x.tgz", data[: len(data) // 2])
    folder = tmp_path / "work/x.tgz"
    whole = folder / "0.jpg"
    os.utime(whole, (0, 0))
    (folder / "1.jpg").write_bytes(b"half")
    store = opened(tmp_path, "x.tgz", data)
    assert all(store.read(name)[0] == files[name] for name in files if name != "notes.txt")
    assert not (folder / "notes.txt").exists()
    assert whole.stat().st_mtime == 0  # it was not written again

    (tmp_path / "x.tgz").unlink()
    assert open_archive(tmp_path / "x.tgz", tmp_path / "work").read("3.jpg")[0] == files["3.jpg"]


def bomb(name: str) -> bytes:
    """An archive of zeros that is a thousandth of what it holds."""
    zeros = bytes(64 << 20)
    return as_zip({"a.jpg": zeros}) if name == "x.zip" else as_tar({"a.jpg": zeros, "b.jpg": zeros}, "w:gz")


@pytest.mark.slow
def test_what_grows_too_much_is_refused_before_it_is_unpacked(tmp_path):
    store = opened(tmp_path, "x.zip", bomb("x.zip"))
    with pytest.raises(InputError, match=r"a\.jpg has 67,108,864 bytes from 6\d,\d{3}: no image"):
        store.read("a.jpg")
    assert "no image; such an archive is not read" in complaint(tmp_path, "x.tgz", bomb("x.tgz"))
    assert not list((tmp_path / "work").rglob("*.jpg"))


def test_a_zip_that_says_too_little_of_its_members_is_refused(tmp_path):
    data = bomb("x.zip").replace((64 << 20).to_bytes(4, "little"), (1 << 20).to_bytes(4, "little"))
    with pytest.raises(InputError, match="cannot be unpacked"):
        opened(tmp_path, "x.zip", data).read("a.jpg")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_methods_of_compression_are_refused(tmp_path, method):
    with pytest.raises(InputError, match="compressed by a method that is not read"):
        opened(tmp_path, "x.zip", as_zip({"a.jpg": b"x" * 99}, method)).read("a.jpg")


@pytest.mark.parametrize("member", ["d/" * 2000 + "x.jpg", "d" * 300 + ".jpg", ("d" * 200 + "/") * 8 + "x.jpg"])
@pytest.mark.parametrize("name", ARCHIVES)
def test_names_that_no_disk_takes_are_refused(tmp_path, name, member):
    message = complaint(tmp_path, name, ARCHIVES[name]({member: b"x"}))
    assert "too long or too deep" in message and len(message) < 500


def pax(**records) -> bytes:
    """A tar whose member has these fields in a header that goes before it."""
    member = tarfile.TarInfo("a.jpg")
    member.pax_headers = {key.replace("_", "."): value for key, value in records.items()}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    return file.getvalue()


@pytest.mark.parametrize(
    "records",
    [
        {"size": "-1024"},
        {"size": "9" * 30},
        {"path": "x" * (2 << 20)},
        {"path": "a\0b.jpg"},
        {"GNU_sparse_map": "0,1,x", "GNU_sparse_size": "1"},
        {"GNU_sparse_major": "1", "GNU_sparse_minor": "0"},
    ],
)
@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
def test_odd_headers_of_a_tar_are_one_line(tmp_path, name, records):
    data = pax(**records)
    try:
        store = opened(tmp_path, name, gzip.compress(data) if name == "x.tgz" else data)
    except InputError as error:
        assert str(error).startswith(str(tmp_path / name)) and "\n" not in str(error) and len(str(error)) < 500
    else:
        with pytest.raises(InputError):
            store.read("a.jpg")


def test_a_thousand_headers_in_a_row_are_one_line(tmp_path):
    head = pax(comment="x")[:1024]
    complaint(tmp_path, "x.tar", head * 3000)


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.zip"])
def test_damaged_archives_are_one_line(tmp_path, name):
    rng = random.Random(0)
    whole = ARCHIVES[name]({"a/1.jpg": b"one" * 30, "b/2.jpg": b"two" * 30})
    for case in range(150):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / str(case)).mkdir()
        try:
            store = opened(tmp_path / str(case), name, bytes(data))
            for member in ("a/1.jpg", "b/2.jpg"):
                if member in store:
                    store.read(member)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 700


def test_what_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "x.tar")
    os.mkfifo(tmp_path / "x.zip")
    for name in ("x.tar", "x.zip"):
        with pytest.raises(InputError, match="it is a named pipe"):
            open_archive(tmp_path / name, tmp_path / "work")
