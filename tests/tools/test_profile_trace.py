"""The reader and its figures, on hand-made traces of a GPU whose numbers are computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipe.system.errors import UserError
from tests.tools.profile_traces import call, copy, dispatch, kernel, profile
from tests.tools.test_profile_kinds import HLO
from tools.profile import kinds, trace
from tools.profile.figures import Figures, figures
from tools.profile.intervals import Busy, Gap

US = 1000  # a microsecond in nanoseconds

# Two steps in one dispatch. A stream computes, another copies meanwhile.
#   0     10    20    30    40    50   µs
#   conv1 sum   .     conv1 sum   host
#     copy------
COMPUTE = [
    kernel("sm90_xmma_fprop", 0, 10 * US, "cudnn-conv.1"),
    kernel("input_fusion_5", 10 * US, 20 * US, "input_fusion.5"),
    kernel("sm90_xmma_fprop", 30 * US, 40 * US, "cudnn-conv.1"),
    kernel("input_fusion_5", 40 * US, 50 * US, "input_fusion.5"),
    copy("MemcpyD2H", 50 * US, 52 * US, 12),
]
COPIES = [copy("MemcpyD2D", 5 * US, 22 * US, 5000)]
IGNORED = [
    ("MemoryAlloc", 0, 90 * US, {"memalloc_details": "kind:device num_bytes:64"}),
    ("cuLaunchKernel", 0, 90 * US, {"hlo_op": "cudnn-conv.1"}),
]
GPU = {
    "/device:GPU:0": {
        "Stream #13(Compute,MemcpyD2H)": COMPUTE,
        "Stream #14(MemcpyD2D)": COPIES,
        "CUPTI overhead": IGNORED[:1],
        "XLA Ops": IGNORED[1:],
    },
    "/host:CPU": {"python": [dispatch(0, US, 2)]},
}


@pytest.fixture(scope="module")
def of_gpu() -> Figures:
    return figures(trace.from_profile(profile(GPU)), ["HloModule jit_other\n", HLO])


def test_the_reader_takes_what_the_device_did():
    read = trace.from_profile(profile(GPU))
    assert (read.device, read.devices) == ("GPU:0", 1)
    assert [(o.name, o.what, o.bytes) for o in read.operations] == [
        ("sm90_xmma_fprop", "kernel", 0),
        ("MemcpyD2D", "copy", 5000),
        ("input_fusion_5", "kernel", 0),
        ("sm90_xmma_fprop", "kernel", 0),
        ("input_fusion_5", "kernel", 0),
        ("MemcpyD2H", "copy", 12),
    ]
    first = read.operations[0]
    assert (first.module, first.program, first.hlo_op) == ("jit_steps", "6", "cudnn-conv.1")
    assert first.end - first.start == 10 * US


def test_times_and_launches_per_step_by_kind(of_gpu: Figures):
    assert {row.kind: (row.launches, pytest.approx(row.ms)) for row in of_gpu.rows} == {
        kinds.FORWARD: (1, 0.010),
        kinds.REDUCE: (1, 0.010),
        kinds.COPIES: (0.5, 0.0085),
        kinds.HOST: (0.5, 0.001),
    }
    assert of_gpu.ms == pytest.approx((40 + 17 + 2) / 2 / 1000)
    assert sum(row.share for row in of_gpu.rows) == pytest.approx(1)
    assert (of_gpu.steps, of_gpu.steps_seen, of_gpu.launches) == (2, 2, 3)
    assert of_gpu.guessed == 0


def test_bytes_per_step_are_those_of_the_program_and_of_copies(of_gpu: Figures):
    mb = {row.kind: row.mb for row in of_gpu.rows}
    assert mb[kinds.FORWARD] == pytest.approx(192e-6)
    assert mb[kinds.REDUCE] == pytest.approx(80e-6)
    assert mb[kinds.COPIES] == pytest.approx(5000e-6 / 2)


def test_overlapping_streams_are_busy_once_and_gaps_are_idle(of_gpu: Figures):
    assert of_gpu.window_ms == pytest.approx(0.052)
    assert of_gpu.busy_ms == pytest.approx(0.044)  # 0 to 22 and 30 to 52 µs
    assert of_gpu.idle == pytest.approx(8 / 52)
    assert [(gaps.up_to_us, gaps.number) for gaps in of_gpu.gaps] == [
        (1.0, 0), (10.0, 1), (100.0, 0), (float("inf"), 0),
    ]  # fmt: skip
    assert of_gpu.gaps[1].ms == pytest.approx(0.008)


def test_convolutions_that_are_missing_in_a_trace_are_counted(of_gpu: Figures):
    assert (of_gpu.convolutions, of_gpu.convolutions_seen) == (3, 1)


def test_a_call_of_several_kernels_moves_its_bytes_once():
    kernels = [
        kernel("nchwToNhwc", 0, US, "cudnn-conv.1"),
        kernel("sm90_xmma_fprop", US, 3 * US, "cudnn-conv.1"),
    ]
    planes = {"/device:GPU:0": {"Stream #1": kernels}, "/host:CPU": {"python": [dispatch(0, 1, 1)]}}
    found = figures(trace.from_profile(profile(planes)), [HLO])
    (row,) = found.rows
    assert (row.kind, row.launches, row.mb) == (kinds.FORWARD, 2, pytest.approx(192e-6))
    assert found.steps_seen == 1
    (longest,) = found.longest
    assert (longest.name, longest.kernels) == ("cudnn-conv.1", ("nchwToNhwc", "sm90_xmma_fprop"))
    assert (longest.launches, longest.ms, longest.mb) == (2, pytest.approx(0.003), row.mb)


def test_what_the_trace_does_not_name_is_a_guess_or_other():
    kernels = [
        kernel("sm90_xmma_wgrad", 0, 10 * US, "call.14"),  # in a CUDA graph
        kernel("in_graph_3", 10 * US, 40 * US, "call.14"),
        kernel("fprop_of_others", 40 * US, 60 * US, "x.1", module="jit_other"),
        kernel("a_kernel", 60 * US, 100 * US),
    ]
    planes = {"/device:GPU:0": {"Stream #1": kernels}, "/host:CPU": {"python": [dispatch(0, 1, 1)]}}
    found = figures(trace.from_profile(profile(planes)), [HLO])
    assert {row.kind: pytest.approx(row.share) for row in found.rows} == {
        kinds.GRADIENT: 0.1,
        kinds.ELEMENTWISE: 0.3,
        kinds.OTHER: 0.6,
    }
    assert found.guessed == pytest.approx(0.1)


def test_a_trace_that_lacks_steps_is_told_by_its_counts():
    planes = GPU | {"/host:CPU": {"python": [dispatch(0, US, 3)]}}
    found = figures(trace.from_profile(profile(planes)), [HLO])
    assert (found.steps, found.steps_seen) == (3, 2)


def test_what_an_operation_contains_is_not_counted_twice():
    """As on a CPU, where a loop's event has those of its body in it."""
    stats = {"hlo_module": "jit_steps", "program_id": 1}
    events = [
        ("while.15", 0, 100, {"hlo_op": "while.15", **stats}),
        ("copy.10", 10, 30, {"hlo_op": "copy.10", **stats}),
        ("loop_fusion.6", 30, 90, {"hlo_op": "loop_fusion.6", **stats}),
        ("end: copy.10", 30, 31, {}),
    ]
    read = trace.from_profile(profile({"/host:CPU": {"tf_XLAExecute": events, "python": [call("f", 0, 1)]}}))
    assert read.device == "CPU"
    assert [(o.hlo_op, o.own) for o in read.operations] == [
        ("while.15", 20), ("copy.10", 20), ("loop_fusion.6", 60),
    ]  # fmt: skip
    found = figures(read, [HLO])
    assert {row.kind: pytest.approx(row.share) for row in found.rows} == {
        kinds.OTHER: 0.2, kinds.COPIES: 0.2, kinds.ELEMENTWISE: 0.6,
    }  # fmt: skip
    assert found.ms == pytest.approx(found.busy_ms) == pytest.approx(1e-4)


def test_the_first_of_several_devices_is_read():
    line = {"Stream #1": [kernel("k", 0, 10, "copy.10")]}
    planes = {"/device:GPU:0": {}, "/device:GPU:1": line, "/device:GPU:2": line}
    read = trace.from_profile(profile(planes))
    assert (read.device, read.devices, len(read.operations)) == ("GPU:1", 2, 1)


def test_launches_are_no_operations_where_a_gpu_gave_no_trace():
    launches = [("cuLaunchKernel", 0, 9, {"hlo_op": "copy.10", "hlo_module": "jit_steps"})]
    with pytest.raises(UserError, match="CUPTI, NVIDIA's library for traces, is missing"):
        trace.from_profile(profile({"/device:GPU:0": {}, "/host:CPU": {"Host Threads/7": launches}}))


def test_a_file_without_operations_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no operation of a GPU or CPU"):
        trace.from_profile(profile({"/host:CPU": {"python": [call("f", 0, 1)]}}))
    file = tmp_path / "host.xplane.pb"
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match=r"is no trace of jax\.profiler"):
        trace.read(file)


def test_busy_time_and_gaps():
    busy = Busy([(0, 10), (5, 12), (20, 30), (22, 25), (30, 31)])
    assert (busy.length, busy.window) == (12 + 11, 31)
    assert busy.gaps == [Gap(12, 20)]
    assert busy.gap_at(12) == busy.gap_at(15) == Gap(12, 20)
    assert busy.gap_at(11) is busy.gap_at(20) is busy.gap_at(40) is busy.gap_at(-1) is None
