"""python -m tools.profile, on a tiny network on this CPU."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from recipe.training.engine import Trainer
from recipe.training.progress import Progress
from tests.tools.profile_traces import dispatch, kernel
from tests.tools.profile_traces import profile as make_trace
from tests.tools.test_profile_kinds import HLO
from tools.profile import __main__ as program
from tools.profile import kinds, predicted, report, trace
from tools.profile.figures import figures
from tools.profile.record import GRAPHS, Recording, read
from tools.profile.workload import Workload

TINY = ["--arch=resnet20", "--width=2", "--batch=4", "--precision=f32"]
CONVOLUTIONS = 19  # of ResNet20: 18 in its blocks and the first


def test_a_profile_of_train_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "profile"
    assert program.main([f"--output={output}", *TINY, "--steps=4"]) == 0
    assert "device idle" in capsys.readouterr().out
    content = json.loads((output / "profile.json").read_text("utf-8"))
    found = content["figures"]
    rows = {row["kind"]: row for row in found["rows"]}
    assert (found["device"], found["steps"], found["steps_seen"], found["dispatches"]) == ("CPU", 4, 4, 4)
    # forward; the gradient of each kernel and, but for the images, of each input
    assert found["convolutions"] == found["convolutions_seen"] == 3 * CONVOLUTIONS - 1
    assert {kinds.PRODUCT, kinds.ELEMENTWISE, kinds.UPDATE, kinds.INPUT} <= rows.keys()
    assert kinds.OTHER not in rows
    assert sum(row["ms"] for row in found["rows"]) == pytest.approx(content["ms_per_step"])
    assert sum(row["share"] for row in found["rows"]) == pytest.approx(1)
    assert 0 < found["busy_ms"] <= found["window_ms"]
    assert found["window_ms"] - found["busy_ms"] == pytest.approx(sum(gaps["ms"] for gaps in found["gaps"]))
    assert found["guessed"] == 0
    assert content["notes"] == ["This ran on a CPU, and says nothing about an accelerator."]
    recording = read(output / "recording")
    assert recording.workload == Workload("resnet20", 2, "f32", 4, 4, 0, loop=False)
    page = (output / "profile.md").read_text("utf-8")
    (output / "profile.md").unlink()
    assert program.main([f"--output={output}", "--read"]) == 0
    assert (output / "profile.md").read_text("utf-8") == page


@pytest.mark.parametrize("waiting", [False, True])
def test_the_training_loop_waits_for_no_dispatch_within_an_epoch(
    waiting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def update(self: Progress, done: int, trainer: Trainer, say: Callable[[str], None]) -> None:
        trainer.sums()
        original(self, done, trainer, say)

    original = Progress.update
    if waiting:
        monkeypatch.setattr(Progress, "update", update)
    flags = [*TINY, "--steps=5", "--steps-per-dispatch=2", "--loop"]
    assert program.main([f"--output={tmp_path}", *flags]) == 0
    content = json.loads((tmp_path / "profile.json").read_text("utf-8"))
    found, waits = content["figures"], content["figures"]["waits"]
    assert (found["steps"], found["steps_seen"], found["dispatches"]) == (5, 5, 3)
    assert waits["told"]
    assert any("test_profile.py" in wait["caller"] for wait in waits["waits"]) == waiting
    assert content["verdict"].startswith("No host sync") != waiting


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--steps=1"], "--steps=1: choose from 2 to 1,000"),
        (["--batch=0"], "--batch=0: a step needs an image at least"),
        (["--precision=bf61"], "unknown --precision 'bf61'; did you mean 'bf16'?"),
        (["--arch=resnet19"], "unknown config.model.arch 'resnet19'"),
        (["--batch=1000000"], "--batch=1000000 and --steps=20 need 20,000,000 images, of which 1,000,000"),
        (["--read"], "there is no recording in"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], reason: str
):
    assert program.main([f"--output={tmp_path}", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_recording_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "recording").mkdir()
    (tmp_path / "recording" / "mine.txt").write_text("precious")
    assert program.main([f"--output={tmp_path}", *TINY]) == 2
    assert "is there, and no recording" in capsys.readouterr().err
    assert (tmp_path / "recording" / "mine.txt").read_text() == "precious"


def test_a_damaged_recording_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "recording" / "plugins" / "profile" / "now"
    folder.mkdir(parents=True)
    facts = tmp_path / "recording" / "recording.json"
    for text in ("{", "[]", '{"workload": {"arch": "resnet18"}, "environment": {}, "platform": "gpu"}'):
        facts.write_text(text)
        (folder / "host.xplane.pb").write_bytes(b"")
        assert program.main([f"--output={tmp_path}", "--read"]) == 2
        assert f"{facts} is damaged" in capsys.readouterr().err
        (folder / "host.xplane.pb").unlink()
        assert program.main([f"--output={tmp_path}", "--read"]) == 2
        assert "has 0 traces in the place of one" in capsys.readouterr().err


H100 = Workload("resnet18", 0, "bf16", 512, 20, 0, loop=False)


def test_what_was_counted_ahead_of_time_is_found_for_the_same_step():
    counted = predicted.predicted(H100)
    assert counted is not None
    assert counted.convolutions == 59
    assert predicted.predicted(dataclasses.replace(H100, width=64)) == counted  # ResNet18's own
    for other in ({"arch": "resnet50"}, {"width": 32}, {"batch_size": 500}, {"precision": "f64"}):
        assert predicted.predicted(dataclasses.replace(H100, **other)) is None


def test_the_page_of_a_gpu_says_what_to_doubt():
    """Of two devices; a step, two convolutions and an instruction's name are missing in the trace."""
    stream = {"Stream #1": [kernel("sm90_xmma_fprop", 0, 4000, "cudnn-conv.1"), kernel("dgrad", 4000, 5000)]}
    planes = {"/device:GPU:0": stream, "/device:GPU:1": stream, "/host:CPU": {"python": [dispatch(0, 1, 2)]}}
    recording = Recording(H100, {"jax device": "NVIDIA H100"}, "gpu", Path(), (HLO,))
    found = figures(trace.from_profile(make_trace(planes)), recording.programs)
    page = report.markdown(recording, found, predicted.predicted(H100))
    assert "# Profile: resnet18, bf16, batch 512\n" in page
    assert "2 steps in 1 dispatches (train steps), on GPU:0: NVIDIA H100." in page
    assert "**Most instructions ran 1 times in 2 steps**" in page
    assert "1 of the program's 3 convolutions are seen in the trace" in page
    assert "For 20.0% of the time the kind is a guess" in page
    assert "The first of 2 devices." in page
    assert "launches kernels one by one while it is traced" in page
    assert "How often `while.15` runs is not in the program's text" in page
    assert "| convolution, forward | 0.5 | 0.002 | 80.0% | 0.0 | 0 |" in page
    assert "| convolution, gradient | 0.5 | 0.001 | 20.0% | – | – |" in page
    assert "| `cudnn-conv.1` | convolution, forward | `(bf16[8,4], u8[64])` | 0.5 | 0.002 | 0.0 |" in page
    assert "A dispatch took the host 0.00 ms" in page
    assert "The device copied" not in page
    assert "| instructions that launch something | 286 | 1 |" in page
    assert "CPU" not in page.partition("## Device")[0]
    replayed = dataclasses.replace(recording, environment={"XLA_FLAGS": f"--xla_flag=1 {GRAPHS}"})
    assert "one by one" not in report.markdown(replayed, found, None)
    cpu = figures(
        trace.from_profile(make_trace({"/host:CPU": {"t": [ON_CPU], **planes["/host:CPU"]}})), [HLO]
    )
    assert "The trace holds nothing of the accelerator" in report.markdown(recording, cpu, None)


ON_CPU = "copy.10", 0, 10, {"hlo_op": "copy.10", "hlo_module": "jit_steps"}
