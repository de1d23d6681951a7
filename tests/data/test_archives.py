"""Files out of folders and archives: their bytes, and what is refused."""

import concurrent.futures
import io
import os
import tarfile
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
        assert list(pool.map(store.read, names)) == [FILES[name] for name in names]
    assert "a 0/9.JPEG" not in store


def test_tars_inside_a_tar_are_read_in_place(tmp_path):
    data = as_tar({"n01.tar": as_tar({"x.JPEG": b"one"}), "n02.tar": as_tar({"x.JPEG": b"two", "y.JPEG": b"3"})})
    store = opened(tmp_path, "train.tar", data)
    assert [store.read(name) for name in ("n01/x.JPEG", "n02/x.JPEG", "n02/y.JPEG")] == [b"one", b"two", b"3"]
    assert not (tmp_path / "work").exists()


def test_a_folder_is_read_as_it_is(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.jpg").write_bytes(b"x")
    store = Folder(tmp_path)
    assert store.read("a/x.jpg") == b"x"
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


def test_unpacking_goes_on_where_it_was_interrupted(tmp_path):
    files = {f"{i}.jpg": os.urandom(5000) for i in range(6)} | {"notes.txt": b"x"}
    data = as_tar(files, "w:gz")
    complaint(tmp_path, "x.tgz", data[: len(data) // 2])
    folder = tmp_path / "work/x.tgz"
    whole = folder / "0.jpg"
    os.utime(whole, (0, 0))
    (folder / "1.jpg").write_bytes(b"half")
    store = opened(tmp_path, "x.tgz", data)
    assert all(store.read(name) == files[name] for name in files if name != "notes.txt")
    assert not (folder / "notes.txt").exists()
    assert whole.stat().st_mtime == 0  # it was not written again

    (tmp_path / "x.tgz").unlink()
    assert open_archive(tmp_path / "x.tgz", tmp_path / "work").read("3.jpg") == files["3.jpg"]
