"""Which places of an encoder a method reads or changes: those of its authors' program, else by one rule for all."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Encoder, Place

T = TypeVar("T")


def ends_of_stages(encoder: Encoder, count: int) -> tuple[Place, ...]:
    """The last place of each of the last `count` stages; the last places of all where there are fewer stages.

    Raises:
      InputError: the encoder has fewer places.
    """
    places = encoder.places()
    if len(places) < count:
        what = f"{len(places)} places where its maps can be read; the method needs {count}"
        raise InputError(f"{type(encoder).__name__} has {what}")
    ends = tuple({place.stage: place for place in places}.values())[-count:]
    return ends if len(ends) == count else places[-count:]


def of_encoder(known: Mapping[type[Encoder], T], encoder: Encoder | Callable[..., Encoder]) -> T | None:
    """What is known for the class of an encoder, or of what builds one, such as a `functools.partial`; or None."""
    kind = type(encoder) if isinstance(encoder, Encoder) else getattr(encoder, "func", encoder)
    return next((value for base, value in known.items() if isinstance(kind, type) and issubclass(kind, base)), None)
