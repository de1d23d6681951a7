"""What is read out of compiled programs, and the formula of the efficiency."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from benchmarks.hlo import read
from benchmarks.hlo_collectives import Collective, Machine, collectives, efficiency
from benchmarks.roofline import Kernel, Work
from benchmarks.scaling import estimate, most_images
from benchmarks.targets import TARGETS

HLO = """HloModule step

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %sum = f32[4,8]{1,0} all-reduce(f32[4,8]{1,0} %x), replica_groups={{0,1}}, to_apply=%add
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %both = (f32[64]{0}, bf16[3,5]{1,0:T(8,128)(2,1)}) all-reduce(f32[64]{0} %a, bf16[3,5]{1,0} %b), to_apply=%add
  %begun = f32[]{:S(6)} all-reduce-start(f32[] %c), to_apply=%add
  %done = f32[] all-reduce-done(f32[] %begun)
  %gather = (u8[2,3]{1,0}, u8[8,3]{1,0}) all-gather-start(u8[2,3]{1,0} %d), dimensions={0}
  %gathered = u8[8,3]{1,0} all-gather-done((u8[2,3]{1,0}, u8[8,3]{1,0}) %gather)
  %loop = (s32[], f32[4,8]) while(%init), condition=%test, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %not = f32[8]{0} fusion(f32[8]{0} %a), kind=kLoop, calls=%all-reduce-like
}
"""


def test_collectives_are_counted_once_with_their_bytes_and_as_often_as_their_loop_runs():
    reduced = 64 * 4 + 3 * 5 * 2 + 4 + 5 * 4 * 8 * 4
    assert collectives(read(HLO)) == {"all-reduce": Collective(7, reduced), "all-gather": Collective(1, 8 * 3)}


def test_a_compiled_program_tells_what_it_sends():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))

    def sums(x):
        total = jax.lax.psum(x, "d")
        return total, jax.lax.psum(jnp.sin(total) * x, "d")

    spread, everywhere = PartitionSpec("d"), PartitionSpec()
    mapped = jax.jit(jax.shard_map(sums, mesh=mesh, in_specs=spread, out_specs=everywhere))
    hlo = mapped.lower(jnp.ones((4, 6), jnp.float32)).compile().as_text()
    assert collectives(read(hlo)) == {"all-reduce": Collective(2, 2 * 6 * 4)}


@pytest.mark.parametrize(("torus", "devices", "hops"), [(True, 64, 8), (False, 8, 3)])
def test_the_efficiency_is_the_share_of_computing(torus, devices, hops):
    machine = Machine("m", flops=1e12, utilisation=0.5, bandwidth=1e9, latency=1e-3, torus=torus, most=64)
    reducing = 10 * hops * 1e-3 + 2 * (devices - 1) / devices * 1e8 / 1e9
    assert efficiency(1e12, Collective(10, 10**8), devices, machine) == pytest.approx(2 / (2 + reducing))
    assert efficiency(1e12, Collective(0, 0), devices, machine) == 1


def test_the_most_images_follow_from_two_plans():
    lines = [{"images": 16, "planned GB": 2.0}, {"images": 32, "planned GB": 3.0}, {"images": 64, "error": "none"}]
    assert most_images(lines) == {"in 16": 240, "in 24": 368, "in 40": 624, "in 80": 1264, "in 141": 2240}
    assert most_images(lines[:1]) == {}


def test_an_estimate_adds_up_kernels_and_tells_the_shares_of_parts():
    target = TARGETS["h200"]
    crf = Kernel("a", "fusion", "", frozenset({"losses/crf_energy.py"}), 3, int(target.bandwidth / 1000), Work())
    tiny = Kernel("b", "cuDNN", "", frozenset({"models/layers.py"}), 1, 0, Work(half=target.half / 1000))
    found = estimate([crf, tiny, Kernel("c", "move", "", frozenset(), 1000, 0, Work())], 8, target)
    assert found["least ms"] == pytest.approx(4)
    assert found["ms, starts"] == pytest.approx(6)
    assert (found["images/s"], found["CRF %"], found["seeds %"]) == pytest.approx((2000, 75, 0))
    assert (found["kernels"], found["cuDNN"], found["TFLOP"]) == (1004, 1, pytest.approx(target.half / 1e15))
