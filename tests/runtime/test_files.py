"""Files of users: only regular ones of a bounded size are opened, and every folder is met once."""

import os
import pathlib
import socket

import pytest

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import open_regular, read_regular, read_text, replace_file, walk, write_table


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


def _sparse(path):
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_pipe, "it is a named pipe, not a file"),
        (_socket, "it is a socket, not a file"),
        (lambda path: path.mkdir(), "it is a folder, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
        (lambda path: None, "No such file or directory"),
        (_sparse, "it is larger than the 1 MiB"),
    ],
)
def test_only_regular_files_of_a_bounded_size_are_read(make, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path = pathlib.Path("x.jpg")
    make(path)
    with pytest.raises(InputError, match=f"^x.jpg: cannot be read: {says}"):
        read_regular(path, 1 << 20)
    with pytest.raises(OSError, match=says):
        open_regular(path, 1 << 20)


def test_a_file_without_a_size_is_bounded_when_it_is_read():
    if not pathlib.Path("/proc/kallsyms").exists():
        pytest.skip("no file without a size here")
    with pytest.raises(InputError, match="it is larger than the 0 MiB"):
        read_regular("/proc/kallsyms", 100)


def test_paths_and_texts_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="null byte"):
        read_regular("a\0b", 10)
    with pytest.raises(InputError, match="File name too long"):
        read_regular(tmp_path / ("x" * 300), 10)
    (tmp_path / "names.txt").write_bytes(b"owl\xff")
    with pytest.raises(InputError, match=r"names.txt: is not a text in UTF-8 \(byte 3\)"):
        read_text(tmp_path / "names.txt")


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfowl")
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b", 10) == "owl"


def test_every_folder_is_met_once_by_its_own_path(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "1.jpg").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "elsewhere").symlink_to("b/c")
    for name in ("a1", "a2"):
        (tmp_path / name).symlink_to(tmp_path)
        (tmp_path / "b" / "c" / name).symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    found = [(os.path.relpath(here, tmp_path), names) for here, names in walk(tmp_path)]
    assert found == [(".", ["self"]), ("b", []), ("b/c", ["1.jpg"])]
    assert len(list(walk(tmp_path, hidden=True))) == 4


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "1.jpg").touch()
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "more").symlink_to("../pool")
    assert list(walk(tmp_path / "owl"))[1] == (str(tmp_path / "owl" / "more"), ["1.jpg"])


def test_a_folder_that_is_too_deep_is_an_error_of_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        pathlib.Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="File name too long"):
        list(walk(tmp_path))


@pytest.mark.parametrize("write", [replace_file, lambda path, text: write_table(path, [{"a": text}], ["a"])])
@pytest.mark.parametrize("is_pipe", [False, True])
def test_what_lies_at_the_name_of_a_half_written_file_is_not_followed(tmp_path, write, is_pipe):
    precious, target = tmp_path / "precious", tmp_path / "t.csv"
    precious.write_text("kept")
    partial = tmp_path / "t.csv.partial"
    if is_pipe:
        os.mkfifo(partial)
    else:
        partial.symlink_to(precious)
    write(target, "new")
    assert "new" in target.read_text() and precious.read_text() == "kept" and not os.path.lexists(partial)
