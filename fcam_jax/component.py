"""Components: what is chosen by name, each of which brings its own settings, checks and meaning.

A component is a frozen dataclass, whose fields are its settings, or a module class, whose keyword arguments with a
value are. It says what is wrong with a setting by the field's name; whoever knows the key puts that before (`at_key`).
"""

import contextlib
import dataclasses
import functools
import inspect
import numbers
import os
import pathlib
import re
import sys
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import Any, TypeVar

from fcam_jax.errors import InputError, unknown_name

T = TypeVar("T")

_OF_THE_BUILDER = ("dtype", "rngs")  # keywords of modules that are no settings


class Registry(dict[str, T]):
    """The components of a kind by name, in the order of the tables.

    Args:
      kind: what one is called in messages, such as ``"encoder"``.
      members: those of this package. A user's file adds its own by `register`.
    """

    def __init__(self, kind: str, members: Mapping[str, T]):
        super().__init__(members)
        self.kind = kind
        self.files: dict[str, str] = {}  # that have registered components, by the components' names

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds a component. Raises InputError: the name is taken by another component."""

        caller = sys._getframe(1)
        while caller.f_back and caller.f_globals["__name__"].partition(".")[0] in ("jaxtyping", "beartype"):
            caller = caller.f_back  # what checks types in the tests stands between
        file = caller.f_code.co_filename

        def add(member: T) -> T:
            if _source(self.get(name, member)) != _source(member):
                raise InputError(f"the {self.kind} {name!r} is there already; give yours another name")
            self[name] = member
            self.files[name] = file
            return member

        return add

    def __getitem__(self, name: str) -> T:
        if not isinstance(name, str) or name not in self:
            raise unknown_name(self.kind, name, self)
        return super().__getitem__(name)


def defaults_of(component: Callable[..., Any]) -> dict[str, Any]:
    """The settings of a component and their defaults, in their order."""
    if dataclasses.is_dataclass(component):
        fields = [field for field in dataclasses.fields(component) if field.init]
        return {field.name: _default(field) for field in fields if _default(field) is not dataclasses.MISSING}
    given = component if isinstance(component, functools.partial) else functools.partial(component)
    if inspect.isclass(given.func):  # the metaclass of modules hides what their constructors take
        given = functools.partial(given.func.__init__, None, *given.args, **given.keywords)
    parameters = inspect.signature(given).parameters.values()
    keywords = [one for one in parameters if one.kind is one.KEYWORD_ONLY and one.name not in _OF_THE_BUILDER]
    return {one.name: one.default for one in keywords if one.default is not one.empty}


def meanings_of(component: Callable[..., Any]) -> dict[str, str]:
    """What the settings mean: the sections "Attributes" and "Args" of the docstring, a line for each name."""
    found: dict[str, str] = {}
    component = getattr(component, "func", component)
    bases = component.__mro__[::-1] if inspect.isclass(component) else (component,)
    for one in bases:
        text = inspect.cleandoc(one.__doc__ or "")
        for section in re.findall(r"^(?:Attributes|Args):\n((?:  .*\n?|\n)*)", text, flags=re.MULTILINE):
            for name, meaning in re.findall(r"^  (\w+): ((?:.*\n?)(?:    .*\n?)*)", section, flags=re.MULTILINE):
                found[name] = " ".join(meaning.split())
    return found


@contextlib.contextmanager
def at_key(key: str) -> Iterator[None]:
    """Put a key such as ``"config.classifier.has."`` or ``"--"`` before what a component says of its fields."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}{error}") from None


def path_of(given: Any, name: str) -> pathlib.Path:
    """A path that a caller gives. Raises InputError: it is none."""
    if not isinstance(given, str | os.PathLike) or not os.fspath(given) or isinstance(os.fspath(given), bytes):
        raise InputError(f"{name} is {given!r:.100}; it must be a path")
    return pathlib.Path(given)


def is_number(value: Any) -> bool:
    """Whether a value is one real number, of Python, NumPy or JAX."""
    return isinstance(value, numbers.Real) or getattr(value, "ndim", None) == 0


def at_least(settings: Any, **least: float | int) -> None:
    """Refuse fields below their least values, and those of whole numbers that hold another."""
    of_fields = getattr(type(settings), "__annotations__", {})
    for name, bound in least.items():
        value = getattr(settings, name)
        fraction = isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral)
        if of_fields.get(name) is int and fraction:
            raise InputError(f"{name} is {value}; it must be a whole number")
        _must(name, value, is_number(value) and value >= bound, f"be at least {bound}")


def above(settings: Any, **bounds: float | int) -> None:
    """Refuse fields that are not above their bounds, or are no numbers."""
    for name, bound in bounds.items():
        value = getattr(settings, name)
        _must(name, value, is_number(value) and value > bound, f"be above {bound}")


def shares(settings: Any, *names: str) -> None:
    """Refuse fields that do not lie in [0, 1], or hold a number that does not."""
    for name in names:
        found = getattr(settings, name)
        for value in found if isinstance(found, tuple) else (found,):
            _must(name, value, is_number(value) and 0 <= value <= 1, "lie in [0, 1]")


def known(settings: Any, **names: Collection[Any]) -> None:
    """Refuse fields that hold none of the known names; the message lists these."""
    for name, there in names.items():
        value = getattr(settings, name)
        if not isinstance(value, Hashable) or value not in there:
            raise InputError(f"{name} is {value!r}; known: {', '.join(sorted(map(str, there)))}")


def _must(name: str, value: Any, fine: Any, what: str) -> None:
    if not fine:
        raise InputError(f"{name} is {value}; it must {what}")


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _source(member: Any) -> Any:
    """Where a component is defined, so that a file that is loaded twice may register it twice."""
    member = getattr(member, "func", member)
    return getattr(member, "__qualname__", member), getattr(member, "__module__", None)
