"""Evaluation on several hosts: each has its part of the arrays and of the findings, and all shall have the whole."""

import pickle
from collections.abc import Iterator
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")


def local_part(array: jax.Array | np.ndarray) -> np.ndarray:
    """The rows of a batch that are on this host's devices, in order.

    Args:
      array: spread over the devices of all hosts along its first axis.
    """
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    rows = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(rows[start]) for start in sorted(rows)])


def of_every_host(value: T) -> Iterator[T]:
    """The value that each host calls this with, one after the other, on all hosts.

    All hosts must call it and go through all of it; one value at a time is held in memory.

    Args:
      value: what this host has; anything that can be pickled.
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
