"""Max-sensitivity: how much a map changes when the image hardly does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from fcam_jax.data.arrays import keys_of
from fcam_jax.evaluation.faithfulness.arrays import (
    Explain,
    batches,
    explained,
    images_of,
    joined,
    labels_like,
    not_negative,
    whole,
)


def sensitivity(
    explain: Explain,
    images: Any,
    labels: Any,
    *,
    samples: int = 10,
    radius: float = 0.1,
    key: Any = None,
    batch_size: int = 32,
) -> Float[np.ndarray, " b"]:
    """Largest relative change of each image's map under noise on the image; from 0 up, better low.

    $$ \\max_{i \\le n} \\frac{\\|\\Phi(X + \\delta_i) - \\Phi(X)\\|_2}{\\|\\Phi(X)\\|_2}, \\qquad
       \\delta_i \\sim U[-r s, r s] \\text{ at each pixel and channel} $$

    with the standard deviation s of the image, and cut where it leaves the image's own range. It is a lower bound of
    the maximum over all such noise, which grows with n. A map of zeros has 0 where it stays one, else infinity. A
    constant map is the least sensitive of all: the figure says nothing of what a map shows.

    Args:
      explain: images [b, h, w, c] and labels [b] to maps [b, y, x], or to what has them as `maps`; called as it is,
        n + 1 times for a batch, so jit it. Always of `batch_size` images.
      images: in the range that `explain` takes; they become float32.
      labels: class of each image: the same with noise and without.
      samples: n.
      radius: r, in standard deviations of each image.
      key: a seed, a key, or a key for each image; by default seed 0.
      batch_size: images at a time.

    Raises:
      InputError: an array or a setting cannot be used; maps with NaN.

    Reference: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition 2; divided by
      the norm of the map as in their program.
    Differs from: their program, and Captum, whose radius is in units of the input.
    """
    whole("samples", samples)
    not_negative("radius", radius)
    images = images_of(images)
    labels, keys = labels_like(labels, images), keys_of(key, len(images))
    found = []
    for chosen in batches(len(images), batch_size, "sensitivity"):
        shown, classes = jnp.asarray(images[chosen], jnp.float32), jnp.asarray(labels[chosen])
        clean = explained(explain, shown, classes)
        most = jnp.zeros(len(shown))
        for i in range(samples):
            noisy = explained(explain, _noisy(shown, keys[chosen], i, radius), classes)
            most = jnp.maximum(most, _change(clean, noisy))
        found.append(np.asarray(most))
    return joined(found, len(images))


@jax.jit
def _noisy(
    images: Float[Array, "b h w c"], keys: Key[Array, " b"], sample: Any, radius: Any
) -> Float[Array, "b h w c"]:
    drawn = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, sample), images.shape[1:], minval=-1))(keys)
    noisy = images + radius * images.std(axis=(1, 2, 3), keepdims=True) * drawn
    return jnp.clip(noisy, images.min(axis=(1, 2, 3), keepdims=True), images.max(axis=(1, 2, 3), keepdims=True))


@jax.jit
def _change(clean: Float[Array, "b h w"], noisy: Float[Array, "b h w"]) -> Float[Array, " b"]:
    change, norm = (jnp.sqrt((maps**2).sum(axis=(1, 2))) for maps in (noisy - clean, clean))
    return jnp.where(change == 0, 0, change / norm)
