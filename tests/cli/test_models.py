"""The list of encoders and of the weights that are published for them."""

import sys

import pytest

from fcam_jax.cli import command as fcam
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.pretrained import Pretrained, Sized
from fcam_jax.models.resnet import Small

WEIGHTS = (
    Pretrained("hub:somebody/tiny", "MIT", side=64, classes=5),
    Pretrained("timm:tiny.ssl", "CC-BY-NC-4.0", classes=0),
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(ENCODERS, "tiny", Sized(Small, pretrained=WEIGHTS))


def printed(capsys, *words):
    assert fcam.main(["models", *words]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_every_line_says_all_where_a_program_reads_it(capsys):
    facts = ["81,168", "123.675,116.28,103.53", "58.395,57.12,57.375"]
    assert printed(capsys, "tin*") == [
        ["encoder", "parameters", "mean", "deviation", "weights", "side", "classes", "licence"],
        ["tiny", *facts, "hub:somebody/tiny", "64", "5", "MIT"],
        ["tiny", *facts, "timm:tiny.ssl", "224", "-", "CC-BY-NC-4.0"],
    ]
    assert printed(capsys, "small")[1:] == [["small", *facts, "-", "-", "-", "-"]]


def test_a_terminal_is_not_told_twice(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert printed(capsys, "tiny")[2] == ["timm:tiny.ssl", "224", "-", "CC-BY-NC-4.0"]


def test_the_parameters_are_the_source_s(capsys):
    assert printed(capsys, "mobilenet_v1_100")[1][1] == "3,206,976"


def test_a_pattern_without_an_encoder_is_a_line(capsys):
    with pytest.raises(SystemExit) as ended:
        fcam.main(["models", "resnot*"])
    assert str(ended.value.code).startswith("error: unknown encoder 'resnot*'; known: ")
