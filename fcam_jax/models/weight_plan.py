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
from fcam_jax.models.weight_names import Named, Names, named_variables
from fcam_jax.models.weight_parts import Part, encoder_and_head, part_of


@dataclasses.dataclass(frozen=True)
class Plan:
    """The comparison of a module with a file.

    Attributes:
      names: the family of the file.
      variables: the module's variables by their names in that family.
      values: the tensors of the right shape, in our layout.
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


def plan(module: Named, weights: Weights, names: Names, prefix: str = "") -> Plan:
    """Compare a module, which may be abstract, with tensors named as a family names them.

    Args:
      module: the module.
      weights: the tensors, without what stands before their names.
      names: the family's.
      prefix: what stands there in the file, for messages.
    """
    variables = named_variables(module, names)
    values: dict[str, np.ndarray] = {}
    problems = []
    for name, variable in variables.items():
        if name not in weights:
            if not name.startswith(names.added):
                problems.append(f"{prefix}{name} is missing")
            continue
        array = weights[name]
        if names.ours(array).shape != variable.shape:
            shape = names.theirs(np.broadcast_to(0, variable.shape)).shape
            problems.append(f"{prefix}{name} has shape {array.shape} instead of {shape}")
            continue
        values[name] = names.ours(array)
        if array.dtype.kind in "iub":  # the scales of quantized weights are elsewhere
            problems.append(f"{prefix}{name} holds whole numbers ({array.dtype}), as quantized files do")
        elif not np.isfinite(array.astype(np.float32)).all():
            problems.append(f"{prefix}{name} holds NaN or infinity")
    others = [name for name in weights if name not in variables and not names.ignores(name)]
    problems += [f"{prefix}{name} is unexpected" for name in others]
    return Plan(names, variables, values, tuple(problems))


def best_plan(module: Named, weights: Weights, prefix: str = "") -> Plan:
    """The comparison under the family of names that leaves the fewest problems."""
    plans = (plan(module, weights, names, prefix) for names in module.weight_names)
    return min(plans, key=lambda found: len(found.problems))


def closest_encoder(weights: Weights, final_stride: int = 8) -> tuple[str, Encoder, Part, Plan]:
    """The encoder that shares the most tensors with a file: its name, its shapes, its part, and how they compare."""
    found = []
    for name, build in ENCODERS.items():
        encoder = _shapes(build, final_stride)
        part = part_of(weights, encoder)
        found.append((name, encoder, part, best_plan(encoder, encoder_and_head(part, encoder)[0], part.prefix)))
    return max(found, key=lambda entry: (entry[3].fit, -len(entry[3].problems)))


@functools.cache
def _shapes(build: Callable[..., Encoder], final_stride: int) -> Encoder:
    """An encoder without values, at its own stride where it has no other; nothing may be set in it."""
    try:
        return nnx.eval_shape(lambda: build(final_stride=final_stride, rngs=nnx.Rngs(0)))
    except InputError:
        return nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
