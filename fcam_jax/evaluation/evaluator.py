"""Evaluation of a model: the maps of a split's batches to figures, for several methods side by side.

The device works on the next batch while threads measure the maps of the last one; nothing is kept per image but the
examples that were asked for. Several hosts measure a part each, and all of them have the figures of the whole.
"""

import dataclasses
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from fcam_jax.errors import InputError
from fcam_jax.evaluation.class_accuracy import class_ranks
from fcam_jax.evaluation.findings import Findings, Wanted
from fcam_jax.evaluation.metric import Scored, thresholds
from fcam_jax.evaluation.result import Evaluation, Example
from fcam_jax.evaluation.stream import Load, gathered
from fcam_jax.types import Annotation, Batch, Localization

T = TypeVar("T")


def evaluate(
    localize: Callable[[Batch], Mapping[str, Localization]],
    batches: Iterable[tuple[Batch, list[Annotation]]],
    wanted: Wanted,
    keep: frozenset[int] = frozenset(),
    val_thresholds: Mapping[str, float] | None = None,
) -> dict[str, Evaluation]:
    """Evaluate the score maps of a split. Box metrics need boxes, PxAP needs masks; what the split has is reported.

    Args:
      localize: by method, score maps of the true class and class scores of a batch.
      batches: this host's images of the split, each once, with their ground truth; the padding of a batch comes last
        and without ground truth. All hosts have the same number of batches.
      wanted: what is measured.
      keep: positions in the split of the images to return as examples.
      val_thresholds: by method, the threshold that was best on the validation split; the accuracies there are added to
        the method's figures as "BoxAcc_at_val" and so on, those at the nearest threshold of this evaluation,
        "threshold_at_val".

    Returns:
      The evaluation of every method.

    Raises:
      InputError: for an empty split, or a map or ground truth that cannot be used.
    """
    examples: dict[str, dict[int, Example]] = {}

    def groups() -> Iterator[list[Load]]:
        for batch, annotations in batches:
            group: list[Load] = []
            for method, found in localize(batch).items():
                for sample, example in _images(batch, jax.tree.map(local_part, found), annotations):
                    group.append((method, sample))
                    if sample.position in keep:
                        examples.setdefault(method, {})[sample.position] = example
            yield group

    # On one core less than there are: the device, when it is a CPU, needs the others.
    known = gathered(groups(), wanted, max(1, (os.cpu_count() or 2) - 1))
    whole: dict[str, Findings] = {}
    shown: dict[str, dict[int, Example]] = {}
    for part, some in of_every_host((known, examples)):
        for method, more in part.items():
            whole.setdefault(method, Findings(wanted)).merge(more)
            shown.setdefault(method, {}).update(some.get(method, {}))
    if not any(findings.images for findings in whole.values()):
        raise InputError("nothing to evaluate: the split holds no image that can be used")
    result, taus = {}, thresholds(wanted.step)
    for method, findings in whole.items():
        kept = [shown[method][position] for position in sorted(shown[method])]
        if (chosen := (val_thresholds or {}).get(method)) is None:
            result[method] = findings.evaluation(examples=kept)
            continue
        nearest = int(np.abs(taus - chosen).argmin())
        one = findings.evaluation((nearest, "val"), kept)
        result[method] = dataclasses.replace(one, metrics=one.metrics | {"threshold_at_val": float(taus[nearest])})
    return result


def _images(batch: Batch, found: Localization, annotations: Sequence[Annotation]) -> Iterator[tuple[Scored, Example]]:
    """The images of a batch and what a method says of them, once to be measured and once to be shown."""
    count, maps = len(annotations), np.asarray(found.maps)
    ranks: list[int | None] = [None] * count
    predicted = list(ranks)
    if found.logits is not None:
        logits = np.asarray(found.logits)[:count]
        ids = [annotation.image_id for annotation in annotations]
        ranks = class_ranks(logits, np.asarray(batch.labels[:count]), ids).tolist()
        predicted = logits.argmax(axis=1).tolist()
    for i, annotation in enumerate(annotations):
        measures = {name: np.asarray(values[i]) for name, values in found.measures.items()}
        sample = Scored(maps[i], annotation, ranks[i], int(batch.index[i]), measures)
        yield sample, Example(np.asarray(batch.images[i]), annotation, maps[i], ranks[i], predicted[i])


def local_part(array: jax.Array | np.ndarray) -> np.ndarray:
    """The rows that are on this host's devices, in order, of an array that is spread over those of all hosts."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    rows = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(rows[start]) for start in sorted(rows)])


def of_every_host(value: T) -> Iterator[T]:
    """The value, which can be pickled, that each host calls this with, one after the other, on all hosts.

    All hosts must call it and go through all of it; one value at a time is held in memory.
    """
    if jax.process_count() == 1:
        yield value
        return
    own = np.frombuffer(pickle.dumps(value), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array(len(own), np.int32)))
    for host, length in enumerate(lengths.tolist()):
        is_source = jax.process_index() == host
        sent = own if is_source else np.zeros(length, np.uint8)
        data = multihost_utils.broadcast_one_to_all(sent, is_source=is_source)
        # Only what the same program on another host has just pickled is read.
        yield pickle.loads(np.asarray(data).tobytes())
