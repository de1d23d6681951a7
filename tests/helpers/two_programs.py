"""The program as two processes that are one run."""

import os
import socket
import subprocess
import sys

from program import QUICKLY_COMPILED, ROOT


def started_twice(*words):
    """Start a command of Python's as both processes of a run, with two devices each; its words end with the flags."""
    env = os.environ | {"XLA_FLAGS": f"{QUICKLY_COMPILED} --xla_force_host_platform_device_count=2"}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, *words, f"--coordinator=localhost:{port}", "--processes=2", f"--process={process}"],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]


def ends(started):
    """Status, output and errors of each process."""
    said = [process.communicate(timeout=300) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]
