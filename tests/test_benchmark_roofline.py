"""What is read out of compiled programs, against bytes and operations that are counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo
from benchmarks.roofline import Kernel, Work, kernels
from benchmarks.targets import TARGETS

GPU = """HloModule step, is_scheduled=true

FileNames
1 "/some/fcam_jax/models/layers.py"
2 "/some/fcam_jax/models/decoder.py"

FunctionNames
1 "ConvBNReLU.__call__"
2 "UpBlock.__call__"

FileLocations
1 {file_name_id=2 function_name_id=2 line=50 end_line=50 column=8 end_column=9}
2 {file_name_id=1 function_name_id=1 line=203 end_line=203 column=8 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}

%some (p: f32[100,8], i: s32[]) -> f32[1,8] {
  %p = f32[100,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %row = f32[1,8]{1,0} dynamic-slice(%p, %i, %zero), dynamic_slice_sizes={1,8}
  ROOT %e = f32[1,8]{1,0} exponential(%row)
}

%one_row (i: s32[], p: f32[100,8], x: f32[1,8]) -> f32[100,8] {
  %x = f32[1,8]{1,0} parameter(2)
  %p = f32[100,8]{1,0} parameter(1)
  %i = s32[] parameter(0)
  %zero = s32[] constant(0)
  %into = f32[100,8]{1,0} dynamic-update-slice(%p, %x, %i, %zero)
  ROOT %same = f32[100,8]{1,0} bitcast(%into)
}

%turned (p: f32[4,6]) -> bf16[6,4] {
  %p = f32[4,6]{1,0} parameter(0)
  %cast = bf16[4,6]{1,0} convert(%p)
  ROOT %t = bf16[6,4]{1,0} transpose(%cast), dimensions={1,0}
}

%body (state: (s32[], f32[100,8])) -> (s32[], f32[100,8]) {
  %state = (s32[], f32[100,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %all = f32[100,8]{1,0} get-tuple-element(%state), index=1
  %read = f32[1,8]{1,0} fusion(%all, %i), kind=kLoop, calls=%some
  %write = f32[100,8]{1,0} fusion(%i, %all, %read), kind=kLoop, calls=%one_row
  ROOT %next = (s32[], f32[100,8]{1,0}) tuple(%i, %write)
}

ENTRY %main (a: bf16[16,32], b: bf16[32,8], x: bf16[2,8,8,16]) -> f32[] {
  %a = bf16[16,32]{1,0} parameter(0)
  %b = bf16[32,8]{1,0} parameter(1)
  %x = bf16[2,8,8,16]{3,2,1,0} parameter(2)
  %k = bf16[4,3,3,16]{3,2,1,0} parameter(3)
  %c = f32[4,6]{1,0} parameter(4)
  %product = (bf16[16,8]{1,0}, s8[33554432]{0}) custom-call(%a, %b), custom_call_target="__cublas$lt$matmul", metadata={op_name="jit(f)/dot_general" stack_frame_id=2}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]},"precision_config":{"operand_precision":["DEFAULT"]}}}
  %conv = (bf16[2,4,4,4]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %y = bf16[2,4,4,4]{3,2,1,0} get-tuple-element(%conv), index=0
  %of_x = (bf16[2,8,8,16]{3,2,1,0}, u8[0]{0}) custom-call(%y, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %of_k = (bf16[4,3,3,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %exact = f32[4,4]{1,0} dot(%c, %c), lhs_contracting_dims={1}, rhs_contracting_dims={1}, operand_precision={highest,highest}
  %t = bf16[6,4]{1,0} fusion(%c), kind=kInput, calls=%turned
  %loop = (s32[], f32[100,8]{1,0}) while(%init), condition=%test, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %ours = f32[4,4]{1,0} custom-call(%exact), custom_call_target="__gpu$xla.gpu.triton"
  %sorted = f32[4,4]{1,0} sort(%ours), dimensions={1}, to_apply=%less
  ROOT %sum = f32[] all-reduce(%n), to_apply=%add
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def found():
    return {kernel.name: kernel for kernel in kernels(hlo.read(GPU))}


def test_kernels_of_a_gpu_have_kinds_and_what_nothing_computes_has_none(found):
    kinds = {name: kernel.kind for name, kernel in found.items()}
    assert kinds == {
        "product": "cuBLAS", "conv": "cuDNN", "of_x": "cuDNN", "of_k": "cuDNN", "exact": "product", "t": "move",
        "read": "fusion", "write": "move", "ours": "own", "sorted": "sort", "sum": "collective",
    }  # fmt: skip


def test_bytes_are_of_operands_and_results_and_of_parts_where_parts_are_taken(found):
    x, k, y = 2 * 8 * 8 * 16 * 2, 4 * 3 * 3 * 16 * 2, 2 * 4 * 4 * 4 * 2
    read, written = 8 * 4 + 4, 8 * 4
    expected = {
        "product": 2 * (16 * 32 + 32 * 8 + 16 * 8),  # not its workspace
        "conv": x + k + y,
        "of_x": x + k + y,
        "of_k": x + k + y,
        "t": 24 * 4 + 24 * 2,
        "read": read + written,
        "write": 4 + 8 * 4 + written,
    }
    assert {name: found[name].bytes for name in expected} == expected


def test_work_of_products_goes_by_their_precision_and_a_loop_by_its_length(found):
    convolution = 2 * (2 * 4 * 4) * (4 * 3 * 3 * 16)
    assert found["product"].work == Work(half=2 * 16 * 8 * 32)
    assert {found[name].work for name in ("conv", "of_x", "of_k")} == {Work(half=convolution)}
    assert found["exact"].work == Work(vector=4 * 4 * 6)
    assert (found["read"].work, found["read"].times) == (Work(special=8), 5)
    assert found["sorted"].work == Work(vector=16 * 2 * 3 / 2)


def test_a_kernel_knows_the_calls_that_it_comes_from(found):
    product = found["product"]
    calls = "models/layers.py:203 ConvBNReLU.__call__ < models/decoder.py:50 UpBlock.__call__"
    assert product.place == f"jit(f)/dot_general < {calls}"
    assert product.comes_from(("models/dec",)) and not product.comes_from(("losses/",))


@pytest.mark.parametrize(
    ("work", "count", "seconds"),
    [
        (Work(half=989e12), 10, 1),
        (Work(half=989e12, single=494e12), 10, 2),
        (Work(vector=2 * 132 * 128 * 1.98e9), 10, 2),
        (Work(half=1), int(4.8e12), 1),
    ],
)
def test_the_least_time_is_that_of_what_takes_longest(work, count, seconds):
    kernel = Kernel("k", "fusion", "", frozenset(), 3, count, work)
    assert kernel.seconds(TARGETS["h200"]) == pytest.approx(3 * seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("bf16[3,5]{1,0:T(8,128)(2,1)}", 8 * 128 * 2),
        ("f32[2,9,200]{2,1,0:T(8,128)}", 2 * 16 * 256 * 4),
        ("f32[128,3]{0,1:T(4,128)}", 4 * 128 * 4),
        ("f32[2,9]{1,0:T(8,128)S(1)}", 0),
        ("c64[2,3]{1,0}", 2 * 3 * 8),
        ("pred[7]", 7),
        ("f32[]", 4),
        ("(s32[], f32[2]{0}, token[])", 12),
    ],
)
def test_arrays_take_whole_tiles_of_a_tpu(text, size):
    assert sum(array.in_memory for array in hlo.arrays(text)) == size


def test_a_loop_runs_as_often_as_its_counter_is_below_a_constant():
    text = """
%test (state: (s32[], f32[8])) -> pred[] {
  %n = s32[] constant(7)
  %state = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %loop = (s32[], f32[8]{0}) while(%init), condition=%test, body=%body
}
"""
    assert hlo.read(text).times == {"main": 1, "body": 7}


def test_a_kernel_of_ours_works_as_its_estimate_says():
    told = '"cost_estimate":{"flops":"30","transcendentals":"2","bytes_accessed":"9"}'
    text = f"""
ENTRY %main (a: f32[8]) -> f32[8] {{
  %a = f32[8]{{0:T(1024)S(1)}} parameter(0)
  ROOT %k = f32[8]{{0:T(1024)}} custom-call(%a), custom_call_target="tpu_custom_call", backend_config={{{told}}}
}}
"""
    (kernel,) = kernels(hlo.read(text))
    assert (kernel.kind, kernel.bytes, kernel.work) == ("own", 4096, Work(vector=30, special=2))


@pytest.mark.parametrize("opcode", ["all-reduce", "all-reduce-start"])
def test_of_an_all_reduce_operands_are_read_and_results_written_however_it_is_started(opcode):
    text = f"""
ENTRY %main (a: f32[100], b: f32[50]) -> f32[100] {{
  %a = f32[100]{{0}} parameter(0)
  %b = f32[50]{{0}} parameter(1)
  %r = (f32[100]{{0}}, f32[50]{{0}}) {opcode}(%a, %b), to_apply=%sum
}}
"""
    (kernel,) = kernels(hlo.read(text))
    assert (kernel.kind, kernel.bytes) == ("collective", 2 * 4 * 150)


def of_cpu(function, *shapes):
    compiled = jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile()
    return list(kernels(hlo.read(compiled.as_text())))


def work(found):
    return sum(kernel.times * kernel.work.single for kernel in found)


def test_programs_of_a_cpu_count_as_by_hand():
    def convolved(x, k):
        return jax.lax.conv_general_dilated(x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def gradient(x, k, y):
        return jax.vjp(lambda x: convolved(x, k), x)[1](y)

    def loop(a):
        return jax.lax.fori_loop(0, 5, lambda _, b: a @ b, a)

    x, k, y, once = (2, 8, 8, 3), (3, 3, 3, 16), (2, 4, 4, 16), 2 * (2 * 4 * 4) * (3 * 3 * 3 * 16)
    assert work(of_cpu(lambda a, b: a @ b, (64, 32), (32, 48))) == 2 * 64 * 32 * 48
    assert work(of_cpu(convolved, x, k)) == work(of_cpu(gradient, x, k, y)) == once
    assert work(of_cpu(loop, (32, 32))) == 5 * 2 * 32**3


def test_a_fusion_reads_and_writes_once_whatever_it_computes():
    (kernel,) = of_cpu(lambda x: jnp.exp(x) * x + x, (1000, 1000))
    assert (kernel.kind, kernel.bytes) == ("fusion", 2 * 4 * 10**6)
    assert kernel.work == Work(vector=2e6, special=1e6)
