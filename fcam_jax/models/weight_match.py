"""Where a network is in a file, which tensor goes into which of its variables, and all that speaks against it.

Training programs put dicts around a state dict and words before its names, such as "state_dict.module.conv1.weight",
and save averages, optimisers and further layers beside it. Nothing is set before a whole plan is known to be sound.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.weight_files import Weights
from fcam_jax.models.weight_names import CLASS_BIASES, HEAD_PREFIXES, Named, Names, named_variables
from fcam_jax.runtime.random import weight_keys
from fcam_jax.runtime.text import listed, printable, shorten

_AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?|shadow)([._]|$)", re.IGNORECASE)
# Words around the one network that is meant; what the last one ends in is empty.
_USUAL = {"state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "module", "_orig_mod"}
_USUAL |= {"backbone", "encoder", ""}
# Beginnings of what is saved beside a network without a word before its own names.
_OF_TRAINING = ("optim", "ema", "swa", "criterion", "loss", "scaler", "scheduler", "lr_", "rng", "n_averaged")
_MOST_WORDS, _LONGEST = 12, 300  # words of a tensor's own name, and letters of all of it


@dataclasses.dataclass(frozen=True)
class Part:
    """A network's tensors among those of a file."""

    prefix: str  # what stands before their names in the file
    weights: Weights  # by their names without it
    rest: Weights  # the other tensors, by their names in the file
    shared: int  # how many have the name of one of the network's
    told: str  # which are taken and which left out, where there is a question
    doubt: str  # why others may be meant


@dataclasses.dataclass(frozen=True)
class Plan:
    """The comparison of a module with a file."""

    names: Names  # the family of the file
    variables: Mapping[str, nnx.Variable]  # the module's, by their names in that family
    values: Mapping[str, np.ndarray]  # the tensors of the right shape, in our layout
    problems: tuple[str, ...]  # what does not fit, a phrase each
    told: str = ""  # what was made to fit

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


def part_of(weights: Weights, module: Named) -> Part:
    """The part under the words before which the most tensors have names of a module's."""
    families = (named_variables(module, names).keys() for names in module.weight_names)
    return max((_part(weights, known) for known in families), key=lambda part: part.shared)


def encoder_and_head(part: Part, encoder: Encoder, head: Collection[str] = ()) -> tuple[Weights, Weights]:
    """Tensors of the encoder, which may be abstract, and of the classification layer, each by its own names.

    The layer may have any name, and stand beside the encoder's part, where no other is linear and takes its features.
    `head` holds the tensors of the classifier's head by name, where it is known.
    """
    known = {name for names in encoder.weight_names for name in named_variables(encoder, names)}
    others = {name: array for name, array in part.weights.items() if name not in known}
    last = {name: array for name, array in others.items() if name.startswith(HEAD_PREFIXES)}
    taken = set(last)
    if not last.keys() & {*CLASS_BIASES, *head}:
        outer = part.prefix
        linear = _only_linear(others, encoder.channels[-1])
        while outer and not (linear or last):
            outer = "".join(re.findall(r"[^./]*[./]", outer)[:-1])
            beside = {name: array for name, array in part.rest.items() if name.startswith(outer)}
            linear = _only_linear(beside, encoder.channels[-1])
        taken |= set(linear.values())
        last = {new: {**part.rest, **others}[old] for new, old in linear.items()} or last
    return {name: array for name, array in part.weights.items() if name not in taken}, last


def classes_of(last: Weights) -> int | None:
    """Classes of a classification layer."""
    sizes = [array.size for name, array in last.items() if name.endswith(CLASS_BIASES)]
    return next(iter(sizes), len(last["fc.weight"]) if "fc.weight" in last else None)


def plan(module: Named, weights: Weights, names: Names, prefix: str = "") -> Plan:
    """Compare a module, which may be abstract, with tensors as a family names them after the prefix of the file."""
    variables = named_variables(module, names)
    values: dict[str, np.ndarray] = {}
    problems, told = [], []
    for name, variable in variables.items():
        if name not in weights:
            problems += [] if name.startswith(names.added) else [f"{prefix}{name} is missing"]
            continue
        array = weights[name]
        ours = names.ours(array)
        if ours.shape != variable.shape and isinstance(module, Encoder):
            before, ours = ours.shape, module.resized(name, ours)
            told += [f"{prefix}{name} is resampled from {before} to {ours.shape}"] if ours.shape != before else []
        if ours.shape != variable.shape:
            shape = names.theirs(np.broadcast_to(0, variable.shape)).shape
            problems.append(f"{prefix}{name} has shape {array.shape} instead of {shape}")
            continue
        values[name] = ours
        if array.dtype.kind in "iub":  # the scales of quantized weights are elsewhere
            problems.append(f"{prefix}{name} holds whole numbers ({array.dtype}), as quantized files do")
        elif not np.isfinite(array.astype(np.float32)).all():
            problems.append(f"{prefix}{name} holds NaN or infinity")
    others = (name for name in weights if name not in variables)
    others = (name for name in others if not (name.startswith(names.ignored) or name.endswith(names.ignored)))
    problems += [f"{prefix}{name} is unexpected" for name in others]
    return Plan(names, variables, values, tuple(problems), "; ".join(told))


def best_plan(module: Named, weights: Weights, prefix: str = "") -> Plan:
    """The comparison under the family of names that leaves the fewest problems."""
    plans = (plan(module, weights, names, prefix) for names in module.weight_names)
    return min(plans, key=lambda found: len(found.problems))


def closest_encoder(weights: Weights, final_stride: int = 8) -> tuple[str, Encoder, Part, Plan]:
    """The encoder that shares the most tensors with a file: its name, its shapes, its part, and how they compare.

    The first one that it fits is taken; no other is looked at then, nor other sizes of a network that shares no names.
    """
    found, strangers = [], set()
    for name, build in ENCODERS.items():
        network = getattr(build, "func", build)
        if network in strangers:
            continue
        encoder = _shapes(build, final_stride)
        part = part_of(weights, encoder)
        if not part.shared:
            strangers.add(network)
        found.append((name, encoder, part, best_plan(encoder, encoder_and_head(part, encoder)[0], part.prefix)))
        if not found[-1][3].problems:
            return found[-1]
    return max(found, key=lambda entry: (entry[3].fit, -len(entry[3].problems)))


@functools.cache
def _shapes(build: Callable[..., Encoder], final_stride: int) -> Encoder:
    """An encoder without values, at its own stride where it has no other; nothing may be set in it."""
    try:
        return nnx.eval_shape(lambda: build(final_stride=final_stride, rngs=weight_keys(0)))
    except InputError:
        return nnx.eval_shape(lambda: build(rngs=weight_keys(0)))


def _part(weights: Weights, known: Collection[str]) -> Part:
    votes = collections.Counter(
        before for name in weights for before in _beginnings(name) if name[len(before) :] in known
    )
    most = max(votes.values(), default=0)
    places = [before for before, count in votes.items() if count == most] or [""]
    averaged = [before for before in places if _AVERAGED.search(before)]
    usual = [before for before in places if set(re.split("[./]", before)) <= _USUAL]
    clear = next((one for one in (places, averaged, usual) if len(one) == 1), [])
    prefix = (clear or places)[0]
    under: dict[str, np.ndarray] = {}
    rest: dict[str, np.ndarray] = {}
    for name, array in weights.items():
        own = name[len(prefix) :] if name.startswith(prefix) else ""
        beside = not own or (own not in known and (own.startswith(_OF_TRAINING) or not array.ndim))
        (rest if beside else under)[name if beside else own] = array
    groups = collections.Counter(_beside(name, prefix) for name, array in rest.items() if array.ndim)
    kind = " of the averaged network" if prefix in averaged else ""
    told = [f"the tensors{kind} under {_shown(prefix)} are taken"] if prefix else []
    told += [f"left out: {listed([f'{name} ({count})' for name, count in groups.items()], 5)}"] if groups else []
    doubt = ""
    if not clear and not all(_same(weights, place, prefix, known) for place in places):
        doubt = f"it holds several networks, under {listed([_shown(place) for place in places], 5)}: save one alone"
    return Part(prefix, under, rest, most, "; ".join(told), doubt)


def _same(weights: Weights, one: str, other: str, known: Collection[str]) -> bool:
    """Whether two networks are one, which a program has saved twice."""
    pairs = ((weights[one + name], weights.get(other + name)) for name in known if one + name in weights)
    return all(np.array_equal(array, again) for array, again in pairs)  # type: ignore[arg-type]


def _beginnings(name: str) -> Iterator[str]:
    """What may stand before a tensor's own name."""
    yield ""
    if len(name) <= _LONGEST:
        yield from (name[: found.end()] for found in list(re.finditer(r"[./]", name))[-_MOST_WORDS:])


def _beside(name: str, prefix: str) -> str:
    """The words of a name up to the first that the prefix has not."""
    words = re.findall(r"[^./]*[./]?", name[:_LONGEST])
    count = next((i for i, word in enumerate(words) if not prefix.startswith("".join(words[: i + 1]))), 0)
    return _shown("".join(words[: count + 1]))


def _shown(name: str) -> str:
    return repr(shorten(printable(name.rstrip("./")), 60))


def _only_linear(tensors: Weights, width: int) -> dict[str, str]:
    """The names of the one linear layer that takes so many features, by those that such a layer has here."""
    found = []
    for name, array in tensors.items():
        for weight, bias, axis, to in ((".weight", ".bias", 1, "fc"), ("/kernel", "/bias", 0, "conv_preds")):
            if name.endswith(weight) and array.ndim == 2 and array.shape[axis] == width:
                stem = name.removesuffix(weight)
                found.append({to + leaf: stem + leaf for leaf in (weight, bias) if stem + leaf in tensors})
    return found[0] if len(found) == 1 else {}
