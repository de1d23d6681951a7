"""Accelerators that compilers know without having one, and their published rates."""

import dataclasses
import os
from typing import Any

import jax
from jax.experimental import topologies


@dataclasses.dataclass(frozen=True)
class Target:
    """An accelerator.

    Attributes:
      name: for people.
      memory: bytes.
      bandwidth: bytes/s of its memory.
      half: FLOP/s of products of 16 bits, dense.
      single: FLOP/s of products of float32 at the default precision: TF32 on GPUs, bfloat16 on TPUs.
      vector: float32 operations/s outside of these, a multiply-add counted once.
      special: exponentials and the like in a second.
      gpu: its properties as XLA's `GpuTargetConfigProto` has them; none for a TPU.
    """

    name: str
    memory: float
    bandwidth: float
    half: float
    single: float
    vector: float
    special: float
    gpu: str = ""

    def __str__(self) -> str:
        """The rates."""
        return (
            f"{self.name}: {self.memory / 1e9:g} GB, {self.bandwidth / 1e12:g} TB/s; TFLOP/s of products: "
            f"{self.half / 1e12:g} in bfloat16, {self.single / 1e12:g} of float32; "
            f"{self.vector / 1e12:.3g} T other operations/s, {self.special / 1e12:.3g} T special functions/s."
        )

    def devices(self, count: int) -> list[Any]:
        """So many of them, for which programs can be compiled."""
        if self.gpu:
            topology = {"topology": f"1x1x{count}", "target_config": self.gpu}
            return topologies.get_topology_desc(topology_name=self.name, platform="cuda", **topology).devices
        rows = 2 ** ((count.bit_length() - 1) // 2)
        topology_name = f"v5e:{max(rows, 2)}x{max(count // rows, 2)}"
        return topologies.get_topology_desc(topology_name=topology_name, platform="tpu").devices[:count]


def _gpu(name: str, *, capability: int, cores: int, lanes: int, shared: int, clock: float, **rates: float) -> Target:
    """A GPU by what the CUDA C++ Programming Guide's tables of compute capabilities say of it.

    In a clock a core does an operation in each of its lanes and 16 special functions.
    """
    gpu = f"""
        gpu_device_info {{
          cuda_compute_capability {{ major: {capability} }}
          core_count: {cores} fpus_per_core: {lanes} clock_rate_ghz: {clock / 1e9}
          memory_bandwidth: {rates["bandwidth"]:.0f} device_memory_size: {rates["memory"]:.0f} l2_cache_size: 41943040
          shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin: {shared - 1024}
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
        }}
        platform_name: "CUDA"
        dnn_version_info {{ major: 9 minor: 10 }}
        runtime_version {{ major: 12 minor: 9 }}
        device_description_str: "{name}"
    """
    return Target(name, gpu=gpu, vector=cores * lanes * clock, special=cores * 16 * clock, **rates)


_HOPPER = {"capability": 9, "cores": 132, "lanes": 128, "shared": 233472, "clock": 1.98e9}

# H200, H100 (SXM): https://www.nvidia.com/en-us/data-center/h200 and .../h100, half of what is given "with sparsity".
# A100: https://www.nvidia.com/en-us/data-center/a100 (80 GB, SXM).
# v5e: https://cloud.google.com/tpu/docs/v5e; its vector unit, of 4 x 8 x 128 operations in each of 1.5e9 clocks:
# https://jax-ml.github.io/scaling-book/tpus; special functions at a quarter of that are an assumption.
TARGETS = {
    "h200": _gpu("H200", memory=141e9, bandwidth=4.8e12, half=989e12, single=494e12, **_HOPPER),
    "h100": _gpu("H100", memory=80e9, bandwidth=3.35e12, half=989e12, single=494e12, **_HOPPER),
    "a100": _gpu(
        "A100", memory=80e9, bandwidth=2.039e12, half=312e12, single=156e12,
        capability=8, cores=108, lanes=64, shared=167936, clock=1.41e9,
    ),
    "v5e": Target("TPU v5e", 16e9, 819e9, half=197e12, single=197e12, vector=6.1e12, special=1.5e12),
}  # fmt: skip

# Without a GPU nothing can be timed, so that no tile of a product in Triton is known: products go to cuBLAS.
_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"


def without_any(fake: int) -> None:
    """Prepare JAX for compiling for what is not there, with so many fake CPU devices; before it looks for devices."""
    flags = f"{_FLAGS} --xla_force_host_platform_device_count={fake} {os.environ.get('XLA_FLAGS', '')}"
    os.environ.update(XLA_FLAGS=flags, TPU_SKIP_MDS_QUERY="1")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    # Places in the source through all calls, by which kernels are told apart.
    jax.config.update("jax_traceback_in_locations_limit", -1)
