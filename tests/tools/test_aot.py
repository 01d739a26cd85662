"""The counter on hand-made modules with known answers, and the figures of the real step."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tools.aot import hlo, rows
from tools.aot.figures import Figures
from tools.aot.targets import Target

FUSED = """
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%sums (x: bf16[8,4]) -> (f32[4], bf16[8,4]) {
  %x = bf16[8,4]{1,0} parameter(0)
  %wide = f32[8,4]{1,0} convert(%x)
  %zero = f32[] constant(0)
  %total = f32[4]{0} reduce(%wide, %zero), dimensions={0}, to_apply=%add
  ROOT %both = (f32[4]{0}, bf16[8,4]{1,0}) tuple(%total, %x)
}

%takes (data: u8[1000,4], row: s32[]) -> u8[2,4] {
  %data = u8[1000,4]{1,0} parameter(0)
  %row = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  ROOT %slice = u8[2,4]{1,0} dynamic-slice(%data, %row, %zero.1), dynamic_slice_sizes={2,4}
}

%puts (data: f32[100,4], new: f32[1,4], row: s32[]) -> f32[100,4] {
  %data.1 = f32[100,4]{1,0} parameter(0)
  %new = f32[1,4]{1,0} parameter(1)
  %row.1 = s32[] parameter(2)
  %zero.2 = s32[] constant(0)
  ROOT %update = f32[100,4]{1,0} dynamic-update-slice(%data.1, %new, %row.1, %zero.2)
}

%body (carry: (s32[], f32[4])) -> (s32[], f32[4]) {
  %carry = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %v = f32[4]{0} get-tuple-element(%carry), index=1
  %twice = f32[4]{0} add(%v, %v)
  ROOT %next = (s32[], f32[4]{0}) tuple(%i, %twice)
}

%condition (carry: (s32[], f32[4])) -> pred[] {
  %carry.1 = (s32[], f32[4]{0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (p: bf16[8,4], q: u8[1000,4], r: s32[], s: f32[100,4], t: f32[1,4], u: (s32[], f32[4])) -> f32[] {
"""
PARAMETERS = """
  %p = bf16[8,4]{1,0} parameter(0)
  %q = u8[1000,4]{1,0} parameter(1)
  %r = s32[] parameter(2)
  %s = f32[100,4]{1,0} parameter(3)
  %t = f32[1,4]{1,0} parameter(4)
  %u = (s32[], f32[4]{0}) parameter(5)
"""
CONV = (
    '(bf16[8,4]{1,0}, u8[4096]{0}) custom-call(%p, %p), custom_call_target="__cudnn$convForward", '
    'backend_config={"a":{"b":"1"}}'
)


@pytest.mark.parametrize(
    ("line", "launches", "read", "written"),
    [
        ("%x.1 = bf16[4,8]{1,0} bitcast(%p)", 0, 0, 0),
        ("%x.1 = (f32[4]{0}, bf16[8,4]{1,0}) fusion(%p), kind=kInput, calls=%sums", 1, 64, 16 + 64),
        ("%x.1 = u8[2,4]{1,0} fusion(%q, %r), kind=kLoop, calls=%takes", 1, 8 + 4, 8),
        ("%x.1 = f32[100,4]{1,0} fusion(%s, %t, %r), kind=kLoop, calls=%puts", 1, 16 + 4, 16),
        ("%x.1 = u8[2,4]{1,0} dynamic-slice(%q, %r, %r), dynamic_slice_sizes={2,4}", 1, 8 + 4 + 4, 8),
        (f"%x.1 = {CONV}", 1, 128, 64),  # the scratch memory counts as nothing
        (
            "%x.1 = (s32[], f32[4]{0}) while(%u), condition=%condition, body=%body, "
            'backend_config={"known_trip_count":{"n":"7"}}',
            7,
            7 * 32,
            7 * 16,
        ),
        (
            "%x.1 = f32[100,4]{1,0} all-reduce-start(%s), to_apply=%add\n"
            "  %y = f32[100,4]{1,0} all-reduce-done(%x.1)",
            1,
            1600,
            1600,
        ),
    ],
)
def test_launches_and_bytes(line: str, launches: int, read: int, written: int):
    found = list(hlo.parse(f"{FUSED}{PARAMETERS}  {line}\n}}\n").launches())
    assert len(found) == launches
    assert sum(launch.bytes_read for launch in found) == read
    assert sum(launch.bytes_written for launch in found) == written


def test_what_cannot_be_counted_is_refused():
    line = "  %x.1 = (s32[], f32[4]{0}) while(%u), condition=%condition, body=%body\n}\n"
    with pytest.raises(ValueError, match=r"x\.1 runs an unknown number of times"):
        list(hlo.parse(FUSED + PARAMETERS + line).launches())
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("HloModule nothing")


def test_convolutions_transposes_and_collectives():
    module = hlo.parse(
        f"""{FUSED}{PARAMETERS}
  %c = {CONV}
  %k = f32[3,3,8,16]{{3,2,1,0}} constant(0)
  %same = f32[16,3,3,8]{{0,3,2,1}} transpose(%k), dimensions={{3,0,1,2}}
  %moved = f32[16,3,3,8]{{3,2,1,0}} transpose(%k), dimensions={{3,0,1,2}}
  %kept = f32[3,3,8,16]{{3,2,1,0}} copy(%k)
  %turned = f32[3,3,8,16]{{2,1,0,3}} copy(%k)
  %one = f32[1,1,8,16]{{3,2,1,0}} constant(0)
  %bare = f32[1,1,8,16]{{3,2,0,1}} copy(%one)
  %g = f32[100,4]{{1,0}} all-reduce-start(%s), to_apply=%add
  %h = f32[100,4]{{1,0}} all-reduce-done(%g)
  %e = bf16[8,4]{{1,0}} all-reduce(%p), channel_id=7, to_apply=%add
  %f = bf16[8,4]{{1,0}} all-reduce(%p), channel_id=7, to_apply=%add
  %w = f32[2,4,4,3]{{3,2,1,0}} convolution(%moved, %k), dim_labels=b01f_01io->b01f
}}
"""
    )
    assert [shapes for _, shapes in module.convolutions()] == [
        ["bf16[8,4]{1,0}"] * 2,
        ["f32[16,3,3,8]{3,2,1,0}", "f32[3,3,8,16]{3,2,1,0}"],
    ]
    assert [i.name for i in module.transposes()] == ["moved", "turned"]
    assert module.collectives() == {"all-reduce": (2, 1600 + 64)}


def test_bytes_of_shapes():
    assert hlo.shape_bytes("(f32[2,3]{1,0}, bf16[4], pred[5]{0:T(128)}, s32[])") == 24 + 8 + 5 + 4


def test_figures_are_kept_by_program(tmp_path: Path):
    """Of a program that changed, or was made for something else, no figures are known."""
    target = Target("this machine", "cpu", jax.devices("cpu")[:1], {})
    lowered, other = (jax.jit(f).lower(jnp.ones(3)) for f in (jnp.sin, jnp.cos))
    keys = [
        rows.fingerprint(lowered, target, {"jax": "1"}),
        rows.fingerprint(other, target, {"jax": "1"}),
        rows.fingerprint(lowered, target, {"jax": "2"}),
        rows.fingerprint(lowered, target._replace(options={"xla_flag": "1"}), {"jax": "1"}),
    ]
    assert len(set(keys)) == 4
    assert rows.fingerprint(jax.jit(jnp.sin).lower(jnp.ones(3)), target, {"jax": "1"}) == keys[0]
    of_each = Figures(1, 2.5, 3, 4, {"all-reduce": [1, 5]}, 6, 7, 8)
    row = rows.Row(target.name, target.platform, "eval", 3, "f32", keys[0], of_each)
    file = tmp_path / "rows.json"
    assert rows.read(file) == {}
    rows.write(file, [row])
    assert rows.read(file) == {keys[0]: row}


def test_the_train_step_on_an_h100():
    """At batch 512 in bf16, as docs/accelerators.md has it."""
    pytest.importorskip("jax_plugins.xla_cuda13", reason="needs JAX's CUDA 13 plugin: make aot")
    from tools.aot import programs, targets
    from tools.aot.figures import figures

    target = targets.h100()
    lowered = programs.train_step(target, batch_size=512, precision="bf16")
    program = lowered.compile(compiler_options=target.options)
    found = figures(program, 512, count_launches=True)
    assert found.launches < 300
    assert found.bytes_per_image < 20.0e6
    assert found.transposes == 0
    assert found.f32_convolutions == 0
    assert found.convolutions == 59  # 20 forward, 20 kernels' gradients, 19 inputs' (the images have none)
    assert found.collectives == {}
