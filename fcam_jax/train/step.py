"""The train step, one function for every method: jitted, and mapped over the devices of the mesh axis `data`.

Parameters are replicated, images are spread. The per-device code takes its means over the axis by name, in the losses
and in BatchNorm, so the result does not depend on the number of devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from fcam_jax.data.augment import Augment
from fcam_jax.errors import InputError
from fcam_jax.methods.contract import Method, image_keys
from fcam_jax.runtime.compiler_options import compiler_options
from fcam_jax.runtime.random import OfStep, stream
from fcam_jax.runtime.remat import only_kept
from fcam_jax.types import DATA_AXIS, Batch, Localization

REPLICATED, SPREAD = PartitionSpec(), PartitionSpec(DATA_AXIS)

Tree = TypeVar("Tree")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes.

    Attributes:
      step: number of steps done.
      params: the variables that training changes, as nested dicts.
      rest: all other variables of the model: frozen parameters and BatchNorm statistics.
      optimizer: momentum and step count of the optimiser.
    """

    step: Int[Array | np.ndarray, ""]
    params: dict[Any, Any]
    rest: dict[Any, Any]
    optimizer: Any


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


def split_model(model: nnx.Module, method: Method) -> tuple[Any, dict[Any, Any], dict[Any, Any]]:
    """A model's structure, its trainable variables and its other variables."""
    structure, *parts = nnx.split(model, method.trainable, ...)
    params, rest = parts
    return structure, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def initial_state(model: nnx.Module, method: Method, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """State before the first step, on all devices. It owns its arrays: steps donate them, the model keeps its own."""
    _, params, rest = split_model(model, method)
    state = TrainState(jnp.zeros((), jnp.int32), params, rest, optimizer.init(params))
    return replicate(jax.tree.map(jnp.array, state), mesh)


TrainStep = Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, dict[str, Float[Array, ""]]]]


def make_train_step(
    model: nnx.Module,
    method: Method,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    augment: Augment | None = None,
    *,
    accumulate: int = 1,
    remat: bool = False,
) -> TrainStep:
    """The step `(state, batch, rng) -> (state, metrics)`, which takes nothing that is not on the devices already.

    Whatever would be copied from the host or between devices at every step raises: state and rng are to be replicated
    once, and a batch put there by `spread`. Arguments are those of `jitted_step`.
    """
    step = jitted_step(model, method, optimizer, mesh, augment, accumulate=accumulate, remat=remat)

    def guarded(state: TrainState, batch: Batch, rng: Key[Array, ""]) -> tuple[TrainState, dict[str, Array]]:
        with jax.transfer_guard("disallow"):
            return step(state, batch, rng)

    return guarded


def jitted_step(
    model: nnx.Module,
    method: Method,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    augment: Augment | None = None,
    *,
    accumulate: int = 1,
    remat: bool = False,
) -> Any:
    """The step as `jax.jit` gives it, which can be lowered and compiled ahead of time.

    The random key of a step is `fold_in(rng, state.step)`, so a resumed run repeats the uninterrupted one. The state
    that is passed in is donated. Metrics are the method's and "loss", already means over the global batch.

    Args:
      model: gives the structure; its variables are not used.
      method: the loss and what it trains.
      optimizer: the update.
      mesh: the devices.
      augment: changes the images that the method sees.
      accumulate: parts of the batch that are taken one after the other, for one update by their mean gradient.
      remat: whether the backward pass computes again, from what is `kept`, what the forward pass had.
    """
    structure, _, _ = split_model(model, method)

    def gradients(
        params: dict[Any, Any], rest: dict[Any, Any], batch: Batch, key: Key[Array, ""], step: Array
    ) -> tuple[dict[Any, Any], tuple[dict[str, Array], dict[Any, Any]]]:
        def loss_of(params: dict[Any, Any]) -> tuple[Array, tuple[dict[str, Array], dict[Any, Any]]]:
            local = nnx.merge(structure, params, rest, copy=True)
            loss, metrics = method.loss(local, batch, key, step)
            return loss, ({"loss": loss, **metrics}, _same(split_model(local, method)[2]))

        return jax.grad(only_kept(loss_of) if remat else loss_of, has_aux=True)(params)

    def per_device(state: TrainState, batch: Batch, rng: Key[Array, ""]) -> tuple[TrainState, dict[str, Array]]:
        step = jnp.asarray(state.step)
        step_key = jax.random.fold_in(rng, step)
        if augment is not None:
            batch = augmented(batch, augment, step_key)
        take = functools.partial(gradients, key=step_key, step=step)
        # Each device has the gradients of its own images, which are summed up over the axis once and all together.
        params = jax.lax.pcast(state.params, DATA_AXIS, to="varying")
        if accumulate == 1:
            own, (metrics, rest) = take(params, state.rest, batch)
        else:
            own, (metrics, rest) = _accumulated(take, params, state.rest, batch, accumulate)
        total = jax.lax.psum(own, DATA_AXIS)
        updates, optimizer_state = optimizer.update(total, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, rest, optimizer_state), metrics

    mapped = jax.shard_map(
        per_device,
        mesh=mesh,
        in_specs=(REPLICATED, SPREAD, REPLICATED),
        out_specs=(REPLICATED, REPLICATED),
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=_options(mesh))


def _options(mesh: Mesh) -> dict[str, str] | None:
    return compiler_options(mesh.devices.flat[0].platform)


def _same(rest: dict[Any, Any]) -> dict[Any, Any]:
    """The variables that are not trained; raises where a method leaves in one what only one device knows."""
    for path, leaf in jax.tree.leaves_with_path(rest):
        if DATA_AXIS in jax.typeof(leaf).manual_axis_type.varying:
            raise ValueError(
                f"the loss leaves another value in {jax.tree_util.keystr(path, simple=True, separator='.')} on every "
                "device; take a mean over DATA_AXIS, or `of_all` or `same` of methods.contract"
            )
    return rest


def _part(batch: Batch, number: Int[Array, ""], count: int) -> Batch:
    """A part of a device's batch: every image whose place is `number` modulo `count`.

    As `count` divides the device's batch, these are the images whose place in the global batch is, however many devices
    there are.
    """
    part = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:])[:, number], batch)
    return dataclasses.replace(part, part=number)


def _accumulated(
    gradients: Callable[..., Any], params: dict[Any, Any], rest: dict[Any, Any], batch: Batch, count: int
) -> tuple[dict[Any, Any], tuple[dict[str, Array], dict[Any, Any]]]:
    """Mean gradients and metrics of the parts of a device's batch, and the other variables after the last one."""

    def one(carry: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
        total, rest = carry
        found, (metrics, rest) = gradients(params, rest, _part(batch, number, count))
        return (jax.tree.map(jnp.add, total, found), rest), metrics

    start = jax.tree.map(jnp.zeros_like, params), rest
    (total, rest), metrics = jax.lax.scan(one, start, jnp.arange(count, dtype=jnp.int32))
    return jax.tree.map(lambda x: x / count, total), (jax.tree.map(lambda x: x.mean(axis=0), metrics), rest)


def augmented(batch: Batch, augment: Augment, step_key: Key[Array, ""]) -> Batch:
    """The batch with the images changed as in the step of this key, and the raw ones beside them."""
    raw = jnp.asarray(batch.images)
    keys = image_keys(stream(step_key, OfStep.AUGMENTATION), batch)
    return dataclasses.replace(batch, images=augment(keys, raw), raw=raw)


Forward = Callable[[dict[Any, Any], dict[Any, Any], Batch], Any]


def make_forward(model: nnx.Module, method: Method, what: Callable[[Any, Batch], Tree], mesh: Mesh) -> Forward:
    """Compile `(params, rest, batch) -> what(model, batch)`; what comes out is spread over the devices as the batch is.

    Args:
      model: gives the structure; its variables are not used.
      method: what is trained of it.
      what: anything with a row for every image.
      mesh: the devices.
    """
    structure, _, _ = split_model(model, method)

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, SPREAD), compiler_options=_options(mesh))
    def forward(params: dict[Any, Any], rest: dict[Any, Any], batch: Batch) -> Tree:
        return what(nnx.merge(structure, params, rest), batch)

    return forward


Localize = Callable[[dict[Any, Any], dict[Any, Any], Batch], dict[str, Localization]]


def make_localize(
    model: nnx.Module, method: Method, ways: Mapping[str, Callable[[Any, Batch], Localization]], mesh: Mesh
) -> Localize:
    """Compile `(params, rest, batch) -> {way: Localization}`; what comes out is spread as the batch is.

    All ways share the model's forward pass, which the compiler does once.

    Args:
      model: gives the structure; its variables are not used.
      method: what is trained of it.
      ways: yield the score maps, such as the method's `localize`.
      mesh: the devices.
    """
    forward = make_forward(model, method, lambda merged, batch: [way(merged, batch) for way in ways.values()], mesh)
    # The names stay outside of the compiled function, which would sort them.
    return lambda params, rest, batch: dict(zip(ways, forward(params, rest, batch), strict=True))
