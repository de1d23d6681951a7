"""Which places of an encoder methods read or change: those of the authors' programs, else by one rule for all."""

import itertools
from collections.abc import Callable, Mapping
from typing import TypeVar

from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Encoder, Place
from fcam_jax.models.inception import InceptionV3
from fcam_jax.models.resnet import ResNet
from fcam_jax.models.vgg import VGG16

T = TypeVar("T")
COUNT = 3
# By the encoder's class, from low to high; an empty name is the end of the stage, and of "a|b" the first that is there.
OF_ADL: Mapping[type[Encoder], tuple[str, ...]] = {
    ResNet: ("layer3.0", "layer4.0", ""),
    VGG16: ("pool3", "conv4_3", "conv5_3"),
    InceptionV3: ("Mixed_5d", "Mixed_6e", ""),
}
OF_SPG: Mapping[type[Encoder], tuple[str, ...]] = {
    ResNet: ("layer3.0", ""),
    VGG16: ("conv4_3", "conv5_3"),
    InceptionV3: ("Mixed_5d", "Mixed_6e"),
}
SPG_WIDTHS: Mapping[type[Encoder], int] = {InceptionV3: 512}  # of its branches there; else that of the upper place
SPG_TOPS: Mapping[type[Encoder], tuple[int, ...]] = {VGG16: (512, 512)}  # the new layers on top, where they are others


def three_places(encoder: Encoder, published: Mapping[type[Encoder], tuple[str, ...]]) -> tuple[Place, ...]:
    """`last_places`, three of them."""
    return last_places(encoder, published, COUNT)


def last_places(encoder: Encoder, published: Mapping[type[Encoder], tuple[str, ...]], count: int) -> tuple[Place, ...]:
    """The ends of the last stages, `count` of them, or the last places where there are fewer stages.

    The names of an encoder's class in `published` stand in their place.

    Raises:
      InputError: the encoder has fewer places.
    """
    places = encoder.places()
    if len(places) < count:
        what = f"{len(places)} places where its maps can be read; the method needs {count}"
        raise InputError(f"{type(encoder).__name__} has {what}")
    ends = tuple({place.stage: place for place in places}.values())[-count:]
    named = {place.name: place for place in places}
    pairs = itertools.zip_longest(of_encoder(published, encoder) or (), ends if len(ends) == count else places[-count:])
    return tuple(next(named[one] for one in name.split("|") if one in named) if name else end for name, end in pairs)


def of_encoder(known: Mapping[type[Encoder], T], encoder: Encoder | Callable[..., Encoder]) -> T | None:
    """What is known for the class of an encoder, or of what builds one, such as a `functools.partial`; or None."""
    kind = type(encoder) if isinstance(encoder, Encoder) else getattr(encoder, "func", encoder)
    return next((value for base, value in known.items() if isinstance(kind, type) and issubclass(kind, base)), None)


def needs_map(encoder: Encoder) -> None:
    """Refuse an encoder whose head sees a class token, for a method that needs a map of the classes.

    Raises:
      InputError: it is a transformer with the class token.
    """
    if encoder.cam_stage != -1:
        raise InputError(
            f"the head of {type(encoder).__name__} sees a class token, and the method needs a map; set pool=mean "
            "among the encoder's settings"
        )
