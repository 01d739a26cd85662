"""The measurements on a GPU: what is run, what becomes of it, and that a call goes on where one ended.

The programs that measure are replaced by some that answer at once; `make heavy` runs the whole rehearsal.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from configs import r18
from parity.__main__ import parser as parity_parser
from parity.flags import level_range
from parity.speed import cli as speed_cli
from parity.speed import contenders
from parity.speed.measurements import Comparison, Report, Timing, render_json
from parity.verify.levels.registry import LEVELS
from recipe.system.errors import UserError
from recipe.training import settings
from tools.gpu import __main__ as gpu
from tools.gpu import card, commands, environment, page
from tools.gpu.commands import Done
from tools.gpu.parts import PARTS, profile, proof, speed, training
from tools.gpu.results import Results
from tools.profile import __main__ as profiler

H100 = card.Card("NVIDIA H100 80GB HBM3", "81559 MiB", "580.159.04")
FACTS = {"jax": "0.11.2", "torch": "2.11.0", "jax device": H100.name, "torch device": H100.name}
EPOCHS = {"": 200, "fast": 80, "fast94": 26}


class Programs:
    """What answers in the place of the programs that measure; `calls` are their arguments."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.facts = FACTS
        self.failing = ""  # programs whose arguments have this in them fail
        self.stopped_after = 0  # epochs; 0 is never
        self.left: list[float] = []
        self.seconds: dict[str, float] = {}  # of a step, by contender

    def run(self, command: Sequence[str], log: Path, seconds: float, where: Any) -> Done:
        assert command[0] == sys.executable
        arguments = list(command[1:])
        self.calls.append(arguments)
        self.environments.append(dict(where))
        self.left.append(seconds)
        if self.failing and self.failing in " ".join(arguments):
            return Done(1, False, 1.0, "started\nRuntimeError: it failed")
        name = arguments[1] if arguments[0] == "-m" else arguments[0]
        return getattr(self, name.replace(".", "_"))(arguments)

    def main_py(self, arguments: list[str]) -> Done:
        values = flags(arguments)
        variant = values["config"].partition(":")[2]
        dataset = values.get("config.data.name", "digits" if variant == "digits" else "cifar10")
        epochs = int(values.get("config.epochs", EPOCHS.get(variant, 0)))
        done = min(epochs, self.stopped_after) if self.stopped_after else epochs
        file = Path(values["workdir"]) / "metrics.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        records = [
            {
                "epoch": i + 1, "step": 10 * (i + 1), "lr": 0.1, "train_loss": 2.0 - i / epochs,
                "train_acc": 0.5, "test_loss": 1.0, "test_acc": 0.9 + 0.05 * i / epochs,
                "images_per_second": 50_000.0 + i, "seconds": 1.0, "dataset": dataset,
            }
            for i in range(done)
        ]  # fmt: skip
        file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        said = "First step under way 9.0 s after the start, done after 20.0 s\n"
        if done < epochs:
            return Done(130, True, 100.0, said + "Interrupted")
        return Done(0, False, 100.0, said + "Test acc")

    def parity(self, arguments: list[str]) -> Done:
        file = Path(next(a for a in arguments if a.startswith("--json=")).partition("=")[2])
        file.parent.mkdir(parents=True, exist_ok=True)
        if arguments[2] == "verify":
            check = {
                "level": 1, "name": "names", "precision": "exact", "passed": True, "cause": "",
                "worst": "conv1", "findings": [{"ratio": 0.25}, {"ratio": "inf"}],
            }  # fmt: skip
            file.write_text(json.dumps({"passed": True, "environment": {}, "checks": [check]}))
            return Done(0, False, 1.0, "")
        options = parity_parser().parse_args(arguments[2:])
        players = contenders.chosen(contenders.everybody("cuda", compiled=True), options.contenders)
        timings = tuple(
            Timing(p.name, p.side, (self.seconds.get(p.name, 0.01 * i),) * 5, 0.01, 1, 9.0, 0.1, 2**30, 0.0)
            for i, p in enumerate(players, 1)
        )
        (measure,), (precision,), (batch,) = options.measure, options.precision, options.batch
        sizes = 10**12, 8e14, timings, 10**10, 3e12
        comparison = Comparison(measure, "resnet18", 0, precision, batch, *sizes)
        notes = ("a note", *["as asked"] * (batch == 1024 and measure == "loop" and precision == "f32"))
        file.write_text(render_json(Report("python -m parity speed", FACTS, notes, (comparison,))))
        return Done(0, False, 1.0, "")

    def pytest(self, arguments: list[str]) -> Done:
        file = Path(next(a for a in arguments if a.startswith("--junitxml=")).partition("=")[2])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            '<testsuites><testsuite><testcase classname="a" name="b"/>'
            '<testcase classname="a" name="c"><failure message="assert 1 == 2&#10;more"/></testcase>'
            '<testcase classname="a" name="d"><skipped message="no kernels"/></testcase>'
            "</testsuite></testsuites>"
        )
        return Done(1, False, 1.0, "1 failed")

    def tools_profile(self, arguments: list[str]) -> Done:
        folder = Path(next(a for a in arguments if a.startswith("--output=")).partition("=")[2])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "profile.json").write_text('{"ms": 1.5}')
        (folder / "profile.md").write_text("# Profile: resnet18\n\n## Kinds\n")
        return Done(0, False, 1.0, "")

    def tools_gpu_environment(self, arguments: list[str]) -> Done:
        Path(arguments[2]).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments[2]).write_text(json.dumps(self.facts))
        return Done(0, False, 1.0, "")

    @property
    def measured(self) -> list[list[str]]:
        """The calls of programs that measure."""
        return [call for call in self.calls if call[1] != "tools.gpu.environment"]


def flags(arguments: Sequence[str]) -> dict[str, str]:
    """Name → value of --name=value."""
    pairs = (argument.partition("=") for argument in arguments if argument.startswith("--"))
    return {name.removeprefix("--"): value for name, _, value in pairs}


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Programs:
    """A machine with an H100 and CIFAR-10."""
    made = Programs()
    monkeypatch.setattr(commands, "run", made.run)
    monkeypatch.setattr(card, "find", lambda: H100)
    monkeypatch.setattr(gpu.data, "find", lambda packed, unpacked: Path("/data"))
    monkeypatch.setattr(gpu, "PAGE", tmp_path / "docs" / "gpu.md")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.delenv("OUT", raising=False)
    return made


@pytest.fixture
def call(programs: Programs, tmp_path: Path) -> Callable[..., int]:
    """The command, with a folder for its results."""
    return lambda *arguments: gpu.main([f"--output={tmp_path / 'results'}", *arguments])


def saved(tmp_path: Path, part: str) -> dict[str, Any]:
    return json.loads((tmp_path / "results" / f"{part}.json").read_text())


def test_a_call_measures_everything_and_the_next_one_nothing(
    call: Callable[..., int], programs: Programs, tmp_path: Path
):
    assert call() == 0
    assert sorted(path.stem for path in (tmp_path / "results").glob("*.json")) == sorted(PARTS)
    count = len(programs.measured)
    parts = proof.LEVELS, proof.TESTS, speed.WANTED, profile.WORKLOADS
    assert count == 4 + sum(map(len, parts)) + 2 + training.MOST_SEEDS
    for part in PARTS:
        record = saved(tmp_path, part)
        assert not record["rehearsal"]
        for content in record["pieces"].values():
            assert content["complete"]
            assert content["device"] == H100.name
            assert content["environment"]["jax"] == "0.11.2"
            assert content["environment"]["driver"] == H100.driver
    assert call() == 0
    assert len(programs.measured) == count


def test_both_frameworks_are_told_to_find_the_gpu(call: Callable[..., int], programs: Programs):
    """A JAX that is not told so computes on the CPU, silently."""
    call("--part=smoke")
    assert {e["JAX_PLATFORMS"] for e in programs.environments} == {"cuda,cpu"}
    assert {e["CUDA_VISIBLE_DEVICES"] for e in programs.environments} == {"0"}


@pytest.mark.parametrize("rehearse", [False, True])
def test_what_is_run_is_what_the_programs_understand(
    rehearse: bool, call: Callable[..., int], programs: Programs, tmp_path: Path
):
    if rehearse:
        assert call("--rehearse") == 0
    else:
        call()
    kinds = set()
    for arguments in programs.measured:
        kinds.add(arguments[1] if arguments[0] == "-m" else arguments[0])
        if arguments[0] == "main.py":
            values = flags(arguments)
            path, _, variant = values.pop("config").partition(":")
            assert path == "configs/r18.py"
            config = r18.get_config(variant)
            fields = {n.removeprefix("config."): v for n, v in values.items() if n.startswith("config.")}
            assert fields.keys() <= dict(settings.fields(config.to_dict())).keys()
            if fields.get("data.name", config.data.name) == "cifar10":
                assert fields["data.fallback"] == "none"  # the digits are no result
                assert fields["data.dir"] == "/data"
        elif arguments[1] == "parity":
            options = parity_parser().parse_args(arguments[2:])
            if arguments[2] == "verify":
                assert level_range(options.levels, max(LEVELS))
                assert options.quick
            else:
                speed_cli.chosen(options)
        elif arguments[1] == "pytest":
            root = Path(__file__).parents[2]
            assert all((root / a).exists() for a in arguments[2:] if a.startswith("tests/"))
        else:
            profiler.workload(profiler.parser().parse_args(arguments[2:]))
    assert kinds == {"main.py", "parity", "pytest", "tools.profile"}


def test_all_that_was_asked_for_is_among_the_comparisons():
    wanted = [(one.measure, one.precision, one.batch) for one in speed.WANTED if one.layout == speed.LAYOUT]
    assert len(wanted) == len(set(wanted)) == 3 * 2 * 3
    assert {batch for *_, batch in wanted} == {128, 512, 1024}
    assert max(speed.SECONDS, speed.SECONDS_OF_ALL) < 480  # what a part has in a call
    assert {one.name for one in speed.WANTED if one.layout == "NCHW"} == {
        f"{measure} {precision} 512 NCHW" for measure in ("train", "eval") for precision in ("bf16", "f32")
    }
    places = [one.name for one in speed.WANTED]
    for one in speed.WANTED:
        if one.measure == "loop":  # which takes the fastest of the train step
            assert places.index(one.name) > places.index(one._replace(measure="train").name)


def test_every_way_of_pytorch_takes_part_where_all_do(call: Callable[..., int], programs: Programs):
    call("--part=speed")
    players = contenders.everybody("cuda", compiled=True)
    ours = ["JAX", "JAX, 10 steps per dispatch"]
    found = {}
    for values in map(flags, programs.measured):
        chosen = contenders.chosen(players, values["contenders"].split(","))
        found[values["measure"], values["batch"], chosen[0].layout] = [player.name for player in chosen]
    for measure in ("train", "eval"):
        assert found[measure, "512", "channels_last"] == [
            *(f"PyTorch {how} channels_last" for how in ("eager", "compiled", "CUDA graphs", "max-autotune")),
            *ours,
        ]  # fmt: skip
        for batch, layout in (("512", "NCHW"), ("128", "channels_last"), ("1024", "channels_last")):
            names = [f"PyTorch {how} {layout}" for how in ("eager", "max-autotune")]
            assert found[measure, batch, layout] == [*names, *ours]


def test_the_loop_is_of_the_fastest_train_steps_of_any_layout(
    call: Callable[..., int], programs: Programs, tmp_path: Path
):
    programs.seconds = {"PyTorch max-autotune NCHW": 0.001, "JAX, 10 steps per dispatch": 0.002}
    call("--part=speed")
    loops = [flags(call) for call in programs.measured if "--measure=loop" in call]
    chosen = {one["batch"]: one["contenders"] for one in loops if one["precision"] == "bf16"}
    assert chosen["512"] == "PyTorch max-autotune NCHW,JAX? 10 steps per dispatch"
    assert chosen["128"] == "PyTorch eager channels_last,JAX? 10 steps per dispatch"
    players = contenders.everybody("cuda", compiled=True)
    assert [p.name for p in contenders.chosen(players, chosen["512"].split(","))] == [
        "PyTorch max-autotune NCHW", "JAX, 10 steps per dispatch",
    ]  # fmt: skip


def test_the_page_has_the_results_and_says_what_was_not_run(
    call: Callable[..., int], programs: Programs, tmp_path: Path
):
    assert call("--part=seeds", "--part=proof", "--part=speed", "--part=profile", "--part=smoke") == 0
    text = (tmp_path / "docs" / "gpu.md").read_text()
    assert text == (tmp_path / "results" / "gpu.md").read_text()
    assert text.startswith("# On a GPU\n")
    assert "rehearsal" not in text
    not_run = text.partition("## Not run\n\n")[2].partition("\n\n")[0].splitlines()
    assert not_run == ["- fast: `:fast`, 80 epochs", "- default: The default recipe, 200 epochs"]
    row = "seed 3 | 26 of 26 | 0.9481 | 0.9481 | 26.0 | 80.0 | 100.0 | 1 | 50,012 |"
    assert f"| NVIDIA H100 80GB HBM3 | {row}" in text
    assert "20 whole runs: accuracy 0.9481 on average, standard deviation 0.0000, least 0.9481." in text
    assert "matrix products in bf16 at 800 TFLOP/s, copies at 3000 GB/s" in text
    assert "| JAX | 10240 [10240–10240] |" in text
    assert f"`verify --quick` on {H100.name}, budgets unchanged: 6 checks, 0 failed." in text
    assert text.count("\n- a note\n") == 1
    assert text.count("\n- as asked\n") == 1  # of one of them
    assert "- FAILED: a::c: assert 1 == 2" in text
    assert "- skipped: a::d: no kernels" in text
    assert "### Profile: resnet18" in text
    assert "driver: 580.159.04" in text


def test_a_piece_that_fails_keeps_its_reason_and_is_tried_again(
    call: Callable[..., int], programs: Programs, tmp_path: Path
):
    programs.failing = "--config.engine=torch"
    assert call("--part=smoke") == 1
    pieces = saved(tmp_path, "smoke")["pieces"]
    assert [name for name, content in pieces.items() if not content["complete"]] == [
        "torch f32",
        "torch bf16",
    ]
    assert pieces["torch f32"]["problem"] == "exit status 1: RuntimeError: it failed"
    assert pieces["torch f32"]["output"] == "started\nRuntimeError: it failed"
    text = (tmp_path / "docs" / "gpu.md").read_text()
    assert "- Not finished: torch f32: exit status 1: RuntimeError: it failed" in text
    programs.failing, count = "", len(programs.measured)
    assert call("--part=smoke") == 0
    assert len(programs.measured) == count + 2


def test_a_run_that_is_stopped_goes_on_in_the_next_call_with_the_times_of_both(
    call: Callable[..., int], programs: Programs, tmp_path: Path
):
    programs.stopped_after = 57
    assert call("--part=default") == 1
    content = saved(tmp_path, "default")["pieces"]["seed 0"]
    assert content["problem"] == "stopped at its time limit after 57 epochs; it can go on"
    assert "| 57 of 200 |" in (tmp_path / "docs" / "gpu.md").read_text()
    programs.stopped_after = 0
    assert call("--part=default") == 0
    content = saved(tmp_path, "default")["pieces"]["seed 0"]
    assert content["calls"] == [{"device": H100.name, "seconds": 100.0, "to_first_step": 20.0}] * 2
    found = training.figures(content)
    assert (found.run, found.program, found.steps) == (160.0, 200.0, None)
    assert programs.measured[0] == programs.measured[1]  # the same command


def test_of_a_workdir_whose_first_call_is_not_known_no_time_is_told(
    call: Callable[..., int], programs: Programs, tmp_path: Path
):
    programs.stopped_after = 3
    call("--part=fast")
    (tmp_path / "results" / "fast.json").unlink()
    programs.stopped_after = 0
    assert call("--part=fast") == 0
    found = training.figures(saved(tmp_path, "fast")["pieces"]["seed 0"])
    assert (found.run, found.program, found.steps) == (None, None, None)
    assert found.accuracy is not None


def test_a_run_on_other_data_is_no_result(
    call: Callable[..., int], programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = programs.main_py
    other = "--config.data.name=digits"
    monkeypatch.setattr(programs, "main_py", lambda arguments: real([*arguments, other]))
    assert call("--part=fast") == 1
    content = saved(tmp_path, "fast")["pieces"]["seed 0"]
    assert not content["complete"]
    assert content["problem"] == "the run was not on cifar10"


def test_again_begins_anew(call: Callable[..., int], programs: Programs, tmp_path: Path):
    call("--part=fast", "--part=smoke")
    count = len(programs.measured)
    marker = tmp_path / "results" / "work" / "fast" / "seed-0" / "old"
    marker.write_text("")
    assert call("--part=fast", "--again") == 0
    assert len(programs.measured) == count + 1
    assert not marker.exists()
    assert len(saved(tmp_path, "fast")["pieces"]["seed 0"]["calls"]) == 1


def test_what_fails_again_leaves_what_there_was(
    call: Callable[..., int], programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    call("--part=smoke")
    programs.stopped_after = 57
    call("--part=default")
    before = {part: saved(tmp_path, part)["pieces"] for part in ("smoke", "default")}
    programs.failing = "--config.engine=torch"
    assert call("--part=smoke", "--again") == 1
    after = saved(tmp_path, "smoke")["pieces"]
    assert all(content["complete"] for content in after.values())
    assert {name for name in after if after[name] == before["smoke"][name]} == {"torch f32", "torch bf16"}
    programs.failing = ""

    def none(packed: Path, unpacked: Path) -> Path:
        raise UserError("there is no CIFAR-10")

    monkeypatch.setattr(gpu.data, "find", none)
    assert call("--part=default") == 1
    content = saved(tmp_path, "default")["pieces"]["seed 0"]
    assert content == before["default"]["seed 0"] | {"problem": "there is no CIFAR-10"}


def test_a_run_on_two_devices_names_both(call: Callable[..., int], programs: Programs, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    programs.stopped_after = 57
    call("--part=default")
    programs.stopped_after = 0
    monkeypatch.setattr(card, "find", lambda: H100._replace(name="NVIDIA H200"))
    call("--part=default")
    assert (
        f"| {H100.name} and NVIDIA H200 | seed 0 | 200 of 200 |" in (tmp_path / "docs" / "gpu.md").read_text()
    )


def test_what_may_not_fit_into_the_time_waits_for_the_next_call(
    call: Callable[..., int], programs: Programs, capsys: pytest.CaptureFixture[str]
):
    assert call("--part=speed", "--minutes=2") == 1
    assert programs.measured == []
    said = capsys.readouterr().err
    assert re.search(r"speed, train bf16 512: may take 420 s, and 1\d\d s are left; the next call", said)
    programs.left.clear()
    assert call("--part=speed", "--part-minutes=2") == 0  # where a part never has more, it is tried
    assert 100 < max(programs.left[1:]) <= 120


def test_a_rehearsal_is_never_taken_for_a_gpu_s(
    call: Callable[..., int], programs: Programs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    programs.facts = FACTS | {"jax device": "cpu", "torch device": "cpu"}
    assert call("--rehearse") == 0
    assert {e["JAX_PLATFORMS"] for e in programs.environments} == {"cpu"}
    assert {e["CUDA_VISIBLE_DEVICES"] for e in programs.environments} == {""}
    for part in PARTS:
        record = saved(tmp_path, part)
        assert record["rehearsal"]
        assert {c["device"] for c in record["pieces"].values()} == {"none (a rehearsal on the CPU)"}
    text = (tmp_path / "results" / "gpu.md").read_text()
    assert text.startswith("# A rehearsal of the measurements on a GPU\n\n**This is a rehearsal**")
    assert not (tmp_path / "docs").exists()
    capsys.readouterr()
    for arguments in ((), ("--page",)):
        assert call(*arguments) == 2
        assert re.fullmatch(
            r"error: \S+default\.json is of a rehearsal: name another folder with --output, or add --re.*\n",
            capsys.readouterr().err,
        )


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_framework_that_computes_on_the_cpu_measures_nothing(
    framework: str, call: Callable[..., int], programs: Programs, capsys: pytest.CaptureFixture[str]
):
    programs.facts = FACTS | {f"{framework} device": "cpu"}
    assert call() == 2
    assert programs.measured == []
    assert capsys.readouterr().err == (
        f"error: the GPU is {H100.name}, but {framework} {FACTS[framework]} computes on the CPU: install the "
        f"build of {framework} for CUDA\n"
    )


def test_results_are_copied_as_they_come(
    call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    call()
    copied = sorted(path.name for path in (tmp_path / "out" / "gpu").iterdir())
    assert copied == sorted([*(f"{part}.json" for part in PARTS), "gpu.md"])
    for name in copied:
        assert (tmp_path / "out" / "gpu" / name).read_bytes() == (tmp_path / "results" / name).read_bytes()


def test_a_file_that_is_no_result_is_named(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "speed.json").write_text('{"format": 1, "part"')
    assert call("--page") == 2
    assert re.search(
        r"speed\.json is no result of this program \(.*\): move it away", capsys.readouterr().err
    )


def test_without_results_there_is_no_page(tmp_path: Path, call: Callable[..., int]):
    assert call("--page") == 0
    assert not (tmp_path / "docs").exists()


def test_the_page_is_made_without_a_gpu(
    call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    call("--part=smoke")
    (tmp_path / "docs" / "gpu.md").unlink()

    def none() -> card.Card:
        raise UserError("none")

    monkeypatch.setattr(card, "find", none)
    assert call("--page") == 0
    assert (tmp_path / "docs" / "gpu.md").exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("", "nvidia-smi, which comes with the driver, is not installed"),
        ("echo NVIDIA-SMI has failed; exit 9", "nvidia-smi says 'NVIDIA-SMI has failed'"),
        ("exit 0", "nvidia-smi says 'nothing'"),
    ],
)
def test_without_a_gpu_one_line_says_so(
    program: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    fake_driver(tmp_path, monkeypatch, program)
    assert gpu.main([f"--output={tmp_path / 'results'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: there is no NVIDIA GPU here: {words}")
    assert "--rehearse" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_the_first_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_driver(tmp_path, monkeypatch, f"echo '{', '.join(H100)}'; echo 'another, 1 MiB, 2'")
    assert card.find() == H100


def fake_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Put a program in the place of nvidia-smi; "" is none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if program:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{program}\n")
        (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin" if program else str(folder))


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--part=speeds", "unknown part 'speeds'; did you mean 'speed'?"),
        ("--minutes=0", "'0' is no positive number"),
        ("--part-minutes=x", "'x' is no positive number"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_flags_are_one_line(flag: str, words: str, capsys: pytest.CaptureFixture[str]):
    assert gpu.main([flag]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_piece_that_runs_into_a_mistake_does_not_keep_the_others_from_their_turn(
    call: Callable[..., int], programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(proof, "counted", lambda report: {}["tests"])
    assert call("--part=proof", "--part=smoke") == 1
    pieces = saved(tmp_path, "proof")["pieces"]
    assert pieces["tests of runs"]["problem"] == "KeyError: 'tests'"
    assert all(content["complete"] for content in saved(tmp_path, "smoke")["pieces"].values())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "a.log"


def test_a_program_s_end_and_output_are_kept(log: Path):
    program = (
        "import os, sys; print(os.environ['A'], os.getcwd()); print('bad', file=sys.stderr); sys.exit(3)"
    )
    done = commands.run([sys.executable, "-c", program], log, 60, {"A": "b"})
    assert (done.status, done.stopped) == (3, False)
    assert sorted(done.output.splitlines()) == sorted([f"b {commands.ROOT}", "bad"])
    assert done.problem.startswith("exit status 3: ")
    assert commands.run([sys.executable, "-c", ""], log, 60, {}).problem == ""


def test_a_program_is_asked_to_stop_in_time_and_what_it_started_ends_with_it(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(commands, "GRACE", 0.5)
    polite = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(130)); time.sleep(60)"
    done = commands.run([sys.executable, "-c", polite], log, 1.5, {})
    assert (done.status, done.stopped, done.problem) == (130, True, "stopped at its time limit")
    deaf = f"""
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
signal.signal(15, signal.SIG_IGN)
time.sleep(60)
"""
    begun = time.monotonic()
    done = commands.run([sys.executable, "-c", deaf], log, 1.5, {})
    assert time.monotonic() - begun < 10
    assert (done.status, done.stopped) == (-signal.SIGKILL, True)
    state = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_program_under_way_ends_with_the_command(tmp_path: Path):
    """At Ctrl-C or SIGTERM: else it would hold the GPU."""
    started = f"import os, time; open('{tmp_path / 'pid'}', 'w').write(str(os.getpid())); time.sleep(60)"
    program = f"""
import signal, sys
from pathlib import Path
from tools.gpu import __main__ as gpu, commands
signal.signal(signal.SIGTERM, gpu._interrupt)
commands.run([sys.executable, "-c", {started!r}], Path("{tmp_path}/log"), 60, {{}})
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=commands.ROOT, stderr=subprocess.DEVNULL)
    timer = threading.Timer(30, process.kill)
    timer.start()
    while process.poll() is None and not (tmp_path / "pid").exists():
        time.sleep(0.05)
    time.sleep(0.2)
    process.terminate()
    process.wait()
    timer.cancel()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_versions_are_asked_of_both_frameworks(tmp_path: Path):
    assert environment.main(str(tmp_path / "a.json")) == 0
    facts = json.loads((tmp_path / "a.json").read_text())
    assert {"python", "jax", "jaxlib", "flax", "torch", "jax device", "orbax-checkpoint"} <= facts.keys()


@pytest.mark.heavy
def test_the_whole_rehearsal(tmp_path: Path):
    """Every part with real programs, tiny and on the CPU; and a second call that finds everything there."""
    command = [sys.executable, "-m", "tools.gpu", "--rehearse", f"--output={tmp_path}"]
    parts = [f"--part={name}" for name in PARTS]
    done = subprocess.run([*command, *parts], cwd=commands.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in PARTS:
        for content in json.loads((tmp_path / f"{part}.json").read_text())["pieces"].values():
            assert content["complete"]
            assert not content.get("problem")
    again = subprocess.run([*command, *parts], cwd=commands.ROOT, capture_output=True, text=True)
    assert again.returncode == 0
    assert set(re.findall(r": (\w.*)$", again.stderr, re.MULTILINE)) == {"is there"}
    text = (tmp_path / "gpu.md").read_text()
    assert "This is a rehearsal" in text
    assert "Not run" not in text
    results = Results(tmp_path, rehearsal=True)
    assert page.render(results, [*PARTS.values()]) == text
