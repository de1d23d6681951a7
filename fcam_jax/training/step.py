"""The train step, one function for every method: jitted, and mapped over the devices of the mesh axis `data`.

Parameters are replicated, images are spread. The per-device code takes its means over the axis by name, in the losses
and in BatchNorm, so the result does not depend on the number of devices.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.data.augment import Augment
from fcam_jax.methods.contract import Method, image_keys
from fcam_jax.runtime.random import OfStep, stream
from fcam_jax.runtime.remat import only_kept
from fcam_jax.training.placed import REPLICATED, SPREAD, Placed, replicate, split_model
from fcam_jax.types import DATA_AXIS, Batch


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


def initial_state(placed: Placed, optimizer: optax.GradientTransformation) -> TrainState:
    """State before the first step, on all devices. It owns its arrays: steps donate them, the model keeps its own."""
    momentum = jax.jit(optimizer.init)(placed.params)
    return replicate(_copied(TrainState(jnp.zeros((), jnp.int32), placed.params, placed.rest, momentum)), placed.mesh)


@jax.jit
def _copied(state: TrainState) -> TrainState:
    """All arrays by one program: one by one, each shape would compile one of its own."""
    return jax.tree.map(jnp.copy, state)


TrainStep = Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, dict[str, Float[Array, ""]]]]


def make_train_step(
    placed: Placed,
    method: Method,
    optimizer: optax.GradientTransformation,
    augment: Augment | None = None,
    *,
    accumulate: int = 1,
    remat: bool = False,
) -> TrainStep:
    """The step `(state, batch, rng) -> (state, metrics)`, which takes nothing that is not on the devices already.

    Whatever would be copied from the host or between devices at every step raises: state and rng are to be replicated
    once, and a batch put there by `spread`. Arguments are those of `jitted_step`.
    """
    step = jitted_step(placed, method, optimizer, augment, accumulate=accumulate, remat=remat)
    return jax.transfer_guard("disallow")(step)


def jitted_step(
    placed: Placed,
    method: Method,
    optimizer: optax.GradientTransformation,
    augment: Augment | None = None,
    *,
    accumulate: int = 1,
    remat: bool = False,
) -> Any:
    """The step as `jax.jit` gives it, which can be lowered and compiled ahead of time.

    The random key of a step is `fold_in(rng, state.step)`, so a resumed run repeats the uninterrupted one. The state
    that is passed in is donated. Metrics are the method's and "loss", already means over the global batch.

    Args:
      placed: gives structure and devices; its variables are not used.
      method: the loss and what it trains.
      optimizer: the update.
      augment: changes the images that the method sees.
      accumulate: parts of the batch that are taken one after the other, for one update by their mean gradient.
      remat: whether the backward pass computes again, from what is `kept`, what the forward pass had.
    """

    def gradients(
        params: dict[Any, Any], rest: dict[Any, Any], batch: Batch, key: Key[Array, ""], step: Array
    ) -> tuple[dict[Any, Any], tuple[dict[str, Array], dict[Any, Any]]]:
        def loss_of(params: dict[Any, Any]) -> tuple[Array, tuple[dict[str, Array], dict[Any, Any]]]:
            local = nnx.merge(placed.structure, params, rest, copy=True)
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
        mesh=placed.mesh,
        in_specs=(REPLICATED, SPREAD, REPLICATED),
        out_specs=(REPLICATED, REPLICATED),
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=placed.compiler_options)


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
