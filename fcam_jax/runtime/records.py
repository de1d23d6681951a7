"""JSON records of a run, read within bounds: what is damaged, or was never a record, is told in one line."""

import json
import pathlib
from typing import Any

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import read_regular

LIMIT = 32 << 20  # bytes of a record
_DIGITS = 20  # of a whole number


def read_record(path: pathlib.Path, cure: str, **types: type | tuple[type, ...]) -> dict[str, Any]:
    """The JSON object that a file holds, with values of given types by their names.

    Raises InputError: it cannot be read, or holds no such object; `cure` says what to do then.
    """
    data = read_regular(path, LIMIT)
    try:
        return parsed(data, **types)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); {cure}") from error


def parsed(data: bytes | str, **types: type | tuple[type, ...]) -> dict[str, Any]:
    """The JSON object of a text in UTF-8.

    Raises ValueError: it is none, lacks one of the values, or is past all measure; a short line says how.
    """
    try:
        if len(data) > LIMIT:
            raise ValueError(f"it is longer than {LIMIT >> 20} MiB")
        found = json.loads(data if isinstance(data, str) else data.decode(), parse_int=_whole)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text in UTF-8, from byte {error.start} on") from error
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    for name, kind in types.items():
        if not isinstance(found.get(name), kind) or isinstance(found.get(name), bool):
            raise ValueError(f"its {name} is {'missing' if name not in found else 'of another kind'}")
    return found


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"it holds a number of {len(text)} digits")
    return int(text)
