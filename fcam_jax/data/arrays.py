"""A caller's own arrays, brought to the form in which the program takes them, or refused in one line."""

import io
import pathlib
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import MAP, open_regular

# NumPy parses a header as Python, and CPython 3.11 counts the depth of that in one place for all threads: two at once
# may fail with a SystemError (python/cpython#106905).
_PARSER = threading.Lock()


def array_of(values: Any, name: str) -> Array | np.ndarray:
    """An array of numbers, out of whatever holds them; NaN and infinities are refused where values are known.

    What is no array of JAX becomes one of NumPy: within a compiled function, its values are then known still.

    Raises:
      InputError: it holds no numbers, or rows of several lengths, or what is not finite.
    """
    try:
        found = values if isinstance(values, jax.Array) else np.asarray(values)
    except jax.errors.TracerArrayConversionError:
        found = jnp.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: no array of numbers ({str(error).splitlines()[0]})") from None
    if not (jnp.issubdtype(found.dtype, jnp.number) or found.dtype == bool):
        raise InputError(f"{name}: no array of numbers ({found.dtype})")
    if 0 in found.shape:
        raise InputError(f"{name} have the shape {found.shape}; none of it may be 0")
    if known(found) and not np.isfinite(np.asarray(found)).all():
        raise InputError(f"{name} hold NaN or infinities")
    return found


def known(values: Array | np.ndarray) -> bool:
    """Whether values can be looked at: not while a function is traced."""
    return not isinstance(values, jax.core.Tracer)


def bounds_of(values: Array | np.ndarray) -> tuple[float, float]:
    """Lowest and highest of known values; by NumPy, since JAX computes nothing while a function is traced."""
    there = np.asarray(values)
    return float(there.min()), float(there.max())


def not_folded(values: Array | np.ndarray) -> Float[Array, "..."]:
    """The values in float32, that are computed with when a program runs and never while it is compiled.

    Those that a jitted caller closes over are constants, and XLA evaluates by itself what hangs on them alone: sorting
    the pixels of eight images of 224 x 224 takes it a minute.
    """
    return jax.lax.optimization_barrier(jnp.asarray(values, jnp.float32))


def levels_of(images: Any, name: str = "images") -> Float[Array, "..."]:
    """RGB in [0, 255], float32, from integers in [0, 255], or from floats in [0, 255] or [0, 1].

    Images are [b, h, w, 3] or [h, w, 3]. While a function is traced, floats cannot be told apart and are refused.

    Raises:
      InputError: for another shape or range.
    """
    found = array_of(images, name)
    if found.ndim not in (3, 4) or found.shape[-1] != 3:
        raise InputError(f"{name} have the shape {found.shape}; it must be (images, height, width, 3), or of one image")
    whole = jnp.issubdtype(found.dtype, jnp.integer)
    if not known(found):
        if not whole:
            raise InputError(f"{name} are floats whose range is not known in a compiled function; give uint8")
        return jnp.asarray(found, jnp.float32)
    low, high = bounds_of(found)
    if low < 0 or high > 255 or (not whole and 1.001 < high < 2):
        raise InputError(f"{name} lie in [{low:g}, {high:g}]; they must lie in [0, 255] or, as floats, in [0, 1]")
    if whole and high == 1:
        raise InputError(f"{name} hold whole numbers of 0 and 1 alone; multiply them by 255, or give floats")
    scale = 255.0 if not whole and high <= 1.001 else 1.0
    return jnp.asarray(found, jnp.float32) * scale


def keys_of(key: Any, count: int) -> Key[Array, " b"]:
    """A random key for each of `count` images, of its place in the batch: by None (0), a seed, or a key; or such keys.

    Raises:
      InputError: for anything else.
    """
    if key is None or (isinstance(key, int) and -(2**63) <= key < 2**63):
        key = jax.random.key(key or 0)
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise InputError("the key must be a seed, or made by jax.random.key")
    if key.ndim == 0:
        return jax.vmap(lambda place: jax.random.fold_in(key, place))(jnp.arange(count))
    if key.shape != (count,):
        raise InputError(f"there are keys of the shape {key.shape} for {count} images")
    return key


def read_map(path: pathlib.Path) -> np.ndarray:
    """The array in a `.npy` file; nothing in it is executed.

    Raises InputError: the file holds no whole array of numbers.
    """
    try:
        with open_regular(path, MAP) as file:
            data = io.BytesIO(file.read())
        with _PARSER:
            return np.lib.format.read_array(data, allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever its parser stumbles over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as an array saved by numpy.save: {reason}") from error
