"""Runs: compilations, checkpoints, and going on as if never interrupted."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

import flax_resnet
import flax_resnet.checkpoint
import torch_ref
import torch_ref.checkpoint
from flax_resnet.naming import by_dotted_path, to_torch_layout, torch_key
from recipe.data import Dataset
from recipe.plan import make_plan
from recipe.system import files
from recipe.system.errors import UserError
from recipe.training import checkpoints, workdir
from recipe.training.description import describe_inference, describe_run
from recipe.training.log import read_metrics
from recipe.training.loop import Interrupted, TrainingLoop
from recipe.training.metrics import evaluate
from tests.conftest import describe, make_trainer

CHECKPOINT = {"flax_resnet": flax_resnet.checkpoint, "torch_ref": torch_ref.checkpoint}


def make_run(engine: Any, config: Any, data: Dataset, workdir: Path) -> TrainingLoop:
    """A run that goes on from its workdir's newest checkpoint, if there is one."""
    loop = TrainingLoop(
        describe_run(config, data, workdir), data, make_trainer(engine, config, data, workdir)
    )
    loop.restore()
    return loop


def final_state(engine: Any, workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the latest checkpoint, by name."""
    form = CHECKPOINT[engine.__name__]
    newest = checkpoints.newest(workdir / "checkpoints" / "latest", form.SUFFIX)
    assert newest is not None
    record, saved = form.read(newest)
    progress = {"progress": np.array([record["progress"]["step"], *record["progress"]["sums"].values()])}
    return progress | {name: np.asarray(leaf) for name, leaf in by_dotted_path(saved).items()}


def interrupt_after(run: TrainingLoop, step: int, number: signal.Signals = signal.SIGINT) -> None:
    """Let a run receive Ctrl-C, or another signal, once its trainer has done a step."""
    trainer, train_steps = run._trainer, run._trainer.train_steps

    def interrupted_steps(at_most: int) -> None:
        train_steps(at_most)
        if trainer.step == step:
            os.kill(os.getpid(), number)

    trainer.train_steps = interrupted_steps  # type: ignore[method-assign]


def diverge_at(run: TrainingLoop, step: int) -> None:
    """Let a run's weights become infinite behind a step."""
    trainer, train_steps = run._trainer, run._trainer.train_steps

    def diverging_steps(at_most: int) -> None:
        train_steps(at_most)
        if trainer.step == step:
            spoil(trainer)

    trainer.train_steps = diverging_steps  # type: ignore[method-assign]


def spoil(trainer: Any) -> None:
    """Make every parameter infinite."""
    if isinstance(trainer, flax_resnet.Trainer):
        params = jax.tree.map(lambda leaf: leaf * np.inf, trainer.state.params)
        trainer.state = trainer.state._replace(params=params)
    else:
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.mul_(np.inf)


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in records]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_an_interrupted_run_ends_bit_identically(
    engine: Any,
    config: Any,
    data: Dataset,
    tmp_path: Path,
    precision: str,
    capsys: pytest.CaptureFixture[str],
):
    config.precision = precision
    if precision == "bf16":
        config.resize.sizes, config.resize.starts = (20, 32), (0.0, 0.5)
    make_run(engine, config, data, tmp_path / "whole").train()
    # in the middle of an epoch; after an epoch's last step, before its evaluation; twice
    for name, stops in {"middle": [2], "end": [4], "twice": [3, 6]}.items():
        for stop in stops:
            run = make_run(engine, config, data, tmp_path / name)
            interrupt_after(run, stop)
            with pytest.raises(Interrupted):
                run.train()
            assert f"Interrupted at step {stop} of 8" in capsys.readouterr().out
        make_run(engine, config, data, tmp_path / name).train()
        whole, resumed = final_state(engine, tmp_path / "whole"), final_state(engine, tmp_path / name)
        assert whole.keys() == resumed.keys()
        assert [key for key in whole if not np.array_equal(whole[key], resumed[key])] == []
        records = [without_times(read_metrics(tmp_path / part)) for part in ("whole", name)]
        assert records[0] == records[1]
        assert [record["epoch"] for record in records[0]] == [1, 2]


def test_a_run_stopped_before_its_last_evaluation_is_evaluated_once(
    engine: Any, config: Any, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = make_run(engine, config, data, tmp_path)
    interrupt_after(run, 8)
    with pytest.raises(Interrupted):
        run.train()
    for lines in (1, 0):
        capsys.readouterr()
        evaluation = make_run(engine, config, data, tmp_path).train()
        assert capsys.readouterr().out.count("Epoch 2/2: ") == lines
        assert [record["epoch"] for record in read_metrics(tmp_path)] == [1, 2]
        assert read_metrics(tmp_path)[-1]["test_loss"] == evaluation.loss


def test_steps_per_dispatch_change_no_bit(engine: Any, config: Any, data: Dataset, tmp_path: Path):
    """Epochs of 4 steps as 2 + 2, 3 + 1 and 4; and stopped between dispatches, to go on in others.

    The first two steps of a run are dispatched alone.
    """
    for count in (2, 3, 4):
        config.steps_per_dispatch = count
        run = make_run(engine, config, data, tmp_path / str(count))
        counts = dispatches(run)
        run.train()
        assert counts == [1, 1, 2] + {2: [2, 2], 3: [3, 1], 4: [4]}[count]
    config.steps_per_dispatch = 3
    run = make_run(engine, config, data, tmp_path / "resumed")
    interrupt_after(run, 7)
    with pytest.raises(Interrupted):
        run.train()
    config.steps_per_dispatch = 2
    make_run(engine, config, data, tmp_path / "resumed").train()
    expected = final_state(engine, tmp_path / "2")
    for name in ("3", "4", "resumed"):
        state = final_state(engine, tmp_path / name)
        assert [key for key in expected if not np.array_equal(expected[key], state[key])] == []
        assert without_times(read_metrics(tmp_path / name)) == without_times(read_metrics(tmp_path / "2"))


def test_a_loop_of_steps_does_what_single_steps_do(config: Any, data: Dataset, tmp_path: Path):
    """XLA rounds them differently, so they are compared in float64."""
    config.precision = "f64"
    states = []
    for count in (1, 3):
        config.steps_per_dispatch = count
        make_run(flax_resnet, config, data, tmp_path / str(count)).train()
        states.append(final_state(flax_resnet, tmp_path / str(count)))
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, rtol=1e-9, atol=1e-12 * np.abs(array).max())


def dispatches(run: TrainingLoop) -> list[int]:
    """The steps of every dispatch that a run will make."""
    counts: list[int] = []
    trainer, train_steps = run._trainer, run._trainer.train_steps

    def counted(at_most: int) -> None:
        before = trainer.step
        train_steps(at_most)
        counts.append(trainer.step - before)

    trainer.train_steps = counted  # type: ignore[method-assign]
    return counts


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    engine: Any, config: Any, data: Dataset, tmp_path: Path
):
    """A kill leaves log lines that are newer than the checkpoint, and a line cut short."""
    make_run(engine, config, data, tmp_path / "whole").train()
    run = make_run(engine, config, data, tmp_path / "killed")
    interrupt_after(run, 5)
    with pytest.raises(Interrupted):
        run.train()
    metrics = tmp_path / "killed" / "metrics.jsonl"
    first = metrics.read_text()
    metrics.write_text(first + first.replace('"epoch": 1', '"epoch": 2') + '{"epoch": 2, "st')
    make_run(engine, config, data, tmp_path / "killed").train()
    assert without_times(read_metrics(tmp_path / "killed")) == without_times(read_metrics(tmp_path / "whole"))


def damage(path: Path) -> None:
    """Flip a bit in the middle of a checkpoint's largest file."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    file = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.write_bytes(content)


def test_a_run_goes_on_from_the_newest_whole_checkpoint(
    engine: Any, config: Any, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The latest damaged; all latest deleted; all damaged; all deleted. And no record is lost silently."""
    suffix = CHECKPOINT[engine.__name__].SUFFIX
    make_run(engine, config, data, tmp_path).train()
    whole, saved = final_state(engine, tmp_path), tmp_path / "checkpoints"
    records = without_times(read_metrics(tmp_path))
    assert sorted(path.name for path in (saved / "latest").iterdir()) == [f"4{suffix}", f"8{suffix}"]

    for path in saved.glob(f"*/8{suffix}"):
        damage(path)
    capsys.readouterr()
    make_run(engine, config, data, tmp_path).train()
    said = capsys.readouterr().out
    assert f"8{suffix}.damaged, and the run goes on from {saved}" in said
    assert "epoch 2 ended behind the checkpoint" in said
    again = final_state(engine, tmp_path)
    assert [key for key in whole if not np.array_equal(whole[key], again[key])] == []
    assert without_times(read_metrics(tmp_path)) == records

    for path in (saved / "latest").iterdir():
        files.remove(path)
    make_run(engine, config, data, tmp_path).train()
    assert without_times(read_metrics(tmp_path)) == records

    found = checkpoints.of_run(tmp_path, suffix)
    for path in found:
        damage(path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole: .*choose another --workdir"):
        make_run(engine, config, data, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert checkpoints.of_run(tmp_path, suffix) == found

    files.remove(saved)
    capsys.readouterr()
    make_run(engine, config, data, tmp_path)
    assert "has records of epochs, but no checkpoint: the run begins anew" in capsys.readouterr().out


def test_the_best_that_a_kill_kept_from_the_disk_is_saved_by_the_next_start(
    engine: Any, config: Any, data: Dataset, tmp_path: Path
):
    make_run(engine, config, data, tmp_path).train()
    suffix = CHECKPOINT[engine.__name__].SUFFIX
    files.remove(tmp_path / "checkpoints" / "best")
    make_run(engine, config, data, tmp_path)._trainer.wait_for_checkpoints()
    best = checkpoints.newest(tmp_path / "checkpoints" / "best", suffix)
    assert best is not None
    assert checkpoints.step_of(best) == 8


def test_what_is_not_finite_is_neither_saved_nor_used(
    engine: Any, config: Any, data: Dataset, tmp_path: Path
):
    run = make_run(engine, config, data, tmp_path)
    run._trainer.save("latest")
    run._trainer.wait_for_checkpoints()
    spoil(run._trainer)
    run._trainer.step = 1  # type: ignore[misc]
    suffix = CHECKPOINT[engine.__name__].SUFFIX
    kept = tmp_path / "checkpoints" / "latest" / f"0{suffix}"
    with pytest.raises(
        UserError, match=rf"(params|model)\..* holds NaN or infinity at step 1: .*finite state is {kept}"
    ):
        run._save("latest")
    assert checkpoints.of_run(tmp_path, suffix) == [kept]

    form = CHECKPOINT[engine.__name__]
    record, _ = form.read(kept)
    form.write(kept.with_name(f"1{suffix}"), record, run._trainer.get_state())
    for use in (
        lambda: engine.load(str(tmp_path), describe_inference(config)),
        lambda: make_run(engine, config, data, tmp_path),
    ):
        with pytest.raises(UserError, match=rf"1{suffix} holds NaN or infinity in .*: its run diverged"):
            use()


def test_a_hangup_or_a_reader_that_is_gone_saves_first(
    config: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    try:
        run = make_run(torch_ref, config, data, tmp_path / "hangup")
        interrupt_after(run, 3, signal.SIGHUP)
        with pytest.raises(Interrupted):
            run.train()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert final_state(torch_ref, tmp_path / "hangup")["progress"][0] == 3

    def gone(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("recipe.training.log.tqdm.write", gone)
    monkeypatch.setattr("recipe.training.log.silence", lambda stream: None)
    run = make_run(torch_ref, config, data, tmp_path / "pipe")
    with pytest.raises(Interrupted):
        run.train()
    assert final_state(torch_ref, tmp_path / "pipe")["progress"][0] == 1
    assert "Interrupted at step 1 of 8" in (tmp_path / "pipe" / "log.txt").read_text()


def test_a_finished_run_only_evaluates(engine: Any, config: Any, data: Dataset, tmp_path: Path):
    run = make_run(engine, config, data, tmp_path)
    first = run.train()
    assert run._trainer.sums() == (0, 0, 0)  # every epoch counts for itself
    before = final_state(engine, tmp_path)
    second = make_run(engine, config, data, tmp_path).train()
    assert (first.loss, first.correct) == (second.loss, second.correct)
    after = final_state(engine, tmp_path)
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert len(read_metrics(tmp_path)) == 2


def test_training_learns_and_leaves_all_outputs(engine: Any, config: Any, data: Dataset, tmp_path: Path):
    config.epochs = 5
    config.log.tensorboard = True
    evaluation = make_run(engine, config, data, tmp_path).train()
    assert evaluation.accuracy >= 0.9  # three mean colours
    for name in ("metrics.jsonl", "curves.png", "confusion.png", "mistakes.png", "log.txt"):
        assert (tmp_path / name).stat().st_size > 0
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    records = read_metrics(tmp_path)
    assert records[-1]["test_acc"] == evaluation.accuracy
    best = checkpoints.newest(tmp_path / "checkpoints" / "best", "")
    assert best is not None
    assert checkpoints.step_of(best) == max(records, key=lambda r: (r["test_acc"], -r["epoch"]))["step"]
    assert checkpoints.find(str(tmp_path), "") == best


def test_a_loaded_checkpoint_gives_the_trained_networks_logits(
    engine: Any, config: Any, data: Dataset, tmp_path: Path
):
    trainer = make_trainer(engine, config, data, tmp_path)
    trainer.start_epoch(make_plan(0, 0, examples=72, batch_size=16, image_size=32, pad=4, flip=True))
    trainer.train_steps(at_most=1)
    trainer.save("latest")
    logits = trainer.logits(data.test_images)
    trainer.train_steps(at_most=1)  # a checkpoint being written must not see later steps
    trainer.wait_for_checkpoints()
    description, predictor = engine.load(str(tmp_path), describe_inference(config))
    assert description == describe(config, data)
    np.testing.assert_array_equal(predictor.logits(data.test_images), logits)
    if engine is flax_resnet:
        config.cpu_kernels = "xla"
        assert "config.cpu_kernels=xla" in engine.load(str(tmp_path), describe_inference(config))[1].runtime


def test_every_example_is_evaluated_exactly_once(engine: Any, config: Any, data: Dataset, tmp_path: Path):
    """20 test images in batches of 8: the padding of the last batch counts nowhere."""
    trainer = make_trainer(engine, config, data, tmp_path)
    logits = trainer.logits(data.test_images)
    assert logits.shape == (20, 3)
    alone = np.concatenate([trainer.logits(data.test_images[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(logits, alone, rtol=1e-4, atol=1e-5)
    assert evaluate(logits, data.test_labels).count == 20


def test_one_compilation_per_step_function(config: Any, data: Dataset, tmp_path: Path):
    run = make_run(flax_resnet, config, data, tmp_path)
    run.train()
    trainer: Any = run._trainer
    assert trainer.planned_steps._cache_size() == 1
    assert trainer.eval_step._cache_size() == 1
    again: Any = make_run(flax_resnet, config, data, tmp_path)._trainer
    again.start_epoch(make_plan(0, 2, examples=72, batch_size=16, image_size=32, pad=4, flip=True))
    for _ in range(3):  # a restored state has the same types as a fresh or a stepped one
        again.train_steps(at_most=1)
    assert again.planned_steps._cache_size() == 1


def test_a_short_last_dispatch_compiles_no_second_program(config: Any, data: Dataset, tmp_path: Path):
    config.steps_per_dispatch = 3  # an epoch has 4 steps
    run = make_run(flax_resnet, config, data, tmp_path)
    run.train()
    trainer: Any = run._trainer
    assert trainer.planned_steps._cache_size() == 1


@pytest.mark.parametrize("callers", [True, False])
@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_the_callers_own_dtypes_stay(
    config: Any, data: Dataset, tmp_path: Path, precision: str, callers: bool
):
    """A run and a loaded network have their own precision, whatever the caller's float64 switch says."""
    config.precision = precision
    with jax.enable_x64(callers):
        trainer = make_trainer(flax_resnet, config, data, tmp_path)
        trainer.start_epoch(make_plan(0, 0, examples=72, batch_size=16, image_size=32, pad=4, flip=True))
        trainer.train_steps(at_most=1)
        trainer.save("latest")
        trainer.wait_for_checkpoints()
        _, predictor = flax_resnet.load(str(tmp_path), describe_inference(config))
        expected = {"f32": np.float32, "f64": np.float64}[precision]
        assert trainer.logits(data.test_images).dtype == expected
        assert predictor.logits(data.test_images).dtype == expected
        assert {leaf.dtype for leaf in jax.tree.leaves(trainer.state.params)} == {np.dtype(expected)}
        assert jax.config.jax_enable_x64 == callers


def test_the_train_state_is_donated(config: Any, data: Dataset, tmp_path: Path):
    trainer: Any = make_trainer(flax_resnet, config, data, tmp_path)
    trainer.start_epoch(make_plan(0, 0, examples=72, batch_size=16, image_size=32, pad=4, flip=True))
    before = trainer.state
    trainer.train_steps(at_most=1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((before.params, before.batch_stats)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer.nesterov": True, "label_smoothing": 0.1, "augment.cutout": 8},
        {"resize.sizes": (20, 40), "resize.starts": (0.0, 0.5)},
    ],
)
def test_both_engines_walk_the_same_path_in_float64(
    config: Any, data: Dataset, tmp_path: Path, changes: dict[str, Any]
):
    """Two epochs with augmentation and lr drops inside, free-running."""
    config.precision = "f64"
    config.update_from_flattened_dict(changes)
    ours = make_run(flax_resnet, config, data, tmp_path / "jax")
    theirs = make_run(torch_ref, config, data, tmp_path / "torch")
    a, b = ours.train(), theirs.train()
    assert a.correct == b.correct
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-9)
    state: Any = ours._trainer
    saved = theirs._trainer.model.state_dict()  # type: ignore[attr-defined]
    for tree in (state.state.params, state.state.batch_stats):
        for path, leaf in flatten_dict(tree).items():
            reference = saved[torch_key(path)].numpy(force=True)
            error = np.abs(to_torch_layout(np.asarray(leaf)) - reference).max() / np.abs(reference).max()
            assert error < 1e-9, (path, error)
    for our, their in zip(read_metrics(tmp_path / "jax"), read_metrics(tmp_path / "torch"), strict=True):
        assert our["train_acc"] == their["train_acc"]
        np.testing.assert_allclose(our["train_loss"], their["train_loss"], rtol=1e-10)


def test_a_run_of_hours_says_so_after_20_steps(
    engine: Any, config: Any, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for epochs, warned in ((10, False), (10**6, True)):
        config.epochs = epochs
        run = make_run(engine, config, data, tmp_path / str(epochs))
        interrupt_after(run, 21)
        with pytest.raises(Interrupted):
            run.train()
        # the epoch's other lines come between, so the warning is looked for anywhere
        output = capsys.readouterr().out
        assert ("This CPU will need about" in output) == (warned and run._trainer.on_cpu)
        assert ("r18.py:digits" in output) == (warned and run._trainer.on_cpu)


def test_a_diverged_run_says_so_and_keeps_its_checkpoint(
    engine: Any, config: Any, data: Dataset, tmp_path: Path
):
    """Also where it is the last update of an epoch that does it, which no training loss sees."""
    for step, part in ((5, "training"), (8, "test")):
        workdir = tmp_path / part
        run = make_run(engine, config, data, workdir)
        diverge_at(run, step)
        with pytest.raises(
            UserError, match=rf"the {part} loss is not finite in epoch 2.*lower config\.optim"
        ):
            run.train()
        run._trainer.wait_for_checkpoints()
        assert final_state(engine, workdir)["progress"][0] == 4  # of the good first epoch
        assert [record["epoch"] for record in read_metrics(workdir)] == [1]


def test_a_run_that_diverges_says_so_within_its_first_steps(
    engine: Any, config: Any, data: Dataset, tmp_path: Path
):
    """And not at the end of its epoch, which may be an hour away."""
    config.batch_size = 2  # 36 steps an epoch
    config.optimizer.lr, config.optimizer.weight_decay = 1000.0, 1000.0
    run = make_run(engine, config, data, tmp_path)
    with pytest.raises(
        UserError, match=r"^the training loss is not finite in epoch 1: .*config\.optimizer\.lr"
    ):
        run.train()
    assert run._trainer.step < 20
    assert not (tmp_path / "checkpoints").exists()


def test_a_batch_larger_than_the_data_is_refused(config: Any, data: Dataset):
    config.batch_size = 72
    describe_run(config, data, Path())
    config.batch_size = 73
    with pytest.raises(UserError, match=r"larger than the data.*72 training images"):
        describe_run(config, data, Path())


@pytest.fixture
def saved(engine: Any, config: Any, data: Dataset, tmp_path: Path) -> Path:
    """A checkpoint before the first step."""
    trainer = make_trainer(engine, config, data, tmp_path)
    trainer.save("latest")
    trainer.wait_for_checkpoints()
    return checkpoints.find(str(tmp_path), CHECKPOINT[engine.__name__].SUFFIX)


def test_damaged_checkpoints_are_refused_in_one_line(
    engine: Any, saved: Path, capfd: pytest.CaptureFixture[str]
):
    """Whichever file is cut in half: an error, or (orbax keeps files it does not need) the whole content."""
    read = CHECKPOINT[engine.__name__].read
    record, whole = read(saved)
    messages: list[str] = []
    for file in [saved] if saved.is_file() else [p for p in saved.rglob("*") if p.is_file()]:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        try:
            again_record, again = read(saved)
        except UserError as error:
            messages.append(str(error))
        else:
            assert again_record == record
            assert all(
                np.array_equal(a, b)
                for a, b in zip(flatten_dict(whole).values(), flatten_dict(again).values(), strict=True)
            )
        file.write_bytes(content)
    assert len(messages) >= (1 if saved.is_file() else 3)  # JAX: metadata, arrays, record
    assert all(str(saved) in message and len(message.splitlines()) == 1 for message in messages)
    assert "Traceback" not in capfd.readouterr().err


def test_what_is_no_checkpoint_is_refused(engine: Any, config: Any, tmp_path: Path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    (tmp_path / "empty").mkdir()
    for name in ("text.pt", "other.pt", "empty", "absent"):
        with pytest.raises(UserError, match=str(tmp_path / name)):
            engine.load(str(tmp_path / name), describe_inference(config))


def test_a_pickle_that_wants_to_run_code_does_not(config: Any, tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'was_here'}",)

    torch.save({"record": "{}", "model": Evil(), "step": 0}, tmp_path / "evil.pt")
    with pytest.raises(UserError):
        torch_ref.load(str(tmp_path / "evil.pt"), describe_inference(config))
    assert not (tmp_path / "was_here").exists()


def test_a_workdir_belongs_to_the_pictures_of_its_folder(config: Any, data: Dataset, tmp_path: Path):
    config.data.name, config.data.dir = "folder", "here"
    pictures = dataclasses.replace(data, name="folder")
    workdir.check_or_create(describe_run(config, pictures, tmp_path))
    config.data.dir = "there"  # moved
    workdir.check_or_create(
        describe_run(config, dataclasses.replace(pictures, title="the pictures in there"), tmp_path)
    )
    names = (*data.class_names[1:], "zebra")
    for other in ({"class_names": names}, {"train_images": data.train_images[:-1]}):
        with pytest.raises(
            UserError, match="belongs to a run with other pictures than there are now in there"
        ):
            workdir.check_or_create(describe_run(config, dataclasses.replace(pictures, **other), tmp_path))


def test_a_workdir_belongs_to_one_config(config: Any, data: Dataset, tmp_path: Path):
    workdir.check_or_create(describe_run(config, data, tmp_path))
    config.engine, config.data.dir, config.log.seconds = "torch", "elsewhere", 5.0
    workdir.check_or_create(describe_run(config, data, tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["engine"] == "jax"  # until the run has begun
    workdir.write_config(describe_run(config, data, tmp_path))
    config.optimizer.lr = 0.3
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=r"optimizer\.lr \(0\.02 there, 0\.3 here\)"):
        workdir.check_or_create(describe_run(config, data, tmp_path))
    assert (tmp_path / "config.json").read_text() == before
    assert json.loads(before)["engine"] == "torch"


def test_a_workdir_that_is_moved_away_is_not_made_anew(
    engine: Any, config: Any, data: Dataset, tmp_path: Path
):
    run = make_run(engine, config, data, tmp_path / "run")
    trainer, evaluated = run._trainer, run._trainer.logits

    def moved(images: np.ndarray) -> np.ndarray:
        (tmp_path / "run").rename(tmp_path / "moved")
        return evaluated(images)

    trainer.logits = moved  # type: ignore[method-assign]
    with pytest.raises(UserError, match="is gone: its disk was unmounted, or it was moved or deleted"):
        run.train()
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    trainer._writer.save("latest", 1, trainer.get_state(), {})
    with pytest.raises(UserError, match=r"can't save .*: No such file or directory"):
        trainer.wait_for_checkpoints()
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
