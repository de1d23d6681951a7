"""What makes maps of any network doubtful: images in another range, layers off the way, units that are dead."""

import logging
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fcam_jax.cams.any_network import AnyNetwork
from fcam_jax.cams.contract import Network, Target
from fcam_jax.cams.layouts import tokens
from fcam_jax.cams.running import How, runner, seen
from fcam_jax.data.arrays import bounds_of
from fcam_jax.errors import InputError

logger = logging.getLogger(__name__)

_LEVELS = 16  # the highest value above which numbers without negative ones are levels of grey in [0, 255]
_FAINT = 0.02  # that below which they have been divided once more than once


def of_range(inputs: Array, dtype: Any, prepared: bool) -> None:
    """Warn in one line where a network is given levels as they are, or what was divided twice."""
    low, high = bounds_of(inputs)
    if not prepared and (dtype == np.uint8 or (low >= 0 and high > _LEVELS)):
        logger.warning(
            "the network is given values in [%g, %g] as they are; if it was trained on others, give preprocess=, such "
            "as lambda images: images / 127.5 - 1",
            low,
            high,
        )
    elif prepared and low >= 0 and 0 < high < _FAINT:
        logger.warning("images after preprocess lie in [%g, %g]: have they been divided twice?", low, high)


def of_constant(
    how: How, network: Network, inputs: Array, wanted: Any, keys: Array, flat: Bool[np.ndarray, " n"]
) -> None:
    """Say why maps are constant, of a batch with such a map.

    Raises:
      InputError: no change of a layer's map changes what is explained, so that the layer cannot explain it.
    """
    moved, reached = runner(network)(_reach, how)(network, inputs, wanted, keys)
    for place, (gradient, any_way) in enumerate(zip(np.asarray(moved), np.asarray(reached), strict=True)):
        if not gradient.any() and not any_way.any():
            name, hint = f"of stage {place}", ""
            if isinstance(network, AnyNetwork):
                name = network.names[int(how.stages[place])]
                of_tokens = isinstance(network.layouts[int(how.stages[place])], tokens)
                hint = ": a head on the class token sees no patch of the last block; take its first norm" * of_tokens
            raise InputError(
                f"the layer {name} does not lie on the way to the target: no change of its map changes it{hint}"
            )
    dead = not np.asarray(moved).any(axis=0).all()
    logger.warning(
        "%d of %d maps are constant, first that of image %d: %s (docs/any_network.md)",
        flat.sum(),
        len(flat),
        flat.argmax(),
        "its units are dead, no gradient comes to the layer; or no found box fits that of Detection"
        if dead
        else "its weighted sum is nowhere positive",
    )


def _reach(
    how: How, network: Network, inputs: Array, wanted: Any, keys: Array
) -> tuple[Float[Array, "s b"], Bool[Array, "s b"]]:
    """Of every stage and image, the largest entry of the gradient, and whether a map of NaN comes to the target."""
    whole, _ = seen(network, inputs, wanted, keys)
    targets: list[Target] = [whole.at(stage) for stage in how.fused(whole).stages]
    moved = [jnp.abs(one.gradient()).max(axis=(1, 2, 3)) for one in targets]
    reached = [jnp.isnan(one.score(jnp.full_like(one.features, jnp.nan))) for one in targets]
    return jnp.stack(moved), jnp.stack(reached)
