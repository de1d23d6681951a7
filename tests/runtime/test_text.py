"""Names that may hold anything: as parts of paths, in cells of tables, in lists of messages."""

import csv
import os

import pytest

from fcam_jax.runtime.files import write_table
from fcam_jax.runtime.text import cell, file_name, fitted, listed


@pytest.mark.parametrize("name", ["a" * 243 + ".jpg", "é" * 120 + ".png", "\udcff" * 90, "x." + "y" * 220, "." * 250])
def test_a_long_name_is_shortened_to_one_of_its_own_that_leaves_room(tmp_path, name):
    short = fitted(name)
    assert len(os.fsencode(short)) <= 200 and short != fitted(f"{name[:-5]}b{name[-5:]}")
    assert short.endswith(name[-4:]) or not name.endswith(("jpg", "png"))
    (tmp_path / f"{short}.npy.partial").touch()
    assert len(file_name(name)) <= 200


def test_a_name_that_has_room_stays():
    assert fitted("é" * 97 + ".jpg") == "é" * 97 + ".jpg" and file_name("a b.c") == "a b%2Ec"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＠x", '=HYPERLINK("http://x")']
)
def test_no_text_in_a_table_is_a_formula(tmp_path, text):
    assert cell(text) == f"'{text}"
    rows = [{"name": text, "figure": -0.5}, {"name": "a=1", "figure": 2, "other": 1}]
    write_table(tmp_path / "t.csv", rows, ["name", "figure"])
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["name", "figure"], [f"'{text}", "-0.5"], ["a=1", "2"]]
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_list_in_a_message_is_bounded():
    assert len(listed(["x" * 10_000] * 50)) < 2500 and listed(["a", "b"]) == "a, b"
