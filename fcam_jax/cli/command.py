"""The command `fcam`: its subcommands, and what all of them share: options, exit status, every error in one line.

A subcommand is a module of this package: its docstring is its help, `options(parser)` declares what it takes, and
`run(options)` does it and returns the exit status, None for 0. `AGAIN` says what a call after an interruption does.
What is slow to import is imported in `run`, so that a mistyped option is answered at once.
"""

import argparse
import contextlib
import dataclasses
import difflib
import importlib
import logging
import os
import pathlib
import re
import sys
import traceback
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import fcam_jax
from fcam_jax.component import at_key, meanings_of
from fcam_jax.errors import OF_THE_DISK, REQUEUE, InputError, Preempted
from fcam_jax.runtime import preemption

T = TypeVar("T")

COMMANDS = {
    "train": "train what is not trained yet of a run, and evaluate it",
    "eval": "evaluate a run, or a checkpoint",
    "report": "write a page on evaluated runs",
    "predict": "maps, boxes and pictures of your own images",
    "demo": "a page to try a trained network in a browser",
    "evaluate": "figures of score maps that any program has saved",
    "export": "a run's weights as files for other programs",
    "models": "encoders, and the weights that are published for them",
    "weights": "what a weight file is, and its conversion to safetensors",
    "sweep": "many runs as one job",
    "check": "list everything that is wrong with a data set",
    "prepare": "make a published data set ready",
    "publish": "results into the pages of the repository (in a checkout)",
}
BROKEN_PIPE = 141  # as a program that the signal ends, which Python does not let it do


class Parser(argparse.ArgumentParser):
    """Options of a command; a mistake is an `InputError`."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise InputError(f"{message} ({self.prog} --help lists the options)")


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command line, by default the one that Python was called with; returns the exit status."""
    words = list(sys.argv[1:] if words is None else words)
    if words[:1] == ["--version"]:
        print(f"fcam_jax {fcam_jax.__version__}")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print("usage: fcam COMMAND [--option=value ...] | --version\n")
        print(*(f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items()), sep="\n")
        print("\nfcam COMMAND --help lists its options.")
        return 0
    logging.basicConfig(format="%(message)s")  # a library that warns first would choose a form of its own
    with in_one_line():
        name, *rest = words
        if name not in COMMANDS:
            raise InputError(f"no such command: {name!r}{_hint(name, COMMANDS)}; known: {', '.join(COMMANDS)}")
        module = importlib.import_module(f"fcam_jax.cli.{name}")
        with in_one_line(getattr(module, "AGAIN", "")):
            preemption.stop_if_alone()
            status = module.run(parsed(f"fcam {name}", str(module.__doc__), module.options, rest)) or 0
            sys.stdout.flush()
            return status


def parsed(
    prog: str, text: str, declare: Callable[[argparse.ArgumentParser], None], words: Sequence[str]
) -> argparse.Namespace:
    """The options of a command, and in `overrides` the values of ``--config.key=value`` by key, where it takes any.

    `text` is what the help says. `declare` adds the options to a parser; ``--config`` and ``--sweep`` take overrides.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=prog, description=text, formatter_class=raw, allow_abbrev=False, add_help=False)
    parser.add_argument("-h", "--help", action="store_true", help="what you read, and with --config its keys")
    declare(parser)
    names = {name for action in parser._actions for name in action.option_strings}
    own, overrides = _divided(words) if names & {"--config", "--sweep"} else (list(words), {})
    if {"-h", "--help"} & set(own):
        print(parser.format_help())
        _print_keys(own, overrides)
        sys.stdout.flush()
        raise SystemExit(0)
    for word in own[: own.index("--") if "--" in own else None]:
        name = word.partition("=")[0]
        if word.startswith("--") and name != "--" and name not in names:
            raise InputError(f"unknown option {name}{_hint(name, names)} ({prog} --help lists the options)")
    options = parser.parse_args(own)
    options.overrides = overrides
    return options


def declare(parser: argparse.ArgumentParser, settings: type[Any], *without: str, **texts: str) -> None:
    """An option for each field of a dataclass of settings, of its type, with its meaning or a text of yours as help."""
    meanings, types = meanings_of(settings) | texts, typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        if field.name in without:
            continue
        name, text = f"--{field.name}", meanings[field.name].replace("%", "%%")
        if field.default is False:
            parser.add_argument(name, action="store_true", help=text)
            continue
        kinds = {types[field.name], typing.get_origin(types[field.name]), *typing.get_args(types[field.name])}
        read = _numbers if tuple in kinds else next(read for kind, read in _READ.items() if kind in kinds)
        required = field.default is dataclasses.MISSING
        parser.add_argument(name, type=read, required=required, default=None if required else field.default, help=text)


def given(settings: type[T], options: argparse.Namespace) -> T:
    """The settings that the options of a dataclass' fields give. Raises InputError: one of them cannot be."""
    names = [field.name for field in dataclasses.fields(typing.cast(Any, settings))]
    with at_key("--"):
        return settings(**{name: getattr(options, name) for name in names if hasattr(options, name)})


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


# A shell leaves the ~ of --out=~/data alone.
_READ: dict[Any, Callable[[str], Any]] = {pathlib.Path: lambda text: pathlib.Path(text).expanduser()}
_READ |= {str: str, int: int, float: float}


def _hint(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f", did you mean {close[0]}?" if close else ""


_AN_ARGUMENT = re.compile(r"^(?=(workdir|config[\w.]*)(=|: ))")  # which the library names, and an option gives


@contextlib.contextmanager
def in_one_line(again: str = "") -> Iterator[None]:
    """What the user can mend, or has done, ends the program with a line and without a traceback.

    `again` is what the same command will do, such as "the same command goes on".
    """
    goes_on = f"; {again}" if again else ""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {_AN_ARGUMENT.sub('--', str(error))}")
    except BrokenPipeError:
        # What reads the output has ended, as `head` does; Python would tell at its end that it cannot write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        if error.errno in OF_THE_DISK:
            mended = f"; once that is mended, {again}" if again else ""
            told = f"{error.filename or 'a file'} cannot be written: {error.strerror}{mended}"
        elif error.filename is not None:
            told = f"{error.filename} cannot be read or written: {error.strerror}"
        else:
            raise
        sys.exit(f"error: {InputError(told)}")
    except Preempted:
        print(f"asked to stop{goes_on}", file=sys.stderr)
        sys.exit(REQUEUE)
    except KeyboardInterrupt:
        sys.exit(f"interrupted{goes_on}")
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        if not platforms or not traceback.extract_tb(error.__traceback__)[-1].filename.endswith("xla_bridge.py"):
            raise
        why = " ".join(str(error).partition(" (")[0].split()) or "JAX finds no such device"
        sys.exit(f"error: JAX_PLATFORMS={platforms}: {why}; unset it to use what there is")


def _divided(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words without the overrides of the configuration, and these by key; a key alone is switched on."""
    own: list[str] = []
    overrides: dict[str, str] = {}
    rest = list(words)
    while rest:
        name, given, value = rest.pop(0).partition("=")
        if not name.startswith("--config."):
            own.append(f"{name}{given}{value}")
            continue
        if not given:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        overrides[name.removeprefix("--config.")] = value
    return own, overrides


def _print_keys(words: Sequence[str], overrides: dict[str, str]) -> None:
    """The keys of the configuration that the words name, if they name one."""
    chooser = Parser(add_help=False)
    chooser.add_argument("--config")
    name = chooser.parse_known_args(words)[0].config
    if name:
        from fcam_jax.configuration import configuration
        from fcam_jax.configuration.keys import keys_text

        print(keys_text(configuration(name, overrides)))
