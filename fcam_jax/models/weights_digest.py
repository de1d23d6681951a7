"""A checksum of a model's weights: what tells two models of one structure apart, wherever they are stored."""

import hashlib

import jax
import numpy as np
from flax import nnx


def weights_digest(model: nnx.Module) -> str:
    """SHA-256 over the names, types, shapes and values of all variables of a model, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model))):
        values = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
