"""Blocks in Markdown pages that are made from data; what is outside of them is written by hand and stays as it is.

    <!-- publish: DATA NAME -->
    what the data say
    <!-- /publish -->

DATA is the name of the data's file without its ending. In: a page's text. Out: the same with every block of one file of
data made anew; those of other files stay as they are.
"""

import re
from collections.abc import Callable, Collection

from fcam_jax.errors import InputError

_BEGIN = re.compile(r"<!--\s*publish:\s*(\S+)\s+(.*?)\s*-->\s*")
_END = re.compile(r"<!--\s*/publish\s*-->\s*")


def filled(text: str, page: str, data: str, names: Collection[str], block: Callable[[str], str]) -> str:
    """The page with the blocks of a file of data filled.

    A marker stands on a line of its own, at its beginning: an indented one is an example in a text.

    Args:
      text: of the page.
      page: what it is called.
      data: what the data are called.
      names: of all blocks.
      block: the text of a block by its name.

    Raises:
      InputError: a block has an unknown name, is not closed, or is closed without being open; with the line.
    """
    kept: list[str] = []
    opened: tuple[int, str] | None = None  # line and name
    is_ours = False  # whether the open block is of these data
    for number, line in enumerate(text.split("\n"), 1):
        begin, end = _BEGIN.fullmatch(line), _END.fullmatch(line)
        if begin is not None:
            if opened is not None:
                raise _not_closed(page, opened)
            opened, is_ours = (number, begin[2]), begin[1] == data
            if begin[2] not in names:
                raise InputError(f"{page}, line {number}: no block is called {begin[2]!r}; there: {', '.join(names)}")
            ending = "\r" if line.endswith("\r") else ""
            body = ("", *block(begin[2]).rstrip("\n").split("\n"), "") if is_ours else ()
            kept += [line, *(one + ending for one in body)]
        elif end is not None:
            if opened is None:
                raise InputError(f"{page}, line {number}: <!-- /publish --> closes no block; delete the line")
            opened = None
            kept.append(line)
        elif opened is None or not is_ours:
            kept.append(line)
    if opened is not None:
        raise _not_closed(page, opened)
    return "\n".join(kept)


def _not_closed(page: str, opened: tuple[int, str]) -> InputError:
    number, name = opened
    return InputError(f"{page}, line {number}: block {name!r} is not closed; end it with <!-- /publish -->")
