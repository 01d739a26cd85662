"""The four modes of main.py, for whichever engine it has picked."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from recipe.architectures import OUTPUTS, ModelDescription
from recipe.data import Dataset, images, picture_files
from recipe.output import layer_table, plots, tables
from recipe.processes.world import ALONE, World
from recipe.system.errors import UserError, choice
from recipe.system.terminal import printable
from recipe.training import metrics, room, same, workdir
from recipe.training.description import Inference, RunDescription
from recipe.training.engine import Engine
from recipe.training.loop import Interrupted, TrainingLoop, write_pictures

TOP = 5
GRID_PIXELS = 160  # longest side of a picture in the grid


def train(
    engine: Engine,
    run: RunDescription,
    data: Dataset,
    notice: str,
    remark: str = "",
    world: World = ALONE,
) -> int:
    """Train, or go on training, in the run's workdir.

    Args:
      engine: who computes.
      run: what to train.
      data: the dataset.
      notice: opens and closes the output, if it is not "".
      remark: a line for the log, about what was decided before; "" for none.
      world: the processes of the run.
    """
    same.check(world, run, data)
    rows = engine.layer_rows(run.model)
    room.check(run, rows)
    trainer = engine.Trainer(run, data, world)
    with contextlib.ExitStack() as stack:
        if world.is_main:
            # behind the trainer: a run that it refuses must not be left there
            stack.enter_context(workdir.locked(run.workdir))
            workdir.check_or_create(run)
        loop = TrainingLoop(run, data, trainer, world, log_start_up=True)
        loop.restore()
        if world.is_main:
            workdir.write_config(run)  # who computes, and where the data lies, may have changed
            table = layer_table.render(rows, input_shape(run.model))
            workdir.write_layers(run, table)
        if notice:
            loop.say(notice)
        if remark:
            loop.say(remark)
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
    check_classes(description, checkpoint)
    if description.class_names != data.class_names:
        hint = f"; add --config.data.name={description.dataset}" if description.dataset != data.name else ""
        raise UserError(
            f"{checkpoint} was trained on the {description.num_classes} classes of {description.dataset}"
            f"{guess('class_names', description)}, which are not those of {data.title}{hint}"
        )
    if held_out and held_out != predictor.held_out:
        raise UserError(
            f"{checkpoint} was trained with config.data.holdout={predictor.held_out}, so that most of the "
            f"{held_out} images were trained on; evaluate with the same, or without"
        )
    print(notice, end="\n" if notice else "")
    print(f"{description.arch} from {checkpoint}; {predictor.runtime}")
    if description.guessed:
        print(f"Guessed: {description.guess_notice}")
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
    """Print the most likely classes of image files, and draw them as a captioned grid.

    Returns:
      0, or 1 if some of the images can't be read; each of them gets its reason as a row, and on stderr.

    Raises:
      UserError: if none can be read.
    """
    choice("output", output, tables.OUTPUTS)
    if not paths:
        raise UserError("predict needs images: --images FILE_OR_FOLDER…")
    found = picture_files.find(paths)
    if found.left_out:
        print(picture_files.notice(found.left_out), file=sys.stderr)
    description, predictor = engine.load(checkpoint, inference)
    check_classes(description, checkpoint)
    if description.guessed:
        print(f"Guessed: {description.guess_notice}", file=sys.stderr)
    read = _read(found.pictures, description.image_size)
    probabilities = np.exp(metrics.log_softmax(predictor.logits(np.stack(list(read.squares.values())))))
    tops = dict(zip(read.squares, tables.top_k(probabilities, description.class_names, k=TOP), strict=True))
    results = [read.errors[i].reason if i in read.errors else tops[i] for i in range(len(found.pictures))]
    print(tables.predictions([str(path) for path in found.pictures], results, output))
    for error in read.errors.values():
        print(f"error: {printable(str(error))}", file=sys.stderr)
    grid = folder / "predictions.png"
    with pictures_in(folder):
        plots.predictions(
            list(read.thumbnails.values()),
            [f"{found.pictures[i].name}\n{tops[i][0][0]} {tops[i][0][1]:.0%}" for i in read.thumbnails],
            grid,
            title=f"{description.arch} trained on {description.dataset}{guess('dataset', description)}",
            more=len(read.squares) - len(read.thumbnails),
        )
    print(f"Picture: {grid}", file=sys.stderr)
    return 1 if read.errors else 0


@dataclasses.dataclass(frozen=True)
class _Images:
    """Decoded images, each by its place in a list of paths."""

    squares: dict[int, np.ndarray]  # what the network gets, uint8 (size, size, 3)
    thumbnails: dict[int, np.ndarray]  # for the grid, of as many as it holds
    errors: dict[int, images.UnreadableImage]  # of those that can't be read


def _read(paths: Sequence[Path], size: int) -> _Images:
    """Read each image once, since a pipe can't be read twice; `size` is that of the network's input.

    Raises:
      UserError: if none can be read.
    """
    read = _Images({}, {}, {})
    for i, path in enumerate(paths):
        try:
            image = images.read(path)
        except images.UnreadableImage as error:
            read.errors[i] = error
            continue
        read.squares[i] = images.square(image, size)
        if len(read.thumbnails) < plots.MOST_PREDICTIONS:
            read.thumbnails[i] = images.thumbnail(image, GRID_PIXELS)
    if not read.squares:
        first, *others = read.errors.values()
        raise UserError(f"none of the {len(paths):,} images can be read: {first}") if others else first
    return read


def check_classes(description: ModelDescription, checkpoint: str) -> None:
    """Raise a `UserError` for a network whose outputs, or whose only one, are no choice between classes."""
    if reason := OUTPUTS[description.outputs]:
        raise UserError(
            f"{checkpoint} can't be used for predict or eval: {reason}, which is no choice between classes"
        )
    if description.num_classes < 2:
        raise UserError(
            f"{checkpoint} can't be used for predict or eval: it has {description.num_classes} output, "
            "which is no choice between classes (softmax would make it 100 % for every picture)"
        )


def guess(field: str, description: ModelDescription) -> str:
    """What follows a field that is a guess."""
    return " (a guess)" if field in description.guessed else ""


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
