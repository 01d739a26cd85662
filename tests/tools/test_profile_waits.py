"""Host syncs, planted and absent: in hand-made traces, and in traces of real steps on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tools.profile_traces import Event, call, copy, dispatch, kernel, profile
from tools.profile import trace
from tools.profile.waits import FETCH, Waits, waits
from tools.profile.workload import DISPATCH

STEPS = 5


def on_gpu(host: list[Event], device: list[Event]) -> Waits:
    planes = {"/host:CPU": {"python": host}, "/device:GPU:0": {"Stream #1": device}}
    return waits(trace.from_profile(profile(planes)))


def steps(*starts: int) -> list[Event]:
    """A step of 100 ns each, of two kernels."""
    return [
        event
        for start in starts
        for event in (
            kernel("conv", start, start + 60, "conv.1"),
            kernel("sum", start + 60, start + 100, "sum.2"),
        )
    ]


def test_a_wait_with_steps_behind_it_is_none_that_drains():
    host = [
        dispatch(0, 10, 1), dispatch(20, 30, 1), dispatch(40, 150, 1), dispatch(160, 170, 1),
        call("$trainer.py:10 train_steps", 35, 155),
        call("$api.py:20 block_until_ready", 50, 140), call(FETCH, 60, 130),
    ]  # fmt: skip
    found = on_gpu(host, steps(30, 130, 230, 330))
    (wait,) = found.waits
    assert (wait.call, wait.caller, wait.number) == ("block until ready", "trainer.py:10 train_steps", 1)
    assert wait.ms == pytest.approx(90e-6)
    assert (found.dispatches, found.drained, found.dry, found.dry_ms) == (4, 0, 0, 0)
    assert found.verdict == (
        "No host sync between dispatches: each found steps in the queue, and behind each of the 1 waits some "
        "were queued."
    )


def test_a_wait_for_the_newest_step_drains_the_queue():
    """Both of the second dispatch's steps are done at 230; the next begins at 400."""
    host = [
        dispatch(0, 10, 1), dispatch(20, 30, 2), call(FETCH, 35, 300), dispatch(310, 320, 1),
        dispatch(330, 340, 1), call(FETCH, 345, 900),
    ]  # fmt: skip
    device = [*steps(30, 130, 230, 400, 500), copy("MemcpyD2H", 280, 290, 4), copy("MemcpyD2H", 880, 890, 4)]
    found = on_gpu(host, device)
    (wait,) = found.waits  # the last is behind the last dispatch
    assert (wait.number, wait.drained) == (1, 0)  # its end, 300, is within the third step
    assert (found.copies_to_host, found.bytes_to_host, found.copies_by_program) == (1, 4, 0)
    device.append(copy("MemcpyD2H", 332, 334, 4))  # which is no work that the device was given
    later = on_gpu([*host[:2], call(FETCH, 35, 335), dispatch(350, 360, 1), dispatch(370, 380, 1)], device)
    assert (later.waits[0].drained, later.dry) == (1, 1)
    assert later.waits[0].idle_ms == later.dry_ms == pytest.approx(70e-6)
    assert later.verdict == (
        "Host syncs: 1 of 1 waits let the device's queue run dry; 1 of 3 dispatches found an empty queue."
    )


def test_a_wait_that_finds_an_empty_queue_is_not_what_emptied_it():
    host = [dispatch(0, 10, 1), call(FETCH, 35, 200), call(FETCH, 210, 220), dispatch(250, 260, 1)]
    (wait,) = on_gpu(host, steps(30, 270)).waits
    assert (wait.number, wait.drained, wait.idle_ms) == (2, 1, pytest.approx(140e-6))


def test_a_dry_device_is_seen_without_a_call_that_waits():
    found = on_gpu([dispatch(0, 10, 1), dispatch(500, 510, 1)], steps(30, 530))
    assert (found.waits, found.dry) == ((), 1)
    assert found.dry_ms == pytest.approx(400e-6)
    assert "the host is slower than the device, or waits in a call" in found.verdict


def test_a_program_that_copies_to_the_host_by_itself():
    """As a loop does whose end the host has to ask for, while the call that dispatches it waits."""
    asks = (
        "MemcpyD2H",
        101,
        102,
        {"memcpy_details": "size:1 ", "hlo_op": "while.15", "hlo_module": "jit_steps"},
    )
    found = on_gpu([dispatch(0, 103, 1), dispatch(110, 117, 1)], [*steps(1, 130), asks])
    assert (found.copies_to_host, found.copies_by_program, found.dry) == (0, 1, 1)
    assert found.dispatch_ms == pytest.approx(55e-6)
    assert found.verdict == (
        "Host syncs: the program copies to the host 1 times by itself, as a loop does whose end XLA asks the "
        "device for, while the host waits; 1 of 1 dispatches found an empty queue."
    )


def test_a_single_dispatch_shows_what_its_program_does():
    asks = (
        "MemcpyD2H",
        131,
        132,
        {"memcpy_details": "size:1", "hlo_op": "while.15", "hlo_module": "jit_steps"},
    )
    verdict = on_gpu([dispatch(0, 10, 1)], [*steps(30), asks]).verdict
    assert verdict.startswith("Host syncs: the program copies to the host 1 times by itself")
    assert "found an empty queue" not in verdict


def test_waits_in_pairs_of_instants():
    host: list[Event] = [
        dispatch(0, 10, 1),
        ("CommonPjRtBuffer::Await", 15, 15, {"_p": 77}),
        ("CommonPjRtBuffer::Await", 140, 140, {"_c": 77}),
        ("CommonPjRtBuffer::Await", 141, 141, {"_p": 78}),  # whose end is missing
        dispatch(150, 160, 1),
    ]
    (wait,) = on_gpu(host, steps(30, 170)).waits
    assert (wait.ms, wait.drained) == (pytest.approx(125e-6), 1)


def test_what_cannot_be_told_is_not_told():
    same = [kernel("graph", 30, 100), kernel("graph", 100, 130), kernel("graph", 300, 400)]
    found = on_gpu([dispatch(0, 10, 1), call(FETCH, 15, 140), dispatch(200, 210, 1)], same)
    assert (found.told, found.drained, found.dry) == (False, 0, 0)
    assert "can't be told" in found.verdict
    assert "shows nothing" in on_gpu([dispatch(0, 10, 1)], steps(30)).verdict


def on_cpu(folder: Path, after: Callable[[jax.Array], object]) -> Waits:
    """Profile real dispatches of one step each, with something done after each."""

    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        for _ in range(4):  # long enough for the wait to begin before it ends
            x = jnp.tanh(x @ x)
        return x

    x = step(jnp.ones((500, 500), jnp.float32)).block_until_ready()
    with jax.profiler.trace(folder):
        for _ in range(STEPS):
            with jax.profiler.TraceAnnotation(DISPATCH, steps=1):
                x = step(x)
            after(x)
        x.block_until_ready()
    return waits(trace.read(next(folder.glob("plugins/profile/*/*.xplane.pb"))))


@pytest.mark.parametrize("sync", [lambda x: float(x.sum()), jax.device_get, print])
def test_a_planted_sync_is_found_in_each_step(tmp_path: Path, sync: Callable[[jax.Array], object]):
    found = on_cpu(tmp_path, sync)
    (wait,) = found.waits
    assert wait.call == "copy to the host"
    assert wait.number == found.dry == STEPS - 1
    assert wait.drained  # not each of them for sure: where the host is slow, the step may be done before
    assert found.verdict.startswith("Host syncs: ")


@pytest.mark.parametrize("sync", [lambda x: x.block_until_ready(), np.asarray])
def test_a_wait_that_may_be_no_event_is_found_by_the_idle_device(
    tmp_path: Path, sync: Callable[[jax.Array], object]
):
    """The method is none where the array is ready already; NumPy reads a CPU's array where it lies."""
    found = on_cpu(tmp_path, sync)
    assert found.dry == STEPS - 1
    assert not found.verdict.startswith("No host sync")


def test_where_nothing_waits_no_wait_is_found(tmp_path: Path):
    found = on_cpu(tmp_path, lambda x: None)
    assert (found.dispatches, found.waits) == (STEPS, ())
