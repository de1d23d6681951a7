"""Records of JSON: whatever they hold, they are read within bounds and told in a line."""

import os

import pytest

from fcam_jax.errors import InputError
from fcam_jax.runtime import records
from fcam_jax.runtime.records import read_record

DAMAGED = {
    "nothing": (b"", "Expecting value"),
    "a list": (b"[1]", "it holds no JSON object"),
    "a number": (b"7", "it holds no JSON object"),
    "cut short": (b'{"a": 1', "Expecting ',' delimiter"),
    "deep lists": (b"[" * 10**6, "it is nested too deeply"),
    "deep objects": (b'{"a":' * 10**6, "it is nested too deeply"),
    "NUL": (b"\0" * 1000, "Expecting value"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "no text in UTF-8, from byte 0 on"),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "no text in UTF-8, from byte 7 on"),
    "many digits": (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
    "a missing value": (b'{"b": 1}', "its a is missing"),
    "another kind": (b'{"a": "1"}', "its a is of another kind"),
    "yes for a number": (b'{"a": true}', "its a is of another kind"),
}


@pytest.mark.parametrize(("data", "words"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_record_is_told_in_a_line(tmp_path, data, words):
    path = tmp_path / "record.json"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_record(path, "delete it", a=int)
    text = str(caught.value)
    assert text.startswith(f"{path} is damaged (") and text.endswith("); delete it") and words in text
    assert text.isprintable() and len(text) < len(str(path)) + 120


def test_what_is_no_file_or_past_all_measure_is_told_at_once(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"record\.json: cannot be read: it is a named pipe, not a file"):
        read_record(path, "")
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"record\.json: cannot be read: it is larger than the 32 MiB"):
        read_record(path, "")
    monkeypatch.setattr(records, "LIMIT", 100)
    with pytest.raises(ValueError, match="longer than"):
        records.parsed('{"a": "' + "x" * 100 + '"}')


def test_a_record_is_read_as_it_is(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"a": 18446744073709551615, "b": [1.5, NaN], "c": "²"}')
    found = read_record(path, "", a=int, b=list, d=(dict, type(None)))
    assert (found["a"], found["b"][0], found["c"]) == (2**64 - 1, 1.5, "²")
