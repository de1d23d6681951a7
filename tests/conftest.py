"""Shared fixtures: four fake devices, the XLA cache, and the reference material where it lies beside the checkout."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Before jax is imported: a mesh of four devices on one CPU, so that the mapped step is tested as mapped.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import pytest


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of reference values and data; a test that needs it is skipped where it is absent."""
    path = pathlib.Path(os.environ.get("FCAM_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"reference material not found at {path} (set FCAM_SHARED)")
    return path
