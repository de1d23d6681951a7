"""Which program on which machine a result comes from."""

import functools
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

import fcam_jax

_CPU_FACTS = pathlib.Path("/proc/cpuinfo")


def program() -> dict[str, Any]:
    """The program's version and, where it runs out of a git checkout, the commit.

    Returns:
      "version"; "commit": its full name, None where there is no checkout or no git; "modified": whether files that git
      tracks differ from it, None without a commit.
    """
    commit = _git("rev-parse", "HEAD")
    changes = None if commit is None else _git("status", "--porcelain", "--untracked-files=no")
    modified = None if changes is None else bool(changes)
    return {"version": fcam_jax.__version__, "commit": commit, "modified": modified}


def machine() -> dict[str, Any]:
    """The devices of all hosts, this host's processor, and the versions that decide how figures round.

    Returns:
      "platform" ("cpu", "gpu", "tpu"); "devices": their kinds with their numbers; "cpu": the processor's name;
      "cores": that this process may use; "jax" and "python": versions.
    """
    kinds = [device.device_kind for device in jax.devices()]
    return {
        "platform": jax.default_backend(),
        "devices": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def _git(*words: str) -> str | None:
    """What git says of the checkout that the package lies in; None where there is none."""
    home = pathlib.Path(fcam_jax.__file__).resolve().parents[1]
    if not (home / ".git").exists():  # a folder of packages may lie in somebody else's checkout
        return None
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 20, "check": True}
    try:
        # In a session of its own, which Ctrl-C does not reach.
        return subprocess.run(("git", *words), cwd=home, start_new_session=True, **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@functools.cache
def _processor() -> str:
    """The processor's name, as Linux tells it where it does."""
    lines = _CPU_FACTS.read_text().splitlines() if _CPU_FACTS.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
