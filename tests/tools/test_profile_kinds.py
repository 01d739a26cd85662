"""The kinds of work, by a hand-made module in the form of XLA:GPU's."""

from __future__ import annotations

import pytest

from tools.profile import kinds
from tools.profile.kinds import Program

HLO = """HloModule jit_steps, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %total = f32[] add(%a, %b)
}

%fused_sums (x: bf16[8,4]) -> f32[4] {
  %x = bf16[8,4]{1,0} parameter(0)
  %wide = f32[8,4]{1,0} convert(%x)
  %square = f32[8,4]{1,0} multiply(%wide, %wide), metadata={op_name="jit(steps)/jvp()/square"}
  %zero = f32[] constant(0)
  ROOT %sums = f32[4]{0} reduce(%square, %zero), dimensions={0}, to_apply=%add
}

%fused_relu (y: bf16[8,4]) -> bf16[8,4] {
  %y = bf16[8,4]{1,0} parameter(0)
  %nought = bf16[] constant(0)
  %noughts = bf16[8,4]{1,0} broadcast(%nought), dimensions={}
  ROOT %relu = bf16[8,4]{1,0} maximum(%y, %noughts), metadata={op_name="jit(steps)/jvp()/jit(relu)/max"}
}

%fused_update (g: bf16[8,4], p: f32[8,4]) -> f32[8,4] {
  %g = bf16[8,4]{1,0} parameter(0)
  %p = f32[8,4]{1,0} parameter(1)
  %g32 = f32[8,4]{1,0} convert(%g), metadata={op_name="jit(steps)/transpose(jvp())/convert_element_type"}
  %decayed = f32[8,4]{1,0} add(%g32, %p), metadata={op_name="jit(steps)/optimizer/add"}
  ROOT %updated = f32[8,4]{1,0} subtract(%p, %decayed), metadata={op_name="jit(steps)/optimizer/sub"}
}

%fused_pixels (data: u8[1000,4], row: s32[]) -> bf16[2,4] {
  %data = u8[1000,4]{1,0} parameter(0)
  %row = s32[] parameter(1)
  %start = s32[] constant(0)
  %taken = u8[2,4]{1,0} dynamic-slice(%data, %row, %start), dynamic_slice_sizes={2,4}, metadata={op_name="jit(steps)/augmentation/gather"}
  %wide.1 = f32[2,4]{1,0} convert(%taken), metadata={op_name="jit(steps)/jvp()/convert_element_type"}
  ROOT %floats = bf16[2,4]{1,0} convert(%wide.1), metadata={op_name="jit(steps)/jvp()/convert_element_type"}
}

%fused_turn (k: f32[8,4]) -> f32[4,8] {
  %k = f32[8,4]{1,0} parameter(0)
  ROOT %turned = f32[4,8]{1,0} transpose(%k), dimensions={1,0}, metadata={op_name="jit(steps)/transpose(jvp())/transpose"}
}

%command_buffer (q: bf16[8,4]) -> bf16[8,4] {
  %q = bf16[8,4]{1,0} parameter(0)
  ROOT %in_graph.3 = bf16[8,4]{1,0} fusion(%q), kind=kLoop, calls=%fused_relu
}

%body (carry: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %carry = (s32[], bf16[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %v = bf16[8,4]{1,0} get-tuple-element(%carry), index=1
  %cudnn-conv.1 = (bf16[8,4]{1,0}, u8[64]{0}) custom-call(%v, %v), custom_call_target="__cudnn$convForward", metadata={op_name="jit(steps)/jvp()/conv_general_dilated"}
  %cudnn-conv.2 = (bf16[8,4]{1,0}, u8[64]{0}) custom-call(%v, %v), custom_call_target="__cudnn$convForward", metadata={op_name="jit(steps)/transpose(jvp())/conv_general_dilated"}
  %cudnn-conv-bw-filter.3 = (bf16[8,4]{1,0}, u8[64]{0}) custom-call(%v, %v), custom_call_target="__cudnn$convBackwardFilter"
  %cublas-gemm.4 = (f32[8,8]{1,0}, u8[64]{0}) custom-call(%v, %v), custom_call_target="__cublas$gemm", metadata={op_name="jit(steps)/jvp()/dot_general"}
  %input_fusion.5 = f32[4]{0} fusion(%v), kind=kInput, calls=%fused_sums
  %loop_fusion.6 = bf16[8,4]{1,0} fusion(%v), kind=kLoop, calls=%fused_relu
  %p32 = f32[8,4]{1,0} convert(%v)
  %loop_fusion.7 = f32[8,4]{1,0} fusion(%v, %p32), kind=kLoop, calls=%fused_update
  %bytes = u8[1000,4]{1,0} constant({...})
  %loop_fusion.8 = bf16[2,4]{1,0} fusion(%bytes, %i), kind=kLoop, calls=%fused_pixels
  %loop_fusion.9 = f32[4,8]{1,0} fusion(%p32), kind=kLoop, calls=%fused_turn
  %copy.10 = s32[] copy(%i)
  %all-reduce-start.11 = f32[8,4]{1,0} all-reduce-start(%p32), to_apply=%add, metadata={op_name="jit(steps)/transpose(jvp())/add"}
  %norm.12 = bf16[8,4]{1,0} custom-call(%v), custom_call_target="resnet_norm_train"
  %unknown.13 = bf16[8,4]{1,0} custom-call(%v), custom_call_target="somebody_elses"
  %call.14 = bf16[8,4]{1,0} call(%v), to_apply=%command_buffer
  ROOT %next = (s32[], bf16[8,4]{1,0}) tuple(%copy.10, %call.14)
}

%condition (state: (s32[], bf16[8,4])) -> pred[] {
  %state = (s32[], bf16[8,4]{1,0}) parameter(0)
  ROOT %on = pred[] constant(true)
}

ENTRY %main (start.1: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %start.1 = (s32[], bf16[8,4]{1,0}) parameter(0)
  ROOT %while.15 = (s32[], bf16[8,4]{1,0}) while(%start.1), condition=%condition, body=%body
}
"""  # noqa: E501 — as XLA writes it


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cudnn-conv.1", kinds.FORWARD),
        ("cudnn-conv.2", kinds.GRADIENT),  # cuDNN's forward algorithm, of an input's gradient
        ("cudnn-conv-bw-filter.3", kinds.GRADIENT),
        ("cublas-gemm.4", kinds.PRODUCT),
        ("input_fusion.5", kinds.REDUCE),
        ("loop_fusion.6", kinds.ELEMENTWISE),
        ("loop_fusion.7", kinds.UPDATE),  # the gradient's conversion is in it, too
        ("loop_fusion.8", kinds.INPUT),  # conversions for the first convolution are in it, too
        ("loop_fusion.9", kinds.COPIES),
        ("copy.10", kinds.COPIES),
        ("all-reduce-start.11", kinds.COLLECTIVE),
        ("norm.12", kinds.ELEMENTWISE),
        ("unknown.13", kinds.OTHER),
        ("while.15", kinds.OTHER),
    ],
)
def test_the_kind_of_an_instruction(name: str, kind: str):
    assert Program(HLO).kind(name) == kind


def test_the_facts_of_a_program():
    program = Program(HLO)
    assert program.name == "jit_steps"
    assert program.convolutions == {"cudnn-conv.1", "cudnn-conv.2", "cudnn-conv-bw-filter.3"}
    assert program.open_loops == ("while.15",)
    known = 'body=%body, backend_config={"known_trip_count":{"n":"2"}}'
    assert Program(HLO.replace("body=%body", known)).open_loops == ()
    assert program.has_scopes
    assert not Program(HLO.replace("optimizer/", "").replace("augmentation/", "")).has_scopes
    assert program.traffic("input_fusion.5") == 64 + 16
    assert program.traffic("cudnn-conv.1") == 64 + 64 + 64  # without scratch memory
    assert program.shape("cudnn-conv.1") == "(bf16[8,4], u8[64])"
    assert program.origin("cudnn-conv.1") == "jit(steps)/jvp()/conv_general_dilated"


def test_a_kernel_is_joined_with_its_instruction():
    program = Program(HLO)
    assert program.instruction("loop_fusion.6", "any_name") == "loop_fusion.6"
    # within a CUDA graph the trace may only name the launch of the graph: XLA's own kernels have its names
    assert program.instruction("call.14", "in_graph_3") == "in_graph.3"
    assert program.instruction("call.14", "sm90_xmma_fprop_implicit_gemm") == ""
    assert program.instruction("", "loop_fusion_7") == "loop_fusion.7"
    assert program.instruction("of.another.program", "of_another_program") == ""


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16", kinds.FORWARD),
        ("sm80_xmma_wgrad_implicit_gemm_indexed", kinds.GRADIENT),
        ("sm90_xmma_dgrad_implicit_gemm_indexed", kinds.GRADIENT),
        ("cublasLt_gemm_kernel", kinds.PRODUCT),
        ("some_kernel", kinds.OTHER),
    ],
)
def test_a_library_s_kernel_is_guessed_by_its_name(kernel: str, kind: str):
    assert kinds.guess(kernel) == kind
