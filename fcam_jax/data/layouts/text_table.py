"""A text file whose lines are an image id and a fixed number of fields, separated by commas.

Ids may hold spaces and commas; line ends of every system, a byte order mark and empty lines are understood.
"""

import dataclasses
import pathlib
from collections.abc import Container

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.data.layouts.problems import Problems


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The lines of a text file that have the right number of fields.

    The fields of all lines are one flat list: a list for every line makes a million lines several times slower.

    Attributes:
      path: the file.
      columns: number of fields of a line.
      ids: the id of each line.
      fields: of all lines.
      numbers: of the lines, from 1.
    """

    path: pathlib.Path
    columns: int
    ids: list[str]
    fields: list[str]
    numbers: list[int]

    def integers(self) -> tuple[Int[np.ndarray, "m columns"], Bool[np.ndarray, " m"]]:
        """The fields as numbers, and which lines hold nothing but integers of 32 bits."""
        try:
            values = np.array(list(map(int, self.fields)), np.int32)
            whole = np.ones(len(self.ids), bool)
        except (ValueError, OverflowError):
            fits = np.array(list(map(_is_integer, self.fields)))
            pairs = zip(self.fields, fits, strict=True)
            values = np.array([int(text) if fit else 0 for text, fit in pairs], np.int32)
            whole = np.all(fits.reshape(-1, self.columns), axis=1)
        return values.reshape(-1, self.columns), whole

    def report(self, good: Bool[np.ndarray, " m"], rule: str, problems: Problems) -> None:
        """An error for every line that is not good."""
        for row in np.flatnonzero(~good).tolist():
            fields = self.fields[row * self.columns : (row + 1) * self.columns]
            line = ",".join([self.ids[row], *fields])
            problems.error(self.path, f"{rule}: {line!r}", line=self.numbers[row], image_id=self.ids[row])


def read_text(path: pathlib.Path, problems: Problems) -> str:
    """The content of a text file in UTF-8.

    Raises:
      InputError: there is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise problems.stop(path, "no such metadata file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise problems.stop(path, f"cannot be read as text: {error}") from error


def read_table(path: pathlib.Path, columns: int, known: Container[str], problems: Problems) -> TextTable:
    """The lines of a text file.

    Args:
      path: the file.
      columns: number of fields after the id.
      known: ids of images; a line that cannot be read is an error of the one that it begins with.
      problems: where lines that cannot be read are told.

    Raises:
      InputError: as for `read_text`.
    """
    text = read_text(path, problems).rstrip()
    table = TextTable(path, columns, [], [], [])
    for number, line in enumerate(text.split("\n") if text else (), 1):
        image_id, *fields = line.rsplit(",", columns)
        if len(fields) == columns and image_id:
            table.ids.append(image_id)
            table.fields.extend(fields)
            table.numbers.append(number)
        elif line.strip():
            problem = f"expected an id and {columns} field(s): {line!r}"
            problems.error(path, problem, line=number, image_id=_owner(line, known))
    return table


def _owner(line: str, known: Container[str]) -> str | None:
    parts = line.split(",")
    starts = (",".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((start for start in starts if start in known), None)


def _is_integer(text: str) -> bool:
    try:
        return abs(int(text)) < 2**31
    except ValueError:
        return False
