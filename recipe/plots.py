"""The pictures of a run. matplotlib is imported when one is drawn, since that takes a second."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recipe.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Path = str | os.PathLike[str]
TRAIN, TEST, GREY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito: told apart by colour-blind eyes
MOST_PREDICTIONS = 64
MOST_NUMBERED_CLASSES = 20


def curves(
    records: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    title: str,
    lr_drops: Sequence[tuple[float, str]] = (),
) -> None:
    """Draw loss and accuracy against epochs, for train and test.

    Args:
      records: a mapping per epoch with "epoch" (from 1), "train_loss", "test_loss", "train_acc" and
        "test_acc"; a value that is None, NaN or infinite leaves a gap.
      path: the PNG to write.
      title: goes above the picture.
      lr_drops: (position in epochs, label) of each sudden change of the learning rate.
    """
    figure = _figure(10, 4.2)
    epochs = [record["epoch"] for record in records]
    marker = "o" if len(epochs) <= 20 else ""
    for axes, key, label in zip(
        figure.subplots(1, 2), ("loss", "acc"), ("loss (nats)", "accuracy"), strict=True
    ):
        for part, colour in (("train", TRAIN), ("test", TEST)):
            values = [_number(record[f"{part}_{key}"]) for record in records]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linewidth=1.6, label=part)
        last = _number(records[-1][f"test_{key}"])
        axes.set(xlabel="epoch", ylabel=label, xlim=(min(0.5, epochs[0]), epochs[-1] + 0.5))
        axes.set_title(
            f"{label.split()[0]}: {last:.3f} on the test set after epoch {epochs[-1]}", fontsize=10
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        for position, name in lr_drops:
            if position < epochs[-1]:
                axes.axvline(position, color=GREY, linewidth=0.9, linestyle="--")
                axes.annotate(
                    name, (position, 1), xycoords=("data", "axes fraction"), xytext=(3, -4), fontsize=8,
                    textcoords="offset points", rotation=90, va="top", color=GREY,
                )  # fmt: skip
        axes.legend(frameon=False)
    _save(figure, path, title)


def confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path, *, title: str) -> None:
    """Draw a confusion matrix (C, C): a row per true class, coloured by the row's shares."""
    classes = len(class_names)
    numbered = classes <= MOST_NUMBERED_CLASSES
    side = 7.5 if numbered else 13
    figure = _figure(side, side * 0.93)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if numbered else 6
    axes.set_xticks(range(classes), class_names, rotation=45 if numbered else 90, fontsize=size)
    if numbered:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), class_names, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    if numbered:
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black" if count else "#BBBBBB"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.75, label="share of the true class")
    wrong = int(matrix.sum() - matrix.trace())
    _save(figure, path, f"{title}: {wrong} of {int(matrix.sum())} wrong")


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    path: Path,
    *,
    title: str,
    count: int = 32,
) -> None:
    """Draw the most confident errors as a grid, each captioned "true → predicted" with its probability.

    Args:
      images: uint8 (N, H, W, 3).
      labels: int (N,).
      probabilities: float (N, C).
      class_names: of the C classes.
      path: the PNG to write.
      title: goes above the picture.
      count: how many to show.
    """
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    captions = [f"{class_names[labels[i]]} →\n{class_names[predicted[i]]} {confidence[i]:.0%}" for i in worst]
    note = f"the {len(worst)} most confident of {len(wrong)} mistakes" if len(wrong) else "no mistake at all"
    _grid([images[i] for i in worst], captions, path, f"{title}: {note}")


def predictions(images: Sequence[np.ndarray], captions: Sequence[str], path: Path, *, title: str) -> None:
    """Draw uint8 images (H, W, 3) of any sizes as a captioned grid, at most `MOST_PREDICTIONS`."""
    more = len(images) - MOST_PREDICTIONS
    note = f" (the first {MOST_PREDICTIONS}; {more} more are not shown)" if more > 0 else ""
    _grid(images[:MOST_PREDICTIONS], captions[:MOST_PREDICTIONS], path, title + note)


def _grid(images: Sequence[np.ndarray], captions: Sequence[str], path: Path, title: str) -> None:
    columns = min(8, max(4, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    figure = _figure(1.45 * columns, 1.85 * rows + 0.5)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set_title("\n".join(_shorten(line) for line in caption.splitlines()), fontsize=8)
    _save(figure, path, title)


def _shorten(text: str, longest: int = 22) -> str:
    return text if len(text) <= longest else f"{text[: longest - 8]}…{text[-7:]}"


def _number(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
