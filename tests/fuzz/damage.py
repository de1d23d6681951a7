"""Damage to valid input, as hypothesis strategies: what has broken readers before, at places that hypothesis chooses.

In: the files of a small valid input. Out: a `Damage`, which is applied to a folder that holds them. Formats with
checksums or lengths are taken apart and put together again, so that damage reaches what lies behind these.
"""

import base64
import dataclasses
import gzip
import io
import json
import os
import pathlib
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

NAMES = (
    *(
        "²",
        "1_0",
        "٣",
        "=1+1",
        "-x",
        "@a",
        " ",
        "x.",
        "..x",
        ".hidden",
        "a\nb",
        "a\r",
        "a,b",
        'a"b',
        "a;b",
        "a\\..\\b",
        "%2e",
    ),
    *(
        "\u202eabc",
        "e\u0301",
        "\u2028",
        "\ufeff",
        "\udcff",
        "n" * 240,
        "é" * 120,
        "train",
        "TEST",
        "validation",
        "None",
    ),
)
# Separators, and ends of numbers, of text and of trust.
TOKENS = (
    *(
        "\n",
        "\r\n",
        "\r",
        ",",
        ";",
        "\t",
        '"',
        '""',
        "'",
        "\\",
        " ",
        "\0",
        "\x1c",
        "\ufeff",
        "\u2028",
        "\x85",
        ":",
        "-",
        ".",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        "(",
        "../",
        "/etc/passwd",
        "C:\\",
        "//",
        "nan",
        "inf",
        "-inf",
        "null",
        "true",
        "1e999",
        "1e-999",
    ),
    *(
        "-1",
        "-0",
        "1.5",
        "0x1",
        "2147483648",
        "9" * 20,
        "1" * 5000,
        "[" * 100_000,
        "a" * 5000,
        ",,,,",
        "\n" * 1000,
        *NAMES,
    ),
)
# JSON as text, since much of it could not be written by `json.dumps`.
VALUES = (
    *("null", "true", "-1", "0", "1.5", "2147483648", "9" * 20, "1" * 5000, "1e999", "-0.0", "NaN", "-Infinity", '"1"'),
    *(
        '""',
        '"x"',
        '"../x"',
        '"/etc/passwd"',
        '"\\u0000"',
        '"\\ud800"',
        '"a\\nb"',
        "[]",
        "{}",
        "[[]]",
        '[""]',
        '{"":0}',
    ),
    *(
        "[" * 900 + "]" * 900,
        "[" * 100_000,
        '{"a":' * 5000,
        '"' + "a" * 100_000 + '"',
        "[0" + ",0" * 5000 + "]",
        "[1,[2]]",
    ),
    *(json.dumps(name) for name in NAMES),
)
NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    1 << 20,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
KINDS = ("gone", "empty", "folder", "pipe", "loop", "itself", "nowhere", "endless", "sparse")


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is done to a file: another content, another name, or something else in its place.

    Attributes:
      path: the file, from the folder.
      kind: "content", "name", or one of `KINDS`.
      content: of the file, or its new name.
    """

    path: str
    kind: str
    content: bytes = b""

    def apply(self, folder: pathlib.Path) -> pathlib.Path:
        """Do it; returns where the file is now."""
        path = folder / self.path
        if self.kind == "content":
            path.write_bytes(self.content)
            return path
        if self.kind == "name":
            target = path.with_name(os.fsdecode(self.content))
            return path if os.path.lexists(target) else path.rename(target)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        match self.kind:
            case "empty":
                path.touch()
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "sparse":
                path.touch()
                os.truncate(path, 1 << 42)
            case "loop" | "itself" | "nowhere" | "endless":
                places = {"loop": folder, "itself": path, "nowhere": folder / "nowhere", "endless": "/dev/zero"}
                path.symlink_to(places[self.kind])
        return path

    def as_json(self) -> dict[str, str]:
        """To be kept."""
        return {"path": self.path, "kind": self.kind, "content": base64.b64encode(self.content).decode()}

    @staticmethod
    def of_json(kept: Mapping[str, str]) -> "Damage":
        """What `as_json` has kept."""
        return Damage(kept["path"], kept["kind"], base64.b64decode(kept["content"]))


@st.composite
def damages(draw: Any, files: Mapping[str, bytes], whole_files: bool) -> Damage:
    """Some damage to one of the files.

    Args:
      draw: of hypothesis.
      files: content by path.
      whole_files: names and kinds of files change, too.
    """
    path = draw(st.sampled_from(sorted(files)))
    if whole_files and draw(st.integers(0, 4)) == 4:
        if draw(st.booleans()):
            return Damage(path, draw(st.sampled_from(KINDS)))
        suffix = draw(st.sampled_from(["", pathlib.Path(path).suffix]))
        return Damage(path, "name", os.fsencode(draw(st.sampled_from(NAMES))) + suffix.encode())
    return Damage(path, "content", draw(content(path, files[path])))


def content(path: str, data: bytes) -> st.SearchStrategy[bytes]:
    """Damage to the content of a file, by the format that its name tells."""
    kinds = _FORMATS.get(pathlib.Path(path).suffix, (binary,))
    return st.one_of(*(kind(data) for kind in kinds))


@st.composite
def binary(draw: Any, data: bytes) -> bytes:
    """Bytes changed, inserted, cut out, cut off, repeated, or made a number that is an end of some type."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(_place(data))
        end = min(at + draw(st.integers(1, 16)), len(data))
        match draw(st.integers(0, 5)):
            case 0:
                data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
            case 1:
                number = draw(st.sampled_from(NUMBERS))
                size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
                data = data[:at] + (number & ((1 << 8 * size) - 1)).to_bytes(size, order) + data[at + size :]
            case 2:
                data = data[:at]
            case 3:
                data = data[:at] + data[end:]
            case 4:
                data = data[:at] + _repeated(data[at:end], draw(st.sampled_from([2, 100, 10_000]))) + data[end:]
            case 5:
                other = draw(_place(data))
                data = data[:at] + data[other : other + 16] + data[at:]
    return data


@st.composite
def text(draw: Any, data: bytes) -> bytes:
    """Tokens put in, parts and lines taken out or doubled, and other encodings and delimiters."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(_place(data))
        end = min(at + draw(st.integers(0, 30)), len(data))
        lines = data.splitlines(keepends=True) or [b""]
        line = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 5)):
            case 0 | 1:
                token = os.fsencode(draw(st.sampled_from(TOKENS)))
                data = data[:at] + token + data[draw(st.sampled_from([at, end])) :]
            case 2:
                data = data[:at] + data[end:]
            case 3:
                data = b"".join([*lines[:line], *lines[line + 1 :]])
            case 4:
                data = b"".join([*lines, _repeated(lines[line], draw(st.sampled_from([1, 1000])))])
            case 5:
                data = draw(st.sampled_from(_WHOLE))(data)
    return data


@st.composite
def json_value(draw: Any, data: bytes) -> bytes:
    """Values of a JSON text replaced, taken out, exchanged, or given twice."""
    value = json.loads(data)
    raw: list[str] = []
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(value))
        if not places:
            break
        node, key = draw(st.sampled_from(places))
        match draw(st.integers(0, 5)):
            case 0 | 1 | 2:
                node[key] = f"@@{len(raw)}@@"
                raw.append(draw(st.sampled_from(VALUES)))
            case 3:
                del node[key]
            case 4 if isinstance(node, dict):
                twice = f"{json.dumps(node[key])}, {json.dumps(key)}: {draw(st.sampled_from(VALUES))}"
                node[key] = f"@@{len(raw)}@@"
                raw.append(twice)
            case 4 | 5:
                other, there = draw(st.sampled_from(places))
                node[key] = json.loads(json.dumps(other[there])) if there in _keys(other) else None
    made = json.dumps(value)
    for number, one in reversed([*enumerate(raw)]):
        made = made.replace(f'"@@{number}@@"', one)
    return made.encode()


@st.composite
def json_line(draw: Any, data: bytes) -> bytes:
    """The same in one of many lines."""
    lines = data.splitlines()
    line = draw(st.integers(0, len(lines) - 1))
    return b"\n".join([*lines[:line], draw(json_value(lines[line])), *lines[line + 1 :]])


@st.composite
def zipped(draw: Any, data: bytes) -> bytes:
    """Members of a zip with other contents and names, left out, doubled or compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(one.filename, archive.read(one)) for one in archive.infolist()]
    kind, members = draw(_members(members))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED if kind == "packed" else zipfile.ZIP_STORED) as archive:
        for name, member in members:
            info = zipfile.ZipInfo(os.fsencode(name).decode("utf-8", "replace"))
            info.compress_type = archive.compression
            if kind == "link":
                info.external_attr = 0o120777 << 16
            archive._didModify = True
            archive.NameToInfo.pop(info.filename, None)  # two of one name, without a warning
            archive.writestr(info, member)
    return made.getvalue()


@st.composite
def tarred(draw: Any, data: bytes) -> bytes:
    """The same for a tar, with members of other kinds and odd extended headers."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(one.name, archive.extractfile(one).read()) for one in archive]  # type: ignore[union-attr]
    kind, members = draw(_members(members))
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, member in members:
            info = tarfile.TarInfo(name)
            info.size = len(member)
            if kind == "link":
                info.type = draw(st.sampled_from([b"1", b"2", b"3", b"4", b"6", b"S", b"L", b"x", b"?", b"\0"]))
                info.linkname = draw(st.sampled_from([name, "/etc/passwd", "../x", ""]))
            elif kind == "packed":
                key = draw(
                    st.sampled_from(["size", "path", "linkpath", "mtime", "uid", "GNU.sparse.major", "GNU.sparse.map"])
                )
                info.pax_headers = {key: draw(st.sampled_from(["x", "-1", "1", "0,1,2", "9" * 20, "../x", "1e999"]))}
            archive.addfile(info, io.BytesIO(member))
    return made.getvalue()


@st.composite
def gzipped(draw: Any, data: bytes) -> bytes:
    """Damage to what a gzip file holds, a tar."""
    inner = gzip.decompress(data)
    return gzip.compress(draw(st.one_of(binary(inner), tarred(inner))), 1)


@st.composite
def tensors(draw: Any, data: bytes) -> bytes:
    """The header of a safetensors file, whose length fits again."""
    length = int.from_bytes(data[:8], "little")
    header = draw(st.one_of(json_value(data[8 : 8 + length]), text(data[8 : 8 + length])))
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


@st.composite
def array(draw: Any, data: bytes) -> bytes:
    """The header of a .npy file, whose length fits again."""
    length = int.from_bytes(data[8:10], "little")
    header = draw(text(data[10 : 10 + length]))[:65535]
    return data[:8] + len(header).to_bytes(2, "little") + header + data[10 + length :]


@st.composite
def png(draw: Any, data: bytes) -> bytes:
    """A part of a PNG, whose checksum fits again."""
    at, parts = 8, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not parts:  # the damage of an archive has been there before
        return draw(binary(data))
    number = draw(st.integers(0, len(parts) - 1))
    kind = draw(st.sampled_from([parts[number][0], b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"PLTE", b"tRNS"]))
    parts[number] = kind, draw(binary(parts[number][1]))
    packed = (struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4) for kind, body in parts)
    return data[:8] + b"".join(packed)


def _place(data: bytes) -> st.SearchStrategy[int]:
    """Anywhere, but often near the beginning, where headers are, or the end."""
    size = len(data)
    near = min(size, 64)
    return st.one_of(st.integers(0, size), st.integers(0, near), st.integers(size - near, size))


def _repeated(data: bytes, times: int) -> bytes:
    """At most a megabyte of it."""
    return data * min(times, (1 << 20) // max(len(data), 1))


def _keys(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


def _places(value: Any) -> Any:
    """Containers and keys of all values but those in the middle of lists."""
    keys = list(_keys(value)) if isinstance(value, dict | list) else []
    for key in keys if isinstance(value, dict) else dict.fromkeys([*keys[:2], *keys[-1:]]):
        yield value, key
        yield from _places(value[key])


def _in_whole(data: bytes, changes: tuple[Callable[[bytes], bytes], ...]) -> st.SearchStrategy[bytes]:
    return st.sampled_from(changes).map(lambda change: change(data))


@st.composite
def _members(draw: Any, members: list[tuple[str, bytes]]) -> Any:
    number = draw(st.integers(0, len(members) - 1))
    name, member = members[number]
    kind = draw(st.sampled_from(["content", "content", "name", "gone", "twice", "packed", "link", "bomb"]))
    if kind == "content":
        members[number] = name, draw(content(name, member))
    elif kind == "name":
        odd = (*NAMES, "/etc/x.jpg", "../x.jpg", "a/" * 200 + "x.jpg", "a/../../x.jpg", "..\\x.jpg", "./", "")
        folder = name.rpartition("/")[0]
        members[number] = draw(st.sampled_from(["", f"{folder}/"])) + draw(st.sampled_from(odd)), member
    elif kind == "gone":
        del members[number]
    elif kind == "twice":
        members = [*members, members[number]]
    elif kind == "bomb":
        members[number] = name, bytes(1 << 24)
        kind = "packed"
    return kind, members


_WHOLE: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data.decode("utf-8", "replace").encode("utf-16"),
    lambda data: data.decode("utf-8", "replace").encode("latin-1", "replace"),
    lambda data: data.replace(b"\n", b"\r\n"),
    lambda data: data.replace(b"\n", b"\r"),
    lambda data: data.replace(b",", b";"),
    lambda data: data.replace(b",", b"\t"),
    lambda data: data.replace(b'"', b"'"),
    lambda data: data.replace(b"\n", b""),
    lambda data: data.replace(b"/", b"\\"),
    lambda data: data * 2,
    lambda data: data + b"\0" * 1000,
)
_BOMB = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 20 if i else "a" * 100}">' for i in range(8))
_XML: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: f"<!DOCTYPE x [{_BOMB}]>".encode() + data.replace(b"<name>", b"<name>&a7;"),
    lambda data: b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + data.replace(b"<name>", b"<name>&a;"),
    lambda data: b"<a>" * 20_000 + data,
    lambda data: data.replace(b"<name>", b"<name></name><name>"),
    lambda data: data.replace(b"object>", b"part>"),
    lambda data: b'<?xml version="1.0" encoding="utf-7"?>' + data,
)
_YAML: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 20 if i else 'x'}]\n" for i in range(8)).encode() + data,
    lambda data: b"x: !!python/object/apply:os.system ['true']\n" + data,
    lambda data: b"&a [*a]\n" + data,
    lambda data: data + b"\n" + data,
    lambda data: data.replace(b"[", b"{0: ").replace(b"]", b"}"),
    lambda data: data.replace(b"owl", b"2001-01-01"),
    lambda data: b"[" * 20_000 + data,
)
_FORMATS: dict[str, tuple[Callable[[bytes], st.SearchStrategy[bytes]], ...]] = {
    ".txt": (text, binary),
    ".csv": (text, binary),
    ".xml": (lambda data: _in_whole(data, _XML), text, binary),
    ".yaml": (lambda data: _in_whole(data, _YAML), text, binary),
    ".json": (json_value, json_value, text, binary),
    ".jsonl": (json_line, json_line, text),
    ".npy": (array, binary),
    ".npz": (zipped, binary),
    ".pth": (zipped, binary),
    ".zip": (zipped, binary),
    ".tar": (tarred, binary),
    ".tgz": (gzipped, binary),
    ".safetensors": (tensors, binary),
    ".png": (png, binary),
}
