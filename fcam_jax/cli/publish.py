"""Results for the repository: runs into one file of data, and tables in Markdown pages and plots made from that file.

It changes the pages of a checkout, so it is there only: `tools/publish.py`.
"""

import argparse
import importlib
import pathlib
import sys
from types import ModuleType

import fcam_jax
from fcam_jax.errors import InputError


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _tool().options(parser)


def run(options: argparse.Namespace) -> None:
    """Publish."""
    _tool().run(options)


def _tool() -> ModuleType:
    root = pathlib.Path(fcam_jax.__file__).resolve().parents[1]
    if not (root / "tools" / "publish.py").is_file():
        raise InputError("fcam publish changes the pages of the repository; call it in a checkout of it")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module("tools.publish")
