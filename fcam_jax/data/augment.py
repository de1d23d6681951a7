"""Stronger augmentation of what the network sees, on the device, by dm_pix.

Colours only: boxes, masks, seeds and CAMs stay where they are. Crops and flips are the pipeline's (`transforms.py`).
Probabilities and ranges are those of BYOL (Grill et al., NeurIPS 2020, appendix B).
"""

from collections.abc import Callable, Sequence

import dm_pix
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from fcam_jax.component import Registry

Pixels = Float[Array, "h w 3"]
Augmentation = Callable[[Key[Array, ""], Pixels], Pixels]


def jitter(key: Key[Array, ""], image: Pixels) -> Pixels:
    """With probability .8: brightness by up to .4, contrast and saturation by up to 40 % and 20 %, hue by up to .1."""
    when, *keys = jax.random.split(key, 5)
    changed = dm_pix.random_brightness(keys[0], image, 0.4)
    changed = dm_pix.random_contrast(keys[1], changed, 0.6, 1.4)
    changed = dm_pix.random_saturation(keys[2], jnp.clip(changed, 0, 1), 0.8, 1.2)
    return _sometimes(when, 0.8, dm_pix.random_hue(keys[3], jnp.clip(changed, 0, 1), 0.1), image)


def grayscale(key: Key[Array, ""], image: Pixels) -> Pixels:
    """With probability .2 without colour."""
    return _sometimes(key, 0.2, dm_pix.rgb_to_grayscale(image, keep_dims=True), image)


def blur(key: Key[Array, ""], image: Pixels) -> Pixels:
    """With probability .5 blurred by a Gaussian of .1 to 2 pixels at 224 x 224, and in proportion at other sizes."""
    when, how = jax.random.split(key)
    side = max(image.shape[:2])
    radius = max(1, side // 20)
    sigma = jax.random.uniform(how, (), minval=0.1, maxval=2.0) * side / 224
    padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    return _sometimes(when, 0.5, dm_pix.gaussian_blur(padded, sigma, 2 * radius, padding="VALID"), image)


def solarize(key: Key[Array, ""], image: Pixels) -> Pixels:
    """With probability .2: levels above one half are inverted."""
    return _sometimes(key, 0.2, dm_pix.solarize(image, 0.5), image)


AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation", {"jitter": jitter, "grayscale": grayscale, "blur": blur, "solarize": solarize}
)

Augment = Callable[[Key[Array, " b"], UInt8[Array, "b h w 3"]], UInt8[Array, "b h w 3"]]


def augmenter(names: Sequence[str]) -> Augment | None:
    """Some of `AUGMENTATIONS` one after the other, each with a key of its own for every image; None without a name.
    Raises InputError: for a name that does not exist.
    """
    steps = [AUGMENTATIONS[name] for name in names]

    def one(key: Key[Array, ""], image: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
        pixels = image / jnp.float32(255)
        for step, step_key in zip(steps, jax.random.split(key, len(steps)), strict=True):
            pixels = jnp.clip(step(step_key, pixels), 0, 1)
        return jnp.rint(255 * pixels).astype(jnp.uint8)

    return jax.vmap(one) if steps else None


def _sometimes(key: Key[Array, ""], probability: float, changed: Pixels, image: Pixels) -> Pixels:
    return jnp.where(jax.random.bernoulli(key, probability), changed, image)
