"""Functions as one program: operation by operation, each operation would be a program that is compiled."""

import jax

from fcam_jax.types import DATA_AXIS


def at_once(function, *arguments):
    """The result of a function of arrays and networks."""
    return jax.jit(function)(*arguments)


@jax.jit
def in_inference(model, images):
    """Stages and scores of a network."""
    return model(images, train=False)


def on_devices(count, function, *arrays):
    """The result of what reduces over the mesh axis on so many devices, each of which has its share of the images."""
    shares = [array.reshape(count, -1, *array.shape[1:]) for array in arrays]
    found = at_once(jax.vmap(function, axis_name=DATA_AXIS), *shares)
    return jax.tree.map(lambda leaf: leaf[0], found)
