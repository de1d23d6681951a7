"""What is wrong with a data set: collected by its readers, raised at the first or answered by leaving images out.

A problem of an image has the image's id; one of a file has none, and then nothing can be made of the file.
"""

import collections
import dataclasses
import os
import shlex
from typing import Literal

from fcam_jax.errors import InputError
from fcam_jax.runtime.text import printable, shorten

ON_ERROR = ("fail", "skip")
_LONGEST = 500  # letters of a problem

File = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    file: str  # path of the file, or what else it is about
    line: int | None  # line in that file, from 1; None where it is not about one line
    image_id: str | None  # the image that cannot be used because of it; None where it is about more than an image
    text: str  # what is wrong
    # images with an error cannot be used; a warning is what the user should look at
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """File, line and text as one line of bounded length, control characters written as escapes."""
        line = "" if self.line is None else f", line {self.line}"
        return f"{printable(self.file)}{line}: {shorten(printable(self.text), _LONGEST)}"


class Problems:
    """A collector of problems; `found` has them in their order."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def error(self, file: File, text: str, *, line: int | None = None, image_id: str | None = None) -> None:
        """Add an error."""
        self.found.append(Problem(os.fspath(file), line, image_id, text))

    def warn(self, file: File, text: str, *, image_id: str | None = None) -> None:
        """Add a warning."""
        self.found.append(Problem(os.fspath(file), None, image_id, text, "warning"))

    def stop(self, file: File, text: str, *, line: int | None = None) -> InputError:
        """Add an error after which a reader cannot go on; returns what it is to raise."""
        self.error(file, text, line=line)
        return InputError(str(self.found[-1]))

    def errors(self) -> list[Problem]:
        """The errors in their order."""
        return [problem for problem in self.found if problem.severity == "error"]

    def images(self) -> set[str]:
        """The images that have an error."""
        return {error.image_id for error in self.errors() if error.image_id is not None}

    def settle(self, on_error: str = "fail", root: File | None = None) -> dict[str, str]:
        """The images to leave out for their errors, by id, with one line on each.

        Raises:
          InputError: the first error, with the number of the others; by "skip" only one that is about more than an
            image. The data set's `root` is told where `fcam check` can list the others.
        """
        checker = f"; fcam check --root={shlex.quote(os.fspath(root))} lists them" if root else ""
        of_image: dict[str | None, list[Problem]] = collections.defaultdict(list)
        for error in self.errors():
            of_image[None if on_error == "fail" else error.image_id].append(error)
        if fatal := of_image.get(None):
            raise InputError(f"{fatal[0]}{_more(len(fatal) - 1, checker)}")
        return {str(image_id): f"{some[0]}{_more(len(some) - 1)}" for image_id, some in of_image.items()}


def _more(count: int, hint: str = "") -> str:
    return f" (and {count} more{hint})" if count else ""
