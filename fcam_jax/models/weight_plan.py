"""Which tensor of a file goes into which variable of a module, and everything that speaks against it; nothing is set
before the whole plan is known to be sound.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.weight_files import Weights
from fcam_jax.models.weight_names import Named, Names


@dataclasses.dataclass(frozen=True)
class Plan:
    """The comparison of a module with a file.

    Attributes:
      names: the family of the file.
      variables: the module's variables by their names in that family.
      values: the tensors that fit, in our layout.
      problems: what does not fit, a phrase each.
    """

    names: Names
    variables: Mapping[str, nnx.Variable]
    values: Mapping[str, np.ndarray]
    problems: tuple[str, ...]

    @property
    def fit(self) -> float:
        """Share of the module's tensors that the file has in the right shape."""
        return len(self.values) / len(self.variables)

    @property
    def untouched(self) -> tuple[str, ...]:
        """First names of the layers that are not in the file."""
        return tuple(sorted({name.partition(".")[0] for name in self.variables.keys() - self.values.keys()}))

    def carry_out(self) -> int:
        """Set the variables, as float32; returns how many."""
        for name, array in self.values.items():
            self.variables[name].set_value(jnp.asarray(array, jnp.float32))
        return len(self.values)


def plan(module: Named, weights: Weights, names: Names) -> Plan:
    """Compare a module, which may be abstract, with tensors named as a family names them."""
    variables = named_variables(module, names)
    values: dict[str, np.ndarray] = {}
    problems = []
    for name, variable in variables.items():
        if name not in weights:
            if not name.startswith(names.added):
                problems.append(f"{name} is missing")
            continue
        array = names.ours(weights[name])
        if array.shape != variable.shape:
            problems.append(f"{name} has shape {array.shape} instead of {variable.shape}")
        elif not np.isfinite(array.astype(np.float32)).all():
            problems.append(f"{name} holds NaN or infinity")
        else:
            values[name] = array
    problems += [f"{name} is unexpected" for name in weights if name not in variables and not names.ignores(name)]
    return Plan(names, variables, values, tuple(problems))


def best_plan(module: Named, weights: Weights) -> Plan:
    """The comparison under the family of names that leaves the fewest problems."""
    return min((plan(module, weights, names) for names in module.weight_names), key=lambda found: len(found.problems))


def closest_encoder(weights: Weights, final_stride: int = 8) -> tuple[str, Encoder, Plan]:
    """The encoder that shares the most tensors with a file: its name, its shapes, and how they compare."""
    encoders = {name: _shapes(build, final_stride) for name, build in ENCODERS.items()}
    found = [(name, encoder, best_plan(encoder, weights)) for name, encoder in encoders.items()]
    return max(found, key=lambda entry: (entry[2].fit, -len(entry[2].problems)))


def named_variables(module: Named, names: Names) -> dict[str, nnx.Variable]:
    """Parameters and BatchNorm statistics of a module by their names in a family."""
    state = nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)))
    return {names.name(path): variable for path, variable in state}


@functools.cache
def _shapes(build: Callable[..., Encoder], final_stride: int) -> Encoder:
    """An encoder without values, at its own stride where it has no other; nothing may be set in it."""
    try:
        return nnx.eval_shape(lambda: build(final_stride=final_stride, rngs=nnx.Rngs(0)))
    except InputError:
        return nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
