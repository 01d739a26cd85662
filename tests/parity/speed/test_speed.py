"""What `parity speed` does with timings, in which order it takes them, and what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from parity.__main__ import main
from parity.speed import compare, contenders
from parity.speed import measurements as results
from parity.speed.cli import read, write
from parity.speed.compare import Options
from parity.speed.figures import ratios, spread
from parity.speed.jobs import Contender, Job, Layer
from parity.speed.measurements import Comparison, Report, Timing
from parity.speed.programs import geometry, jax_steps, referee, torch_steps
from parity.speed.programs.problem import Problem
from parity.speed.report import markdown as report_markdown
from parity.speed.report import plot as report_plot
from parity.speed.report import text as report_text
from parity.speed.rounds import hopeless, orders, steps_of_a_turn, take_turns
from parity.speed.verdict import Verdict, check
from parity.speed.worker import Worker, make_program
from recipe.system.errors import UserError

ROOT = Path(__file__).parents[3]
EAGER = Contender("torch", "PyTorch eager NCHW", layout="NCHW")
JAX = Contender("jax", "JAX", config=(("steps_per_dispatch", 1),))
JAX_2 = Contender("jax", "JAX, 2 steps per dispatch", config=(("steps_per_dispatch", 2),))


def timing(name: str, side: str, seconds: tuple[float, ...], **fields: Any) -> Timing:
    values: dict[str, Any] = {
        "trial": 1.0, "steps": 1, "first_seconds": 5.0, "error": 0.1, "peak_bytes": 2**30, "idle_share": 0.0,
    }  # fmt: skip
    return Timing(name=name, side=side, seconds=seconds, **values | fields)


@pytest.fixture
def report() -> Report:
    train = Comparison("train", "resnet18", 0, "f32", 64, 10**12, 2e12, (
        timing("PyTorch A", "torch", (2.0, 2.0, 4.0, 2.0, 2.0)),
        timing("PyTorch B", "torch", (), trial=8.0),
        timing("JAX", "jax", (4.0, 4.0, 4.0, 5.0, 2.0), error=0.9),
    ))  # fmt: skip
    loop = Comparison("loop", "resnet18", 0, "f32", 64, 10**12, 2e12, (
        timing("PyTorch A", "torch", (2.0, 2.0), loop_seconds=(2.02, 2.04)),
        timing("JAX", "jax", (1.0, 4.0), loop_seconds=(1.1, 4.4)),
    ))  # fmt: skip
    environment = {"python": "3.13.0", "jax": "0.12", "torch": "2.14", "processor": "a CPU", "CPUs": "2"}
    return Report("python -m parity speed", environment, ("a note",), (train, loop))


def test_spread_is_numpys_quartiles():
    values = list(np.random.default_rng(0).uniform(1, 2, 9))
    assert spread(values) == pytest.approx(tuple(np.quantile(values, (0.5, 0.25, 0.75))))
    assert spread([3.0]) == (3.0, 3.0, 3.0)


def test_a_slow_round_of_the_machine_is_in_no_ratio():
    machine = np.array([1, 1, 10, 1, 3.0])
    assert ratios(3 * machine, 2 * machine) == pytest.approx([1.5] * 5)
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


def test_figures_of_a_comparison(report: Report):
    train, loop = report.comparisons
    theirs, slow, ours = train.timings
    assert train.best("torch") is theirs
    assert train.best("jax") is ours
    assert train.speed(theirs).median == 32
    assert train.speed(slow).median == 8  # its trial's
    assert train.speed(ours) == (16, 16, 16)
    by_round = [2 / 4, 2 / 4, 4 / 4, 2 / 5, 2 / 2]
    assert train.ratio(ours).median == statistics.median(by_round)  # type: ignore[union-attr]
    assert train.ratio(theirs).median == 1  # type: ignore[union-attr]
    assert train.ratio(slow) is None
    assert train.share(theirs) == 10**12 / 2.0 / 2e12
    assert theirs.compile_seconds == 3
    assert train.overhead(ours) is None
    assert loop.overhead(loop.timings[1]) == pytest.approx((0.1, 0.1, 0.1))
    assert loop.speed(loop.timings[0]).median == pytest.approx(64 / 2.03)  # of the loop, not of its steps


def test_everybody_is_as_often_first_as_anybody_and_nobody_always_behind_the_same():
    players = list("abc")
    found = list(orders(players, 6))
    assert all(sorted(order) == players for order in found)
    assert {p: sum(order[0] == p for order in found) for p in players} == dict.fromkeys(players, 2)
    behind = {(a, b) for order in found for a, b in itertools.pairwise(order)}
    assert len(behind) == 6


class Recorder:
    """A worker that takes a second per step, or what it is told."""

    def __init__(self, name: str, calls: list[tuple[str, str, int]], seconds: float = 1.0):
        self.name, self.calls, self.seconds = name, calls, seconds

    def time(self, track: str, steps: int) -> float:
        self.calls.append((self.name, track, steps))
        return self.seconds * steps


def test_contenders_take_turns_round_by_round():
    calls: list[tuple[str, str, int]] = []
    workers = {"a": Recorder("a", calls, 1.0), "b": Recorder("b", calls, 3.0)}
    done: list[int] = []
    tracks = {"a": ["step"], "b": ["loop", "step"]}
    seconds = take_turns(workers, tracks, {"a": 2, "b": 4}, 3, done.append)
    assert seconds == {("a", "step"): [1.0] * 3, ("b", "loop"): [3.0] * 3, ("b", "step"): [3.0] * 3}
    assert done == [1, 2, 3]
    everybody = {("a", "step", 2), ("b", "loop", 4), ("b", "step", 4)}
    assert [set(calls[i : i + 3]) for i in (0, 3, 6)] == [everybody] * 3


def test_a_turn_is_long_enough_and_a_multiple_of_the_quantum():
    assert steps_of_a_turn(0.3, 1.0, 1) == 4
    assert steps_of_a_turn(0.3, 1.0, 10) == 10
    assert steps_of_a_turn(0.03, 1.0, 10) == 40
    assert steps_of_a_turn(7.0, 1.0, 1) == 1


def test_only_who_is_far_behind_its_own_side_is_hopeless():
    trials = {"t1": 1.0, "t2": 2.9, "t3": 3.1, "j": 9.0}
    assert hopeless(trials, {"t1": "torch", "t2": "torch", "t3": "torch", "j": "jax"}) == {"t3"}


def test_both_layouts_eager_and_compiled_take_part_and_jax_with_one_and_several_steps():
    found = {c.name: c for c in contenders.everybody("cuda", compiled=True)}
    torch = {(c.layout, c.compile_mode) for c in found.values() if c.side == "torch"}
    modes = "", "default", "reduce-overhead", "max-autotune"
    assert torch == {(layout, mode) for layout in ("NCHW", "channels_last") for mode in modes}
    assert {dict(c.config)["steps_per_dispatch"] for c in found.values() if c.side == "jax"} == {1, 10}
    assert not any(c.compile_mode for c in contenders.everybody("cpu", compiled=False))


def test_contenders_are_chosen_by_patterns_of_their_names():
    players = contenders.everybody("cuda", compiled=True)
    assert contenders.chosen(players, ()) == players
    some = contenders.chosen(players, ("JAX*", "*eager channels_last"))
    assert [p.name for p in some] == ["PyTorch eager channels_last", "JAX", "JAX, 10 steps per dispatch"]
    with pytest.raises(UserError, match=r"nobody is called 'jax\*'; there are 'PyTorch eager NCHW', "):
        contenders.chosen(players, ("JAX*", "jax*"))


@pytest.mark.parametrize("player", contenders.PEAKS, ids=str)
def test_a_copy_reads_and_writes_all_of_it(player: Contender, monkeypatch: pytest.MonkeyPatch):
    for module in (jax_steps, torch_steps):
        monkeypatch.setattr(module, "COPY", 2**20)
        monkeypatch.setattr(module, "GEMM_SIZE", {"cpu": 64})
    program = make_program(Job(player, "train", "resnet20", 0, "f32", 2), "peaks")
    assert program.work == {"gemm": 2 * 64**3, "copy": 2 * 2**20}
    assert program.first() == {}
    assert {name: run(3) for name, run in program.tracks.items()} == {"gemm": None, "copy": None}


def small(contender: Contender, measure: str) -> Job:
    return Job(contender, measure, "resnet20", 4, "f32", 4, epoch_steps=2)


@functools.cache
def verdict_of(training: bool) -> Verdict:
    return referee.judge(small(EAGER, "train" if training else "eval"))


@pytest.mark.parametrize(
    ("contender", "measure"),
    [(EAGER, "train"), (EAGER, "eval"), (EAGER, "loop"), (JAX, "eval"), (JAX_2, "train"), (JAX_2, "loop")],
    ids=str,
)
def test_what_is_timed_computes_what_the_reference_computes(contender: Contender, measure: str):
    """In the contender's own process, in the very program that is timed."""
    verdict = verdict_of(measure != "eval")
    worker = Worker(small(contender, measure))
    try:
        first = worker.first()
        assert check("it", first["outputs"], verdict, "f32") <= 1
        for track in first["tracks"]:
            assert worker.time(track, 2 * first["quantum"]) > 0
        assert worker.finish()["peak_bytes"] > 2**20
    finally:
        worker.kill()


def test_other_weights_are_refused():
    other = referee.judge(dataclasses.replace(small(EAGER, "eval"), seed=1))
    with pytest.raises(UserError, match=r"its logits \(logits, f32\) are off by .* nothing was timed"):
        check("it", dict(verdict_of(False).expected), other, "f32")


@pytest.mark.parametrize("planted", [lambda a: a * (1 + 1e-3), lambda a: a * np.nan, lambda a: a[1:]])
def test_one_wrong_gradient_is_refused(planted: Any):
    right = {"a": np.ones(4), "b": np.arange(4.0)}
    verdict = Verdict(right, {"a": 1e-5, "b": 1e-5}, 1)
    assert check("it", right, verdict, "f32") == 0
    with pytest.raises(UserError, match=r"\(b, f32\)"):
        check("it", right | {"b": planted(right["b"])}, verdict, "f32")
    for wrong in ({}, {"a": right["a"]}, right | {"c": right["a"]}):
        with pytest.raises(UserError, match="other tensors"):
            check("it", wrong, verdict, "f32")


def test_nothing_is_timed_when_gradients_differ(monkeypatch: pytest.MonkeyPatch):
    """The whole comparison, with workers that are made up, one of which computes something else."""
    calls: list[tuple[str, str, int]] = []

    class Fake(Recorder):
        def __init__(self, job: Job):
            super().__init__(job.contender.name, calls)
            self.job = job

        def made(self, most_seconds: float | None = None) -> None:
            pass

        def first(self, most_seconds: float | None = None) -> dict[str, Any]:
            grad = np.ones(3) if self.job.contender is EAGER else np.full(3, 1.1)
            return {"outputs": {"w": grad}, "seconds": 1.0, "quantum": 1, "tracks": ["step"]}

        def finish(self) -> dict[str, Any]:
            return {"peak_bytes": 1, "idle_share": 0.0}

        def kill(self) -> None:
            calls.append((self.name, "kill", 0))

    peaks = compare.Peaks(1e9, 1e9)
    monkeypatch.setattr(compare, "Worker", Fake)
    monkeypatch.setattr(compare, "referee", lambda task: Verdict({"w": np.ones(3)}, {"w": 1e-6}, 1))
    with pytest.raises(UserError, match="JAX differs from the reference"):
        compare.compare(small(EAGER, "train"), [EAGER, JAX], peaks, Options())
    assert {track for _, track, _ in calls} == {"kill"}
    calls.clear()
    compare.compare(small(EAGER, "train"), [EAGER], peaks, Options())
    assert sum(track == "step" for _, track, _ in calls) > 5
    calls.clear()
    patient = Options(patience=60)
    found = compare.compare(small(EAGER, "train"), [EAGER, JAX], peaks, patient)
    assert [timing.name for timing in found.timings] == [EAGER.name]
    (failure,) = found.failures
    assert failure.startswith("JAX differs from the reference")
    assert {track for name, track, _ in calls if name == "JAX"} == {"kill"}
    with pytest.raises(UserError, match="JAX differs from the reference"):  # nobody is left
        compare.compare(small(EAGER, "train"), [JAX], peaks, patient)


def test_flops_of_resnet18_are_the_published_ones():
    description = referee.Problem(small(EAGER, "train")).run.model
    resnet18 = dataclasses.replace(description, arch="resnet18", width=64)
    forward = referee.count_flops(resnet18, 2, training=False)
    assert forward / 2 == pytest.approx(2 * 0.5554e9, rel=1e-3)
    stem = 2 * 32 * 32 * 64 * 27  # the gradient of the images, which nobody needs
    assert referee.count_flops(resnet18, 2, training=True) == 3 * forward - 2 * stem


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("jax_steps", "torch"), ("jax_layers", "torch"), ("torch_steps", "jax"), ("torch_layers", "jax"),
    ],
)  # fmt: skip
def test_a_process_loads_one_framework(module: str, foreign: str):
    modules = f"parity.speed.programs.{module}, parity.environment, parity.speed.worker"
    program = f"import sys, {modules}; sys.exit({foreign!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_json_holds_every_number_and_reads_back(report: Report, tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_text(results.render_json(report))
    assert read(path) == report
    content = json.loads(path.read_text())
    assert content["format"] == results.FORMAT
    row = content["comparisons"][0]["timings"][2]
    assert row.keys() == {f.name for f in dataclasses.fields(Timing)} | {
        "images_per_second", "ratio_to_best_pytorch", "share_of_gemm_peak", "share_of_bandwidth",
        "compile_seconds", "loop_overhead",
    }  # fmt: skip
    assert row["ratio_to_best_pytorch"] == {"median": 0.5, "low": 0.5, "high": 1.0}
    path.write_text('{"format": 1}')
    with pytest.raises(UserError, match="is not what"):
        read(path)


def test_the_table_is_aligned_and_says_who_is_faster(report: Report):
    text = report_text.render(report)
    lines = text.splitlines()
    table = lines[3:7]
    assert [line.split("  ")[0] for line in table[1:]] == ["PyTorch A", "JAX", "PyTorch B"]  # fastest first
    ends = [line.rindex("GiB") for line in table[1:]]
    assert len(set(ends)) == 1
    assert "~8.00" in table[3]
    assert lines[7] == "JAX is at 0.50× [0.50×–1.00×] of PyTorch's best, PyTorch A."
    assert "+10.0% [+10.0%–+10.0%]" in text
    assert "* a note" in lines


def test_document_keeps_the_words_around_what_was_measured(report: Report, tmp_path: Path):
    write(report, tmp_path / "speed")
    document = tmp_path / "speed.md"
    document.write_text(document.read_text() + "\nBy hand.\n")
    environment = report.environment | {"python": "3.11.9", "jax": "0.10"}
    write(dataclasses.replace(report, environment=environment), tmp_path / "speed.md")
    text = document.read_text()
    assert text.endswith("\nBy hand.\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## a CPU, Python 3.13.0, JAX 0.12", "## a CPU, Python 3.11.9, JAX 0.10",
    ]  # fmt: skip
    assert text.count(report_markdown.BEGIN) == 1
    for line in text.splitlines():
        if line.startswith("!["):
            assert (tmp_path / line.partition("(")[2].rstrip(")")).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="no place"):
        report_markdown.insert("# By hand", "x")


def test_a_report_is_named_by_processor_and_versions():
    environment = {"python": "3.13.0", "jax": "0.12.0.1"}
    for processor, name in (
        ("Intel(R) Xeon(R) Processor 6 207 (avx2, avx512f)", "intel-xeon-processor-6-207"),
        ("AMD EPYC 25 17 (avx2)", "amd-epyc-25-17"),
        ("arm64", "arm64"),
    ):
        assert results.name_of(environment | {"processor": processor}) == f"{name}-python-3.13-jax-0.12.0.1"
    on_a_gpu = environment | {"processor": "AMD EPYC", "torch device": "NVIDIA H100 80GB HBM3"}
    assert results.name_of(on_a_gpu) == "nvidia-h100-80gb-hbm3-python-3.13-jax-0.12.0.1"


def test_a_busy_machine_is_noticed():
    program = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    busy = subprocess.Popen([sys.executable, "-c", program])
    try:
        assert compare.busy_cpus(1.0) > 0.5
    finally:
        busy.kill()
        busy.wait()


def test_picture_of_comparisons_that_not_all_networks_have(report: Report, tmp_path: Path):
    train, loop = report.comparisons
    other = dataclasses.replace(train, arch="resnet50")
    report_plot.draw(dataclasses.replace(report, comparisons=(train, loop, other)), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize("measures", [1, 2])
def test_a_long_name_of_a_processor_stays_inside_the_picture(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measures: int
):
    figures: list[Figure] = []
    drawn = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), drawn(self, *a, **k)))
    name = "Intel(R) Xeon(R) Processor 6 207 (avx2, avx512f, avx512_bf16, amx_bf16) and what else it has"
    environment = report.environment | {"processor": name}
    some = dataclasses.replace(report, environment=environment, comparisons=report.comparisons[:measures])
    report_plot.draw(some, tmp_path / "a.png")
    (figure,) = figures
    figure.draw_without_rendering()  # by its own resolution, not that of the file
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert name.split()[0] in figure.get_suptitle()
    highest = max(axes.title.get_window_extent().y1 for axes in figure.axes)
    assert highest < box.y0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--arch=resnet19"], "unknown architecture 'resnet19'; did you mean 'resnet18'?"),
        (["--batch=0"], "--batch must be at least 2, not 0"),
        (["--batch=64,x"], "'x' is no number"),
        (["--precision=f16"], "unknown precision 'f16'"),
        (["--measure=training"], "unknown measure 'training'; did you mean 'train'?"),
        (["--rounds=0"], "--rounds must be at least 1"),
        (["--seconds=0"], "--seconds must be above 0"),
        (["--steps-per-dispatch=-1"], "--steps-per-dispatch must be"),
        (["--width=-1"], "--width must"),
        (["--layers", "--contenders=JAX"], "leave --contenders out"),
        (["--patience=-1"], "--patience must be a number of seconds"),
    ],
)
def test_wrong_input_is_one_line(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["speed", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_worker_that_fails_says_so_in_one_line():
    worker = Worker(dataclasses.replace(small(EAGER, "train"), arch="resnet19"))
    try:
        with pytest.raises(UserError, match=r"PyTorch eager NCHW: unknown config\.model\.arch") as caught:
            worker.first()
        assert "\n" not in str(caught.value)
    finally:
        worker.kill()


def test_patience_ends():
    worker = Worker(small(EAGER, "train"))
    try:
        with pytest.raises(UserError, match=r"^PyTorch eager NCHW: no first step within 0\.01 s$"):
            worker.first(0.01)
    finally:
        worker.kill()


def test_without_a_compiler_torch_compile_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in contenders.without_compiler()
    monkeypatch.setenv("CXX", sys.executable)
    assert contenders.without_compiler() == ""


def test_frameworks_on_different_devices_are_not_compared():
    assert compare.one_device({"torch device": "cpu", "jax device": "cpu"}) == "cpu"
    assert compare.one_device({"torch device": "NVIDIA H100", "jax device": "NVIDIA H100"}) == "cuda"
    with pytest.raises(UserError, match="different devices"):
        compare.one_device({"torch device": "NVIDIA H100", "jax device": "cpu"})


def test_what_was_measured_before_an_error_is_kept(
    report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    environment = {**report.environment, "load before": "0.0", "torch device": "cpu", "jax device": "cpu"}
    results = iter(report.comparisons[:1])

    def compare_once(*_: Any) -> Comparison:
        for comparison in results:
            return comparison
        raise UserError("the process of JAX died")

    monkeypatch.setattr(compare, "machine", lambda: environment)
    monkeypatch.setattr(compare, "peaks_of", lambda precision, options: (compare.Peaks(1e12, 1e9), {}))
    monkeypatch.setattr(compare, "compare", compare_once)
    file = tmp_path / "speed.json"
    assert main(["speed", "--measure=train,eval", "--precision=f32", f"--json={file}"]) == 2
    kept = read(file)
    assert kept.comparisons == report.comparisons[:1]
    assert kept.notes[-1] == "not finished: 1 of 2 comparisons"


def test_layers_on_their_own_are_all_of_the_networks_arithmetic():
    job = Job(EAGER, "train", "resnet18", 0, "f32", 4)
    layers = geometry.layers(job)
    assert sum(layer.count for layer in layers if layer.kind == "convolution") == 20
    assert sum(layer.count for layer in layers if layer.kind == "batch norm") == 20
    flops = sum(
        layer.count * layer.flops(4) * len(layer.operations)
        for layer in layers
        if layer.kind == "convolution"
    )
    linear = 3 * 2 * 4 * 512 * 10
    whole = referee.count_flops(Problem(job).run.model, 4, training=True)
    assert flops + linear == whole


def test_a_bottlenecks_layers_of_one_shape_are_one():
    layers = {layer.name: layer for layer in geometry.layers(Job(EAGER, "train", "resnet50", 0, "f32", 2))}
    assert layers["layer1.0.conv1"].count == 1  # from 64 channels; the other two of the stage are from 256
    assert layers["layer1.1.conv1"].count == 2
    assert layers["layer1.0.bn3"].then == "residual"
    assert layers["layer1.0.shortcut.1"].then == ""
    assert str(layers["layer2.0.conv2"]) == "3×3 /2, 128→128 at 32"


def test_memory_floors_count_each_array_once():
    conv = Layer("convolution", 32, 64, 128, 3, 2)
    assert conv.elements("forward", 2) == 2 * (32 * 32 * 64 + 16 * 16 * 128)
    norm = Layer("batch norm", 8, 16, 16, then="residual")
    assert norm.elements("forward", 2) == 3 * 2 * 8 * 8 * 16  # x, residual, y
    assert norm.elements("backward", 2) == 5 * 2 * 8 * 8 * 16  # dy, x, y, dx, dresidual


@pytest.mark.parametrize(("measure", "megabytes"), [("train", 18.62), ("eval", 5.28)])
def test_the_traffic_of_resnet18_is_what_accelerators_md_has(measure: str, megabytes: float):
    """MB per image, its activations in bf16."""
    moved = geometry.traffic(Job(EAGER, measure, "resnet18", 0, "bf16", 4))
    assert moved / 4 / 1e6 == pytest.approx(megabytes, abs=0.005)
    assert geometry.traffic(Job(EAGER, measure, "resnet18", 0, "f32", 4)) == 2 * moved


def test_the_share_of_bandwidth_is_in_reports_that_know_it(report: Report, tmp_path: Path):
    train, loop = report.comparisons
    assert "of bandwidth" not in report_text.header(train)
    train = dataclasses.replace(train, traffic=10**9, bandwidth=2e9, failures=("JAX, 2 failed",))
    assert train.share_of_bandwidth(train.timings[0]) == 0.25
    assert report_text.header(train)[4] == "of bandwidth"
    assert report_text.rows(train)[0][3:5] == ("25%", "25%")
    assert all(len(row) == len(report_text.header(train)) for row in report_text.rows(train))
    known = dataclasses.replace(report, comparisons=(train, loop))
    (tmp_path / "r.json").write_text(results.render_json(known))
    assert read(tmp_path / "r.json") == known


def test_the_table_of_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    flags = ["--layers", "--quick", "--arch=resnet20", "--width=4", "--rounds=1"]
    assert main(["speed", *flags, f"--json={tmp_path / 'l.json'}", f"--output={tmp_path / 'speed'}"]) == 0
    (table,) = json.loads((tmp_path / "l.json").read_text(encoding="utf-8"))
    assert set(table["rows"][0]["seconds"]) == {"PyTorch", "JAX", "JAX, XLA alone"}
    assert all(times[0] > 0 for row in table["rows"] for times in row["seconds"].values())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "resnet20 width 4, f32, batch 8"
    (document,) = tmp_path.glob("speed/layers-*.md")
    assert "| all convolutions | " in document.read_text(encoding="utf-8")
