"""Where the stages of an encoder show a spot of light, against where their grids say that it is."""

import jax.numpy as jnp
import numpy as np
from abstract import abstract_encoder
from flax import nnx


def misplaced(name, size, light=1, **settings):
    """By how many pixels, down and across, each stage shows a spot beside its place: an array [stages, 2].

    Of little `light` no layer with an upper bound cuts the spot, however often residuals have added it up.
    """
    encoder = blurring(abstract_encoder(name, **settings))
    place = 0.52 * size[0], 0.52 * size[1]
    image = jnp.asarray(spot(size, place, encoder.strides[-1])[None, :, :, None].repeat(3, axis=-1), jnp.float32)
    stages = nnx.jit(lambda encoder, x: encoder(x, train=False))(encoder, light * image)
    errors = []
    for index, stage in enumerate(stages):
        cells = centre(np.asarray(encoder.map_of(stage))[0].mean(axis=-1))
        shares = [first + step * cell for first, step, cell in zip(*encoder.grid(index, size), cells, strict=True)]
        errors.append([n * share - 0.5 - at for n, share, at in zip(size, shares, place, strict=True)])
    return np.array(errors)


def spot(size, place, deviation):
    """A Gaussian in [0, 1] around a place, in pixels."""
    y, x = (np.arange(side) - at for side, at in zip(size, place, strict=True))
    return np.exp(-(y[:, None] ** 2 + x**2) / (2 * deviation**2))


def centre(values):
    """Where a map shows the spot; of the squares, so that its tails, which the image's border cuts, weigh little."""
    mass = np.asarray(values, np.float64) ** 2
    return [(np.indices(mass.shape)[axis] * mass).sum() / mass.sum() for axis in (0, 1)]


def blurring(encoder):
    """An abstract encoder with layers that average and no more, most of all at their kernels' centre.

    So the spot stays symmetric, and no kernel's weight lies beside its middle as training would have it.
    """
    state = nnx.to_flat_state(nnx.state(encoder, nnx.Any(nnx.Param, nnx.BatchStat)))
    values = nnx.from_flat_state({path: leaf.replace(_averaging(path, leaf.shape)) for path, leaf in state})
    found = nnx.merge(nnx.graphdef(encoder), values)
    found.strided = tuple(tuple(layer._replace(shift=0.0) for layer in layers) for layers in encoder.strided)
    return found


def _averaging(path, shape):
    if path[-1] != "kernel":
        return jnp.full(shape, float(path[-1] in ("scale", "var")))
    height, width, channels, outputs = shape
    inputs = 1 if outputs == 1 < channels else channels  # a depthwise kernel's are its channels
    kernel = np.full(shape, 1 / (height * width * inputs))
    if height % 2 and width % 2:
        kernel *= 0.05
        kernel[height // 2, width // 2] += 0.95 / inputs
    return jnp.asarray(kernel, jnp.float32)
