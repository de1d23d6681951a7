"""Several processes that are one run: how they find each other, what the first does for all, and how they end together.

A process is one per machine or one per GPU; with one process everything here is a plain call. Nothing touches a device.
"""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax
from jax._src import cloud_tpu_init, distributed  # the store of the processes has no public name

from fcam_jax.errors import REQUEUE, InputError
from fcam_jax.runtime import preemption
from fcam_jax.runtime.text import first_line

# Seconds: a process waits so long for the others at the start; asks so often whether one has ended; waits so long, when
# one has, until all know of it; and is taken for dead by JAX, which then aborts the others, when so long silent.
FIND, ASK, TELL, SILENT = 600, 1.0, 10, 30
# Where one has been asked to stop, all have agreed to, and each has that long to write the last things on its own.
STOP = 60

_FOR_EVER = 10**9  # milliseconds; what is waited for comes, or the run ends
_ENDED = "fcam/ended"
_ending = threading.Lock()
_results = iter(range(sys.maxsize))


def start(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Join the other processes of the run, before any device is used.

    Without arguments, a cluster is looked for: several tasks of a Slurm step or of Open MPI, or a TPU slice. Where
    there is none, the process is alone, and nothing happens.

    Args:
      coordinator: HOST:PORT, at which the first process listens and all others can reach it.
      processes: number of processes.
      process: which one this is, from 0.

    Raises:
      InputError: for arguments that do not fit together, or processes that do not find each other.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if coordinator is not None and processes is not None and process is not None:
        options = _explicit(coordinator, processes, process)
    elif len(missing) < len(given):
        raise InputError(f"--coordinator, --processes and --process belong together; --{missing[0]} is missing")
    elif (method := _cluster(os.environ)) is not None:
        options = {"cluster_detection_method": method}
    else:
        return
    too_late = threading.Timer(FIND, _not_found)
    too_late.daemon = True
    too_late.start()
    try:
        # At the end of its time JAX aborts the process with a dump of its stack; so it is given more than it will need.
        with preemption.ending_at_once():
            jax.distributed.initialize(**options, initialization_timeout=2 * FIND, heartbeat_timeout_seconds=SILENT)
    except Exception as error:  # a dozen of types, after what went wrong on the way
        raise InputError(f"the processes of the run do not find each other: {first_line(error)}") from error
    finally:
        too_late.cancel()
    if _are_several():
        threading.Thread(target=_watch, name="watch of the other hosts", daemon=True).start()


def is_first() -> bool:
    """Whether this is the process that writes and prints for all."""
    return bool(distributed.global_state.process_id == 0)


def of_first(compute: Callable[[], Any]) -> Any:
    """What the first process computes, JSON data, on all processes; the others wait for it.

    All processes must call it, in the same order. Raises InputError: on all processes, where `compute` raises one.
    """
    if not _are_several():
        return compute()
    key, store = f"fcam/result/{next(_results)}", _store()
    if not is_first():
        found = json.loads(store.blocking_key_value_get(key, _FOR_EVER))
        if "error" in found:
            raise InputError(found["error"])
        return found["result"]
    try:
        result = compute()
    except InputError as error:
        store.key_value_set(key, json.dumps({"error": str(error)}))
        raise
    store.key_value_set(key, json.dumps({"result": result}))
    return result


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """End all processes of the run where what is within ends this one otherwise than well.

    The others would wait for ever for what this one does not send any more. All end with its status, and say which
    host has failed and how.
    """
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if not _are_several() or code in (None, 0):
            raise
        if isinstance(error, SystemExit):
            line = code if isinstance(code, str) else f"ended with status {code}"
            _end(code if isinstance(code, int) else 1, line, code if isinstance(code, str) else None)
        _end(1, f"{type(error).__name__}: {first_line(error)}", "".join(traceback.format_exception(error)).rstrip())


def _store() -> Any:
    assert distributed.global_state.client is not None
    return distributed.global_state.client


def _are_several() -> bool:
    return distributed.global_state.client is not None and distributed.global_state.num_processes > 1


def _explicit(coordinator: str, processes: int, process: int) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` from the flags."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--coordinator={coordinator} must be HOST:PORT, of the machine of process 0")
    if not 0 <= process < processes:
        raise InputError(f"--process={process} must lie in [0, {processes}), as --processes={processes}")
    options = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process}
    return options | {"cluster_detection_method": "deactivate"}


def _cluster(environment: Mapping[str, str]) -> str | None:
    """What JAX calls the cluster that the process is started in; None where it is alone.

    A batch script or an interactive shell has Slurm's variables, too, but is a step of one task.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return "slurm"
    if int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "ompi"
    if cloud_tpu_init.running_in_cloud_tpu_vm:
        return "gketpu" if {"TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"} & environment.keys() else "gcetpu"
    return None


def _not_found() -> NoReturn:
    state = distributed.global_state
    print(
        f"error: process {state.process_id}: the processes of the run have not found each other within {FIND} s; is "
        f"process 0 at {state.coordinator_address}, and are the others started?",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _watch() -> None:
    """Wait until a process says that it has ended, and end this one."""
    while (found := _announced()) is None:
        time.sleep(ASK)
    if found["status"] == REQUEUE:
        time.sleep(STOP)
    _end(found["status"], found["line"], None)


def _announced() -> dict[str, Any] | None:
    """What the first process to fail has said; None as long as none has, or where it cannot be asked for any more."""
    try:
        return dict(json.loads(_store().key_value_try_get(_ENDED)))
    except Exception:  # not there; or the process that keeps it has gone, which JAX notices by itself
        return None


def _end(status: int, line: str, own: str | None) -> NoReturn:
    """Announce the end of this process, or follow that of another, and exit once all others know.

    `status` and `line` are this one's, unless another has announced its own; `own` is what it prints where it failed.
    """
    _ending.acquire()  # for good: of the watch and the main thread, the second waits until the first exits
    store, host = _store(), distributed.global_state.process_id
    with contextlib.suppress(Exception):  # another was earlier, or the store has gone
        store.key_value_set(_ENDED, json.dumps({"host": host, "status": status, "line": line}))
    told = _announced() or {"host": host, "status": status, "line": line}
    follows = told["host"] != host
    if own is not None and not (follows and own.startswith("Traceback")):
        print(own, file=sys.stderr)
    elif follows and told["status"] != REQUEUE:
        print(f"host {told['host']} has failed, so host {host} ends: {told['line']}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(Exception):
        store.wait_at_barrier("fcam/end", (STOP if told["status"] == REQUEUE else TELL) * 1000)
        if is_first():
            time.sleep(ASK)  # it keeps the store, by which the others see that all are here
    # Not by sys.exit: other threads and the exit handlers of JAX wait for the other processes.
    os._exit(told["status"])
