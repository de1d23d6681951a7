"""The program called as a user calls it: in a process of its own, or in this one, which takes seconds less."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys

import pytest

# Most of a test's time goes into compiling tiny programs: the plainest code by the quicker of XLA's two emitters.
QUICKLY_COMPILED = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 24,
    "data.synthetic.val": 8,
    "data.synthetic.test": 8,
    "model.decoder_widths": "(8,8,4,4)",
    "classifier.epochs": 1,
    "fcam.epochs": 1,
    "fcam.pictures_epochs": 0,
    "validation.threshold_step": 0.1,
    "evaluation.batch_size": 8,
    "evaluation.pictures": 2,
    "evaluation.examples": 2,
    "evaluation.threshold_step": 0.01,
    "evaluation.bootstrap": 20,
}


def call(config, workdir, *options, **settings):
    """Run the program for a benchmark; a double underline in the name of a setting stands for a dot."""
    return call_with(*words_of(config, workdir, *options, **settings))


def words_of(config, workdir, *options, **settings):
    """The command line of such a call."""
    values = [f"--config.{name.replace('__', '.')}={value}" for name, value in settings.items()]
    return [f"--config={config}", f"--workdir={workdir}", *options, *values]


def call_with(*options):
    """Run the program on one device."""
    return program("fcam_jax.main", *options)


def program(module, *options, devices=1):
    """Run a program of the package."""
    return subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=ROOT,
        # Every call compiles the same small programs; all of them from the cache save a second each.
        env=os.environ
        | {
            "XLA_FLAGS": f"{QUICKLY_COMPILED} --xla_force_host_platform_device_count={devices}",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


@contextlib.contextmanager
def in_this_process():
    """Calls of the program's `main` are made as by a user, but leave how this process logs; yields what is printed."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(ROOT)
        patch.setattr("fcam_jax.cli.together.begin", lambda: None)
        yield printed


def only_line(done):
    """The one line that a call has ended with."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.endswith(f"{line}\n")
    return line.removeprefix("error: ")
