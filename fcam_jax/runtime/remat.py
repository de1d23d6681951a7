"""Rematerialisation: what the forward pass keeps for the backward pass, where the rest is computed a second time.

Kept are the maps between the parts of the networks, and what is dear to compute but small.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Num

_KEPT = "kept"

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def kept(x: Num[Array, "*n"]) -> Num[Array, "*n"]:
    """The array as it is; the backward pass of `only_kept` finds it in memory."""
    return checkpoint_name(x, _KEPT)


def only_kept(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, of which the backward pass has nothing but its arguments and what is `kept`."""
    return jax.checkpoint(function, policy=jax.checkpoint_policies.save_only_these_names(_KEPT))
