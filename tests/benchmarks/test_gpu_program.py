"""benchmarks.gpu_program: the kernels of a compiled program and the bytes that each moves."""

from benchmarks import gpu_program

PROGRAM = """
HloModule jit_step, is_scheduled=true

%fused (p.1: bf16[4,8]) -> bf16[4,8] {
  %p.1 = bf16[4,8]{1,0} parameter(0)
  ROOT %negate.1 = bf16[4,8]{1,0} negate(%p.1)
}

%body (carry.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %carry.1 = (s32[], f32[8]{0}) parameter(0)
  %v.1 = f32[8]{0} get-tuple-element(%carry.1), index=1
  %wrapped_exp = f32[8]{0} fusion(%v.1), kind=kLoop, calls=%other, \
metadata={op_name="jit(step)/exp"}
  ROOT %tuple.1 = (s32[], f32[8]{0}) tuple(%carry.1, %wrapped_exp)
}

ENTRY %main.9 (x.1: bf16[4,8], w.1: (s32[], f32[8])) -> bf16[4,8] {
  %x.1 = bf16[4,8]{1,0} parameter(0)
  %w.1 = (s32[], f32[8]{0}) parameter(1)
  %while.1 = (s32[], f32[8]{0}) while(%w.1), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"9"}}
  %view.1 = bf16[32]{0} bitcast(%x.1)
  ROOT %fusion.2 = bf16[4,8]{1,0} fusion(%x.1, %x.1), kind=kLoop, calls=%fused, \
metadata={op_name="jit(step)/neg"}
}
"""


def test_kernels_have_the_bytes_of_inputs_and_output_and_the_runs_of_their_loop():
    assert list(gpu_program.list_kernels(PROGRAM)) == [
        ("wrapped_exp", "jit(step)/exp", 32 + 32, 9),
        # An input that is an operand twice counts once.
        ("fusion.2", "jit(step)/neg", 64 + 64, 1),
    ]
