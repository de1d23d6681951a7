"""Messages for users are one line of bounded length, whatever the names and values in them hold."""

import pytest

from fcam_jax.errors import LONGEST, InputError


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a\nb.jpg: cannot be read", "a\\nb.jpg: cannot be read"),
        ("\u202egpj.jpg", "\\u202egpj.jpg"),
        ("\udcff\0\x1b[31m", "\\udcff\\x00\\x1b[31m"),
        ("é ² 鳥: stays", "é ² 鳥: stays"),
    ],
)
def test_what_cannot_be_printed_is_escaped(message, line):
    assert str(InputError(message)) == line


@pytest.mark.parametrize("letter", ["a", "\n"])
def test_a_long_message_keeps_its_file_and_its_cure(letter):
    line = str(InputError(f"manifest.csv: {letter * 100_000}; give data.num_classes"))
    assert line.startswith("manifest.csv: ") and line.endswith("; give data.num_classes")
    assert " ... " in line and len(line) == LONGEST
