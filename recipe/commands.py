"""The four modes of main.py, for whichever engine it has picked."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from recipe.architectures import ModelDescription
from recipe.data import Dataset, images
from recipe.output import layer_table, plots, tables
from recipe.system import files
from recipe.system.errors import UserError, choice
from recipe.training import metrics, workdir
from recipe.training.description import Inference, RunDescription
from recipe.training.engine import Engine
from recipe.training.loop import Interrupted, TrainingLoop, write_pictures

OUTPUTS = ("table", "json", "csv")
TOP = 5
GRID_PIXELS = 160  # longest side of a picture in the grid


def train(engine: Engine, run: RunDescription, data: Dataset, notice: str) -> int:
    """Train, or go on training, in the run's workdir. A notice, if any, opens and closes the output."""
    trainer = engine.Trainer(run, data)
    workdir.check_or_create(run)  # behind the trainer: a run that it refuses must not be left there
    loop = TrainingLoop(run, data, trainer, log_start_up=True)
    loop.restore()
    workdir.write_config(run)  # who computes, and where the data lies, may have changed
    table = layer_table.render(engine.layer_rows(run.model), input_shape(run.model))
    files.write_text(run.workdir / "layers.txt", table + "\n")
    if notice:
        loop.say(notice)
    try:
        evaluation = loop.train()
    except Interrupted:
        return 130
    if notice:
        loop.say(notice)
    loop.say(f"Test loss: {evaluation.loss:.3f} | Test acc: {evaluation.accuracy:.3f} ({data.title})")
    return 0


def evaluate(
    engine: Engine,
    inference: Inference,
    data: Dataset,
    checkpoint: str,
    folder: Path,
    *,
    held_out: int,
    notice: str,
) -> int:
    """Evaluate a checkpoint on the test set: per-class table, pictures, and the closing line.

    Args:
      engine: who computes.
      inference: how.
      data: the dataset.
      checkpoint: a checkpoint or a workdir.
      folder: for the pictures.
      held_out: how many training images stand in the place of the test images.
      notice: opens and closes the output, if it is not "".
    """
    description, predictor = engine.load(checkpoint, inference)
    if description.class_names != data.class_names:
        hint = f"; add --config.data.name={description.dataset}" if description.dataset != data.name else ""
        raise UserError(
            f"{checkpoint} was trained on the {description.num_classes} classes of {description.dataset}, "
            f"which are not those of {data.title}{hint}"
        )
    if held_out and held_out != predictor.held_out:
        raise UserError(
            f"{checkpoint} was trained with config.data.holdout={predictor.held_out}, so that most of the "
            f"{held_out} images were trained on; evaluate with the same, or without"
        )
    print(notice, end="\n" if notice else "")
    print(f"{description.arch} from {checkpoint}; {predictor.runtime}")
    evaluation = metrics.evaluate(predictor.logits(data.test_images), data.test_labels)
    print(tables.per_class(data.test_labels, evaluation.predictions, data.class_names))
    with pictures_in(folder):
        write_pictures(evaluation, data, folder, title=f"{description.arch} on {data.title}")
    print(f"Pictures: {folder / 'confusion.png'}, {folder / 'mistakes.png'}")
    print(notice, end="\n" if notice else "")
    print(
        f"Test loss: {evaluation.loss:.4f} | Test acc: {evaluation.accuracy:.4f} "
        f"({evaluation.count - evaluation.correct} of {evaluation.count} wrong) ({data.title})"
    )
    return 0


def predict(
    engine: Engine, inference: Inference, checkpoint: str, paths: Sequence[str], output: str, folder: Path
) -> int:
    """Print the most likely classes of image files, and draw them as a captioned grid."""
    choice("output", output, OUTPUTS)
    if not paths:
        raise UserError("predict needs images: --images FILE_OR_FOLDER…")
    found = images.find(paths)
    description, predictor = engine.load(checkpoint, inference)
    batch = np.stack([images.load(path, description.image_size) for path in found])
    probabilities = np.exp(metrics.log_softmax(predictor.logits(batch)))
    tops = tables.top_k(probabilities, description.class_names, k=TOP)
    print(tables.predictions([str(path) for path in found], tops, output))
    grid = folder / "predictions.png"
    shown = found[: plots.MOST_PREDICTIONS]
    with pictures_in(folder):
        plots.predictions(
            [images.load_original(path, GRID_PIXELS) for path in shown],
            [f"{path.name}\n{top[0][0]} {top[0][1]:.0%}" for path, top in zip(shown, tops, strict=False)],
            grid,
            title=f"{description.arch} trained on {description.dataset}",
            more=len(found) - len(shown),
        )
    print(f"Picture: {grid}", file=sys.stderr)
    return 0


def summary(engine: Engine, model: ModelDescription) -> int:
    """Print the layer table of a network."""
    print(layer_table.render(engine.layer_rows(model), input_shape(model)))
    return 0


@contextlib.contextmanager
def pictures_in(folder: Path) -> Iterator[None]:
    """Make a picture that can't be written into a folder a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"can't write pictures to {folder}: {error.strerror}; choose another --workdir"
        ) from error


def input_shape(description: ModelDescription) -> tuple[int, int, int]:
    """(channels, height, width) of the network's input."""
    return 3, description.image_size, description.image_size
