"""What every reader owes, whatever the input: an answer, or an `InputError` of one short line that names the file."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky, HypothesisWarning

from fcam_jax.errors import LONGEST, InputError
from tests.fuzz.damage import Damage, damages
from tests.fuzz.parsers import Parser

SECONDS = 5  # of a processor, for one small input
WAITING = 60  # seconds by the clock, for what waits without working
MEMORY = 512 << 20  # bytes that one small input may take for a while
_ADDRESSES = 4 << 30  # bytes, so that a mistake here does not take the machine down

# Events of `sys.addaudithook` that reading has no use for, and those that change a file.
_FORBIDDEN = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class"}
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}


class BrokenError(AssertionError):
    """A reader does not keep its word.

    Attributes:
      kind: tells this fault from others.
    """

    def __init__(self, kind: str, text: str):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class _Hang(BaseException):
    """Raised where time is over; no reader catches it."""


@dataclasses.dataclass
class Explored:
    """What came of damage to the input of a parser.

    Attributes:
      said: of every input that `check` found nothing wrong with, what that said.
      damage: the smallest that breaks the parser's word; None where none did.
      error: how.
    """

    said: list[str] = dataclasses.field(default_factory=list)
    damage: Damage | None = None
    error: Exception | None = None


def explore(
    parser: Parser, place: pathlib.Path, examples: int, start: int | None = None, known: frozenset[str] = frozenset()
) -> Explored:
    """Try damage to the valid input of a parser.

    Args:
      parser: what is tried.
      place: a folder for inputs; `work` in it is the last one.
      examples: number of inputs.
      start: seed of the inputs; None for the same ones at every call.
      known: kinds of faults that are not told again.
    """
    template, work = place / "template", place / "work"
    make(parser, template)
    paths = sorted(path for path in template.glob(parser.damaged) if path.is_file())
    found = Explored()

    def one(damage: Damage) -> None:
        found.damage = damage
        fresh(template, work)
        try:
            found.said.append(check(parser, work, damage.apply(work)))
        except BrokenError as broken:
            if broken.kind not in known:
                raise

    files = {path.relative_to(template).as_posix(): path.read_bytes() for path in paths}
    wanted = settings(
        max_examples=examples,
        derandomize=start is None,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    test = wanted(given(damages(files, parser.whole_files))(one))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # inputs are long texts
            (test if start is None else seed(start)(test))()
    except (BrokenError, Flaky) as error:
        found.error = error
    else:
        found.damage = None
    return found


def make(parser: Parser, folder: pathlib.Path) -> None:
    """Write the valid input of a parser."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parser.make(folder)


def fresh(template: pathlib.Path, work: pathlib.Path) -> None:
    """A copy of a folder in the place of what was there."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(template, work, symlinks=True)


def check(parser: Parser, folder: pathlib.Path, damaged: pathlib.Path) -> str:
    """Have an input read; returns what is said against it.

    Args:
      parser: what reads it.
      folder: the input.
      damaged: the file that was damaged.

    Raises:
      BrokenError: the reader does not keep its word.
    """
    before = _memory("VmRSS")
    with _watched(folder) as told, _bounded():
        try:
            parser.read(folder, damaged)
            said = ""
        except InputError as error:
            said = str(error)
            names = (folder.name, damaged.name, ascii(damaged.name)[1:-1], *parser.names)
            if not any(name in said for name in names):
                raise BrokenError("message without the name of a file", said) from error
            told.append(said)
        except _Hang as error:
            raise BrokenError("too long", f"more than {SECONDS} s, at {_where(error)}") from None
        except BrokenError:
            raise
        except BaseException as error:  # pytest's own, too, as the promises of data sets are asserted
            raise BrokenError(f"{type(error).__name__} at {_where(error)}", str(error)[:300]) from error
    grown = _memory("VmHWM") - before
    if grown > MEMORY:
        raise BrokenError("too much memory", f"{grown >> 20} MiB")
    for message in told:
        if not message or not message.isprintable() or len(message) > LONGEST:
            raise BrokenError("message that is not one short line", f"{len(message)} letters: {message[:300]!r}")
    return said


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    def over(*_: object) -> None:
        raise _Hang

    signals = (signal.SIGPROF, signal.ITIMER_PROF, SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, WAITING)
    old = [(number, signal.signal(number, over)) for number, _, _ in signals]
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + _ADDRESSES, limits[1]))
    try:
        for _, timer, seconds in signals:
            signal.setitimer(timer, seconds, 1)  # again, where one is lost in a callback
        yield
    finally:
        for _, timer, _ in signals:
            signal.setitimer(timer, 0)
        for number, handler in old:
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextlib.contextmanager
def _watched(folder: pathlib.Path) -> Iterator[list[str]]:
    """Within this nothing may be started, or written outside of the folder; gives what is logged, as a list.

    Raises:
      BrokenError: something was.
    """
    told: list[str] = []
    logger, handler = logging.getLogger("fcam_jax"), logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    _watch.begin(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", module=r"PIL\.")  # as `data/images.py` has it
            yield told
    finally:
        seen = _watch.end()
        logger.removeHandler(handler)
    if seen:
        raise BrokenError(seen[0][0], f"{seen[0][1]}")


class _Watch:
    """What the interpreter says of files and programs, in the folder that is watched."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[tuple[str, str]] = []
        self.hooked = False

    def begin(self, folder: pathlib.Path) -> None:
        if not self.hooked:
            sys.addaudithook(self.hook)  # for the rest of the process
            self.hooked = True
        if sys.platform == "linux":
            pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
        self.seen, self.folder = [], os.path.realpath(folder)

    def end(self) -> list[tuple[str, str]]:
        self.folder = None
        return self.seen

    def hook(self, event: str, given: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _FORBIDDEN:
            self.seen.append((event, str(given)[:200]))
        elif event in _CHANGES or (event == "open" and self._writes(given[2])):
            path = given[1] if event in ("os.rename", "os.symlink", "os.link") else given[0]
            if isinstance(path, str | bytes) and not self._may(
                os.path.normpath(pathlib.Path(os.fsdecode(path)).absolute())
            ):
                self.seen.append((f"{event} outside of the folder", os.fsdecode(path)))

    @staticmethod
    def _writes(flags: Any) -> bool:
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    def _may(self, path: pathlib.Path) -> bool:
        compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.devnull)
        where = os.path.normpath(path)
        return f"{where}/".startswith((f"{self.folder}/", f"{os.devnull}/", f"{compiled}/")) or "__pycache__" in where


_watch = _Watch()


def _where(error: BaseException) -> str:
    """The deepest line of the package that the error has passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/fcam_jax/" in frame.filename] or frames
    return f"{ours[-1].filename.rpartition('/fcam_jax/')[2]}:{ours[-1].lineno}"


def _memory(name: str) -> int:
    """Bytes, as Linux says it; 0 elsewhere."""
    if sys.platform != "linux":
        return 0
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))
