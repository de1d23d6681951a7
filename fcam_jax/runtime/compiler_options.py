"""What XLA's compiler is told beside the program."""

import functools
import os

import jax

# XLA gives sums, products and convolutions on CPUs to the library YNNPACK, which takes up to five times as long for the
# gradient of a convolution's kernel as XLA's own code (jaxlib 0.10.2 and 0.12.0.1; docs/scaling.md). The value is what
# those releases have by default, without single convolutions.
_FLAG = "xla_cpu_experimental_ynn_fusion_type"
_OPTIONS = {_FLAG: ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("DOT", "REDUCE", "INDIVIDUAL_DOT"))}


def compiler_options(platform: str) -> dict[str, str] | None:
    """`compiler_options` of `jax.jit` for a program with convolutions on a platform such as ``"cpu"``.

    They change its speed and roundings alone. Nothing is asked for where `XLA_FLAGS` already has the flag in question.
    """
    return _OPTIONS if platform == "cpu" and _FLAG not in os.environ.get("XLA_FLAGS", "") and _known() else None


@functools.cache
def _known() -> bool:
    """Whether this release of XLA has the flag, which is an experimental one."""
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0, compiler_options=_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
