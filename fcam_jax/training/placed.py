"""A model and the devices that it is on: one object for all who train it, evaluate it or look at it.

Parameters are on every device, images are spread over them along the mesh axis `data`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import jax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fcam_jax.errors import InputError
from fcam_jax.methods.contract import Method
from fcam_jax.runtime.compiler_options import compiler_options
from fcam_jax.types import DATA_AXIS, Batch, Localization

REPLICATED, SPREAD = PartitionSpec(), PartitionSpec(DATA_AXIS)

Tree = TypeVar("Tree")


class Variables(Protocol):
    """Values for a model's structure: a `Placed` model's own, or those of a `TrainState`."""

    @property
    def params(self) -> dict[Any, Any]:
        """The variables that training changes."""

    @property
    def rest(self) -> dict[Any, Any]:
        """All others."""


Forward = Callable[[Variables, Batch], Any]
Localize = Callable[[Variables, Batch], dict[str, Localization]]


@dataclasses.dataclass(frozen=True)
class Placed:
    """A model in parts, which `jax.jit`, optax and Orbax take, and its devices.

    Attributes:
      structure: the model without its variables.
      params: the variables that training changes, as nested dicts.
      rest: all others: frozen parameters and statistics of BatchNorm.
      mesh: the devices.
    """

    structure: Any
    params: dict[Any, Any]
    rest: dict[Any, Any]
    mesh: Mesh

    @classmethod
    def split(cls, model: nnx.Module, method: Method, mesh: Mesh) -> "Placed":
        """The parts of a model, whose variables stay where they are; `method` says what of it is trained."""
        return cls(*split_model(model, method), mesh)

    def replicated(self) -> "Placed":
        """The same with the variables on every device."""
        params, rest = replicate((self.params, self.rest), self.mesh)
        return dataclasses.replace(self, params=params, rest=rest)

    @property
    def compiler_options(self) -> dict[str, str] | None:
        """What `jax.jit` is to tell the compiler of these devices."""
        return compiler_options(self.mesh.devices.flat[0].platform)

    def forward(self, what: Callable[[Any, Batch], Any]) -> Forward:
        """Compile `(variables, batch) -> what(model, batch)`, a row for every image, for a host's batches."""

        @functools.partial(
            jax.jit, out_shardings=NamedSharding(self.mesh, SPREAD), compiler_options=self.compiler_options
        )
        def compiled(params: dict[Any, Any], rest: dict[Any, Any], batch: Batch) -> Any:
            return what(nnx.merge(self.structure, params, rest), batch)

        return lambda variables, batch: compiled(variables.params, variables.rest, spread(batch, self.mesh))

    def localize(self, ways: Mapping[str, Callable[[Any, Batch], Localization]]) -> Localize:
        """Compile `(variables, batch) -> {way: Localization}`; the compiler does the model's pass once for all ways."""
        forward = self.forward(lambda model, batch: [way(model, batch) for way in ways.values()])
        # The names stay outside of the compiled function, which would sort them.
        return lambda variables, batch: dict(zip(ways, forward(variables, batch), strict=True))


def split_model(model: nnx.Module, method: Method) -> tuple[Any, dict[Any, Any], dict[Any, Any]]:
    """A model's structure, its trainable variables and its other variables."""
    structure, *parts = nnx.split(model, method.trainable, ...)
    params, rest = parts
    return structure, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def data_mesh(batch_size: int, accumulate: int = 1) -> Mesh:
    """All devices on one axis.

    Args:
      batch_size: images of a batch, over all devices.
      accumulate: parts that each device takes its share of the batch in.

    Raises:
      InputError: when the batch cannot be spread evenly.
    """
    count = jax.device_count()
    if batch_size % count:
        raise InputError(
            f"a batch of {batch_size} images cannot be spread evenly: data.batch_size and evaluation.batch_size must "
            f"each be a multiple of the {count} devices"
        )
    if batch_size // count % accumulate:
        raise InputError(
            f"train.accumulate is {accumulate}; it must divide the {batch_size // count} images that each of the "
            f"{count} devices has of a batch (data.batch_size={batch_size})"
        )
    return jax.make_mesh((count,), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def spread(batch: Batch, mesh: Mesh) -> Batch:
    """Put a host's batch on its devices."""
    sharding = NamedSharding(mesh, SPREAD)
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), batch)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Put all of a tree's arrays on every device. Of several hosts, each has them all, and serves its own devices."""
    sharding = NamedSharding(mesh, REPLICATED)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda array: jax.make_array_from_callback(array.shape, sharding, lambda _: array), tree)
