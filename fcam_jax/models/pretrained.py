"""What somebody has published for an encoder: weights that can be had by a name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Published weights of one encoder.

    Attributes:
      name: what they are called: `timm:NAME`, `torchvision:NAME_Weights.VERSION` or `hub:ORG/REPO[:FILE]`.
      licence: of the weights, as their publisher says, by its SPDX name where there is one.
      side: of the images that they were trained or are evaluated with, in pixels.
      classes: of their classification layer; 0 where they have none.
      file: what a weight of torchvision is called at download.pytorch.org/models, with the start of its SHA-256.
    """

    name: str
    licence: str
    side: int = 224
    classes: int = 1000
    file: str = ""


class Sized(functools.partial):
    """The constructor of an encoder of one size, with the weights that are published for it.

    `Sized(ResNet, BasicBlock, (2, 2, 2, 2), pretrained=(Pretrained(...),))`. An encoder that has one size alone has the
    tuple as the class attribute `pretrained`. Of torchvision's weights its own default comes first.
    """

    pretrained: tuple[Pretrained, ...] = ()

    def __new__(cls, encoder: Callable[..., Any], *args: Any, pretrained: tuple[Pretrained, ...] = (), **settings: Any):
        """Bind the arguments of the size."""
        self = super().__new__(cls, encoder, *args, **settings)
        self.pretrained = pretrained
        return self


def published(constructor: Callable[..., Any]) -> tuple[Pretrained, ...]:
    """The weights that are published for what a constructor builds."""
    return getattr(constructor, "pretrained", ())


def torchvision(of: str, *, side: int = 224, **files: str) -> tuple[Pretrained, ...]:
    """torchvision's weights, by its class of them without "_Weights" and their files by version.

    `torchvision("ResNet18", IMAGENET1K_V1="resnet18-f37072fd.pth")`; its own default comes first.
    """
    name = f"torchvision:{of}_Weights"
    return tuple(Pretrained(f"{name}.{version}", "BSD-3-Clause", side, file=file) for version, file in files.items())
