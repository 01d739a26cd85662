"""The command line: what each mode prints, and one clear line for wrong input."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SMALL = (
    "--config=configs/r18.py:digits",
    "--config.model.arch=resnet20",
    "--config.model.width=4",
    "--config.batch_size=128",
    "--config.epochs=1",
    "--config.log.tensorboard=false",
)


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=ROOT, capture_output=True, text=True, env=env
    )


@pytest.fixture(scope="module", params=["jax", "torch"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """A finished run of each engine: (engine flag, workdir, output)."""
    workdir = tmp_path_factory.mktemp(request.param)
    engine = f"--config.engine={request.param}"
    done = command(*SMALL, engine, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return engine, workdir, done.stdout


def test_train_ends_with_the_loss_and_the_accuracy(run: tuple[str, Path, str]):
    _, workdir, output = run
    last = output.splitlines()[-1]
    found = re.fullmatch(r"Test loss: (\d+\.\d{3}) \| Test acc: (\d\.\d{3}) \(scikit-learn digits\)", last)
    assert found
    record = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert found.groups() == (f"{record['test_loss']:.3f}", f"{record['test_acc']:.3f}")
    assert record["dataset"] == "digits"


def test_eval_counts_the_mistakes(run: tuple[str, Path, str], tmp_path: Path):
    engine, workdir, _ = run
    done = command(*SMALL, engine, "--mode=eval", f"--checkpoint={workdir}", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(
        r"Test loss: \d+\.\d{4} \| Test acc: (\d\.\d{4}) \((\d+) of 360 wrong\) \(scikit-learn digits\)", last
    )
    assert found
    record = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert float(found[1]) == round(record["test_acc"], 4) == round(1 - int(found[2]) / 360, 4)
    assert (tmp_path / "eval" / "confusion.png").exists()
    assert "most confused with" in done.stdout


def test_predict_takes_images_of_any_kind(run: tuple[str, Path, str], tmp_path: Path):
    engine, workdir, _ = run
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 70, 3), dtype=np.uint8)).save(folder / "wide, photo.jpg")
    Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / "grey.png")
    single = tmp_path / "single.gif"
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(single)
    arguments = (*SMALL, engine, "--mode=predict", f"--checkpoint={workdir}", f"--workdir={tmp_path}")
    done = command(*arguments, "--output=json", "--images", str(folder), str(single))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [Path(entry["image"]).name for entry in result] == ["grey.png", "wide, photo.jpg", "single.gif"]
    for entry in result:
        probabilities = [top["probability"] for top in entry["top"]]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1
    assert (tmp_path / "predict" / "predictions.png").exists()
    as_csv = command(*arguments, "--output=csv", "--images", str(folder), str(single))
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert [float(row["probability"]) for row in rows] == [t["probability"] for e in result for t in e["top"]]
    partly = command(*arguments, "--output=csv", "--images", "main.py", str(single))
    assert partly.returncode == 1
    assert [row["image"] for row in csv.DictReader(io.StringIO(partly.stdout))] == [
        "main.py",
        *[str(single)] * 5,
    ]
    assert "error: can't read the image main.py" in partly.stderr
    table = command(*arguments[:-1], "--images", str(single))  # no --workdir: to the checkpoint's run
    assert (workdir / "predict" / "predictions.png").exists()
    assert f"{result[2]['top'][0]['class']} {result[2]['top'][0]['probability']:.1%}" in table.stdout


@pytest.mark.parametrize("engine", ["jax", "torch"])
def test_summary_is_the_published_table(engine: str):
    done = command("--mode=summary", f"--config.engine={engine}")
    assert done.returncode == 0, done.stderr
    assert "Conv2d-1" in done.stdout
    assert "Linear-58" in done.stdout
    for line in (
        "Total params: 11,173,962",
        "Forward/backward pass size (MB): 13.63",
        "Params size (MB): 42.63",
        "Estimated Total Size (MB): 56.26",
    ):
        assert line in done.stdout


DIGITS = "--config=configs/r18.py:digits"
WRONG = {
    "field": (("--config.optimizer.lrr=1",), "'optimizer.lrr'; did you mean 'optimizer.lr'?"),
    "below a value": (("--config.schedule.drops.x=1",), "unknown config field 'schedule.drops.x'"),
    "above a missing one": (("--config.schedul.drops=(0.5,)",), "did you mean 'schedule.drops'?"),
    "no name": (("--config.a b.c=1",), "unknown config field 'a b.c'"),
    "no UTF-8": ((b"--config.\xff.a=1",), "unknown config field '\\udcff.a'"),
    "field and flag": (("--config.schedule.drops.x=1", "--confg=x"), "confg"),
    "top field": (("--config.epoch=1",), "did you mean 'epochs'?"),
    "variant": (("--config=configs/r18.py:digit",), "did you mean 'digits'?"),
    "config file": (("--config=configs/r19.py",), "r19.py"),
    "mode": (("--mode=trian",), "did you mean 'train'?"),
    "engine": (("--config.engine=tensorflow",), "unknown config.engine 'tensorflow'"),
    "type": (("--config.epochs=many",), "config.epochs=many"),
    "range": (("--config.label_smoothing=2",), "config.label_smoothing must be between 0 and 1"),
    "sizes": (("--config.resize.sizes=(20,24)",), "as many as there are starts"),
    "size": (("--config.resize.sizes=(4,)", "--config.resize.starts=(0,)"), "from 8 to 256"),
    "starts": (("--config.resize.sizes=(20,)", "--config.resize.starts=(0.5,)"), "must rise from 0"),
    "drops": (("--config.schedule.drops=(0.7,0.5)",), "config.schedule.drops must rise"),
    "arch": ((DIGITS, "--config.model.arch=resnet19"), "unknown config.model.arch 'resnet19'"),
    "dataset": (("--config.data.name=cifar11",), "did you mean 'cifar10'?"),
    "argument": (("train",), "unexpected argument 'train'"),
    "process": (("--processes=2",), "several processes need all three"),
    "processes": (
        ("--mode=summary", "--coordinator=h:1", "--processes=2", "--process_id=0"),
        "--mode=summary takes one process",
    ),
    "flag": (("--confg=x",), "confg"),
    "argument like a flag": (("--mode=predict", "--checkpoint=/nowhere", "config"), "no such file or folder"),
    "batch": ((DIGITS, "--config.batch_size=1438"), "larger than the data"),
    "user": ((DIGITS, "--checkpoint=~nosuchuser/x", "--mode=eval"), "there is no such user"),
    "drop": (("--config.schedule.drops=('a',)",), "config.schedule.drops must rise"),
    "width": ((DIGITS, "--config.model.width=100000000"), "config.model.width must be between"),
    "holdout": ((DIGITS, "--config.data.holdout=1437"), "leaves nothing to train on"),
    "no holdout": (("--config.data.download=false", "--config.data.holdout=5000"), "This is NOT cifar10"),
    "no data": (("--config.data.fallback=none", "--config.data.download=false"), "CIFAR-10"),
    "gs workdir": ((DIGITS, "--workdir=gs://b/run"), "gs://b/run: gs:// is not supported"),
    "s3 checkpoint": (("--mode=eval", DIGITS, "--checkpoint", "s3://b/run"), "s3:// is not supported"),
    "image on the web": (("--mode=predict", "--images=a.png", "https://x.org/b.png"), "download it first"),
    "data in a bucket": (("--config.data.dir=gs://b/data",), "gs://b/data: gs:// is not supported"),
    "config in a bucket": (("--config=gs://b/r18.py:digits",), "gs://b/r18.py:digits: gs:// is not"),
    "data folder": (("--config.data.dir=/nowhere",), "/nowhere"),
    "checkpoint": (("--mode=eval", DIGITS, "--checkpoint=/nowhere"), "no checkpoint at /nowhere"),
    "no images": (("--mode=predict", "--checkpoint=/nowhere"), "predict needs images"),
    "output": (("--mode=predict", "--images=main.py", "--output=xml"), "unknown output 'xml'"),
    "address": (("--mode=predict", "--images=https://example.com/a.jpg"), "https://example.com/a.jpg"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_clear_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments, message = WRONG[case]
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    done = command(*arguments, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    if case not in ("no data", "no holdout"):  # which name the three ways to get it
        assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_a_workdir_of_another_config_is_refused(run: tuple[str, Path, str]):
    engine, workdir, _ = run
    before = sorted(workdir.rglob("*"))
    done = command(*SMALL, engine, f"--workdir={workdir}", "--config.model.arch=resnet32")
    assert done.returncode == 2
    assert "model.arch (resnet20 there, resnet32 here)" in done.stderr
    assert sorted(workdir.rglob("*")) == before


def test_held_out_images_that_were_trained_on_are_not_evaluated(run: tuple[str, Path, str]):
    engine, workdir, _ = run
    done = command(*SMALL, engine, "--mode=eval", f"--checkpoint={workdir}", "--config.data.holdout=5")
    assert done.returncode == 2
    assert "was trained with config.data.holdout=0" in done.stderr
    assert done.stdout == ""


def test_without_cifar10_the_digits_are_used_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    done = command(*SMALL[1:], "--config.data.download=false", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("This is NOT") == 2
    assert done.stdout.splitlines()[-1].endswith("(scikit-learn digits)")
    assert json.loads((tmp_path / "config.json").read_text())["data"]["name"] == "digits"
    # what was set on the command line stays
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 128


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path):
    arguments = [sys.executable, "main.py", *SMALL, "--config.epochs=300", f"--workdir={tmp_path}"]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    next(line for line in lines if line.startswith("Epoch 1/300:"))
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output = "".join(lines)
    assert process.wait() == 130
    found = re.search(r"Interrupted at step (\d+) of 3300\..*the same command goes on", output)
    assert found
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(f"going on at step {found[1]}" in line for line in iter(process.stdout.readline, ""))
    process.terminate()
    process.stdout.close()
    process.wait()
