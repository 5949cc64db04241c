"""The compiler's cycles, read off its text: loops multiplied out, padding counted, products and kernels told apart."""

from __future__ import annotations

import pytest

from surgmotion_jax.parallel.estimates import memory_bytes, narrow_arrays, operations

# In the TPU compiler's manner: a loop of four turns around a product and a kernel; outside of it an addition that is
# charged more than its bytes take, and one that lies in the core's own memory.
TEXT = """HloModule jit_step, is_scheduled=true

FileNames
1 "/home/x/surgmotion_jax/pretrain/step.py"
2 "/home/x/surgmotion_jax/models/linear.py"

FunctionNames
1 "multiply"

FileLocations
1 {file_name_id=1 function_name_id=1 line=80 end_line=80 column=18 end_column=18}
2 {file_name_id=2 function_name_id=1 line=12 end_line=13 column=8 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}

%multiplied (a: bf16[256,128], b: bf16[128,128]) -> bf16[256,128] {
  %a = bf16[256,128]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[128,128]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %product = bf16[256,128]{1,0:T(8,128)(2,1)} convolution(%a, %b), dim_labels=bf_io->bf
}

%added (c: f32[64,2]) -> f32[64,2] {
  %c = f32[64,2]{1,0:T(8,128)} parameter(0)
  ROOT %twice = f32[64,2]{1,0:T(8,128)} add(%c, %c)
}

%body (state: (s32[], bf16[256,128])) -> (s32[], bf16[256,128]) {
  %state = (s32[]{:T(128)}, bf16[256,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%i, %one)
  %x = bf16[256,128]{1,0:T(8,128)(2,1)} get-tuple-element(%state), index=1
  %w = bf16[128,128]{1,0:T(8,128)(2,1)S(1)} constant({...})
  %fusion.1 = bf16[256,128]{1,0:T(8,128)(2,1)} fusion(%x, %w), kind=kOutput, calls=%multiplied, metadata={op_name="jit(step)/jvp(Encoder)/mlp/dot_general" stack_frame_id=2}, backend_config={"estimated_cycles":"5000"}
  %attention_forward_64.3 = (bf16[2,16,384]{2,1,0:T(8,128)(2,1)}, f32[2,3,2,128]{3,2,1,0:T(2,128)}) custom-call(%fusion.1), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/jvp(Encoder)/attention_forward_64/pallas_call"}
  ROOT %carried = (s32[]{:T(128)}, bf16[256,128]{1,0:T(8,128)(2,1)}) tuple(%next, %fusion.1)
}

%condition (state.1: (s32[], bf16[256,128])) -> pred[] {
  %state.1 = (s32[]{:T(128)}, bf16[256,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %four = s32[]{:T(128)} constant(4)
  %i.1 = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%i.1, %four), direction=LT
}

ENTRY %main (arg.0: bf16[256,128], arg.1: f32[64,2]) -> f32[64,2] {
  %arg.0 = bf16[256,128]{1,0:T(8,128)(2,1)} parameter(0)
  %arg.1 = f32[64,2]{1,0:T(8,128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, bf16[256,128]{1,0:T(8,128)(2,1)}) tuple(%zero, %arg.0)
  %loop = (s32[]{:T(128)}, bf16[256,128]{1,0:T(8,128)(2,1)}) while(%start), condition=%condition, body=%body, metadata={op_name="jit(step)/jvp(Encoder)/trunk/while"}
  %near = f32[64,2]{1,0:T(8,128)S(1)} fusion(%arg.1), kind=kLoop, calls=%added, metadata={op_name="jit(step)/losses/add"}, backend_config={"estimated_cycles":"300"}
  ROOT %far = f32[64,2]{1,0:T(8,128)} fusion(%arg.1), kind=kLoop, calls=%added, metadata={op_name="jit(step)/add"}, backend_config={"estimated_cycles":"90000"}
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def found():
    return {one.op_name: one for one in operations(TEXT, bytes_per_cycle=8.0)}


def test_a_loop_counts_as_often_as_it_turns(found):
    product = found["jit(step)/jvp(Encoder)/mlp/dot_general"]
    assert (product.count, product.cycles) == (4, 5000)
    assert product.source == "models/linear.py:12"


def test_products_keep_the_compilers_figure_and_others_take_at_most_what_their_bytes_take(found):
    product, far = found["jit(step)/jvp(Encoder)/mlp/dot_general"], found["jit(step)/add"]
    assert product.product
    assert product.corrected == product.cycles
    # Two arrays of 64 rows of 2 floats, whose rows are padded to 128: 65,536 bytes at three quarters of 8 a cycle.
    assert far.cycles == 90_000
    assert far.corrected == pytest.approx(65_536 / 6 + 1_000)
    assert found["jit(step)/losses/add"].corrected == 300, "less than its bytes take: left as it is"


def test_kernels_are_named_and_have_no_cycles(found):
    kernel = found["jit(step)/jvp(Encoder)/attention_forward_64/pallas_call"]
    assert (kernel.kernel, kernel.cycles, kernel.count) == ("attention_forward_64", 0.0, 4)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[64,2]{1,0:T(8,128)}", 64 * 128 * 4),
        ("f32[64,2]{0,1:T(8,128)}", 8 * 128 * 4),  # the other axis lies innermost
        ("bf16[3,5,100]{2,1,0:T(8,128)(2,1)}", 3 * 8 * 128 * 2),
        ("f32[64,2]{1,0:T(8,128)S(1)}", 0),  # in the core's own memory
        ("(f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)})", 8 * 128 * 4 + 4),
        ("f32[7]", 28),
    ],
)
def test_bytes_are_those_of_the_layout(shape, size):
    assert memory_bytes(shape) == size


LOOP = """HloModule jit_step, is_scheduled=true

%body (state: (s32[], f32[64,512,32])) -> (s32[], f32[64,512,32]) {{
  %state = (s32[]{{:T(128)}}, f32[64,512,32]{{2,1,0:T(8,128)}}) parameter(0)
  %i = s32[]{{:T(128)}} get-tuple-element(%state), index=0
  %x = f32[64,512,32]{{2,1,0:T(8,128)}} get-tuple-element(%state), index=1
  %made = {shape} negate(%x), metadata={{op_name="jit(step)/while/body/attn/add"}}
  ROOT %next = (s32[]{{:T(128)}}, f32[64,512,32]{{2,1,0:T(8,128)}}) tuple(%i, %x)
}}

%condition (state.1: (s32[], f32[64,512,32])) -> pred[] {{
  %state.1 = (s32[]{{:T(128)}}, f32[64,512,32]{{2,1,0:T(8,128)}}) parameter(0)
  ROOT %less = pred[]{{:T(512)}} constant(true)
}}

ENTRY %main (arg: f32[64,512,32]) -> f32[64,512,32] {{
  %arg = f32[64,512,32]{{2,1,0:T(8,128)}} parameter(0)
  %before = f32[64,512,32]{{2,1,0:T(8,128)}} negate(%arg)
  %zero = s32[]{{:T(128)}} constant(0)
  %start = (s32[]{{:T(128)}}, f32[64,512,32]{{2,1,0:T(8,128)}}) tuple(%zero, %before)
  %loop = (s32[]{{:T(128)}}, f32[64,512,32]{{2,1,0:T(8,128)}}) while(%start), condition=%condition, body=%body
  ROOT %out = f32[64,512,32]{{2,1,0:T(8,128)}} get-tuple-element(%loop), index=1
}}
"""


@pytest.mark.parametrize(
    ("shape", "narrow"),
    [
        ("f32[64,512,32]{2,1,0:T(8,128)}", True),
        ("f32[64,32,512]{1,2,0:T(8,128)}", True),  # its rows lie along the axis of 32
        ("f32[64,32,512]{2,1,0:T(8,128)}", False),
        ("f32[64,512,64]{2,1,0:T(8,128)}", False),  # half of the lanes
        ("bf16[64,512,32]{2,1,0:T(8,128)(2,1)}", False),
        ("f32[64,512,1]{2,1,0:T(8,128)}", False),  # one number a row: sums, which lie elsewhere as well
        ("f32[24,3,12,32]{3,2,1,0:T(8,128)}", False),  # small
        ("f32[64,512,32]{2,1,0}", False),  # not a TPU's
    ],
)
def test_rows_that_are_mostly_padding_are_found_in_loops_alone(shape, narrow):
    found = narrow_arrays(LOOP.format(shape=shape))
    assert len(found) == narrow
    if narrow:
        assert found[0] == f"made: {shape.partition('{')[0]} (jit(step)/while/body/attn/add)"
