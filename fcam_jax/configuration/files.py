"""Files of Python that say what is to be done: benchmarks and sweeps, the packaged ones by name, others by path."""

import contextlib
import difflib
import hashlib
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import open_regular

_PROGRAM = 16 << 20  # bytes of a file at most


def packaged(folder: str = "") -> dict[str, pathlib.Path]:
    """The packaged benchmarks, or those of a folder among them ("sweeps"), by name."""
    package = pathlib.Path(__file__).resolve().parents[1]
    within = package / "configs"  # of an installed wheel; in a checkout they lie beside the package
    root = (within if within.is_dir() else package.parent / "configs") / folder
    return {path.stem: path for path in sorted(root.glob("[!_]*.py"))}


def called(name: str, option: str, folder: str = "") -> pathlib.Path:
    """The file of a name among those of a folder that are packaged, or of a path, which an option gives.

    Raises InputError: there is none.
    """
    path = pathlib.Path(name)
    there = packaged(folder)
    if path.is_file():
        return path
    if name in there:
        return there[name]
    what = "sweep" if folder else "benchmark"
    close = difflib.get_close_matches(path.stem, there, n=1)  # configs/cub.py from elsewhere than a checkout, too
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(f"{option}: no such {what} file: {name!r}; {hint}packaged: {', '.join(there)}")


def function_of(path: pathlib.Path, name: str, given: str) -> Callable[..., Any]:
    """A function of a file, whose errors are one line that begins with the option as it was `given`.

    Raises InputError: the file fails, or has no such function.
    """
    module = load(path, given)
    if not hasattr(module, name):
        raise InputError(f"{given}: the file defines no {name}(args)")
    return _in_one_line(given)(getattr(module, name))  # type: ignore[no-any-return]


@contextlib.contextmanager
def _in_one_line(given: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{given}: {error}") from error
    except Exception as error:  # a user's program may raise anything
        raise InputError(f"{given}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def load(path: pathlib.Path, given: str) -> ModuleType:
    """The module that a file is, executed anew; it may import what lies beside it.

    Raises InputError: it fails; the message begins with the option or key as it was given.
    """
    path = path.resolve()
    name = f"fcam_jax_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for what their annotations mean
    sys.path.insert(0, str(path.parent))
    try:
        with _in_one_line(given):
            open_regular(path, _PROGRAM).close()
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
