"""The pictures of a run. matplotlib is imported when one is drawn, since that takes a second."""

from __future__ import annotations

import math
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from recipe.system.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, TEST, GREY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito: told apart by colour-blind eyes
# Losses that span more than this go on a log scale. After a short first epoch the running statistics
# lag, and its test loss can be a thousand times the last.
LOG_ABOVE = 20
MOST_EPOCHS_WITH_DOTS = 20
MOST_PREDICTIONS = 64
MOST_NUMBERED_CLASSES = 20
MOST_COLUMNS = 8
CELL_WIDTH, CELL_HEIGHT = 1.45, 1.85  # inches of a picture in a grid with its caption of two lines
CAPTION_LENGTH = 19  # characters that fit into a cell's width
TITLE_SIZE, TITLE_LENGTH = 11, 12  # points, and characters of that size that fit into an inch


def curves(
    records: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str,
    changes: Sequence[tuple[float, str]] = (),
) -> None:
    """Draw loss and accuracy against epochs, for train and test.

    Args:
      records: a mapping per epoch with "epoch" (from 1), "train_loss", "test_loss", "train_acc" and
        "test_acc"; a value that is None, NaN or infinite leaves a gap. Without any record
        nothing is drawn.
      path: the PNG to write.
      title: goes above the picture.
      changes: (position in epochs, label) of each sudden change in the recipe, of lr or of the image size.
    """
    if not records:
        return
    from matplotlib.ticker import LogLocator

    figure = _figure(10, 4.4)
    loss, accuracy = figure.subplots(1, 2)
    _curves(loss, records, "loss")
    _curves(accuracy, records, "acc")
    losses = [_number(record[key]) for record in records for key in ("train_loss", "test_loss")]
    positive = [value for value in losses if value > 0]
    if positive and max(positive) > LOG_ABOVE * min(positive):
        loss.set(ylabel="loss (nats, log scale)", yscale="log")
        loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # a decade has more to tell than its ends
        loss.yaxis.set_major_formatter("{x:g}")
    else:
        loss.set(ylabel="loss (nats)", ylim=(0, 1.05 * loss.get_ylim()[1]))
    accuracy.set(ylabel="accuracy")
    # a change at the very end of the last epoch has done nothing yet
    start, end = records[0]["epoch"] - 1, records[-1]["epoch"]
    for axes in (loss, accuracy):
        _mark(axes, [change for change in changes if start < change[0] < end])
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path, title)


def confusion(
    matrix: np.ndarray, class_names: Sequence[str], path: str | os.PathLike[str], *, title: str
) -> None:
    """Draw a confusion matrix (C, C): a row per true class, coloured by the row's shares."""
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import PercentFormatter

    numbered = len(class_names) <= MOST_NUMBERED_CLASSES
    side = 8.0 if numbered else 13.0
    figure = _figure(side, side * 0.9, "compressed")  # the title and the scale stay close to the square
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # A good network errs in a few per cent of a class, which would be as good as white on a linear scale.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    figure.colorbar(
        image,
        ax=axes,
        shrink=0.8,
        label="share of the true class",
        ticks=[0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1],
        format=PercentFormatter(1, decimals=0),
    )
    ticks = range(len(class_names))
    size = 9 if numbered else 6
    axes.set_xticks(ticks, class_names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, class_names, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    if numbered:
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black" if count else GREY
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    total = int(matrix.sum())
    wrong = total - int(matrix.trace())
    _save(figure, path, f"{title}: {wrong:,} of {total:,} images taken for another class")


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike[str],
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
      count: how many to show at most.
    """
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    if not len(wrong):
        figure = _figure(6, 2)
        figure.text(0.5, 0.4, f"no mistake in {len(labels):,} images", ha="center", va="center", fontsize=14)
        _save(figure, path, title)
        return
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    captions = [f"{class_names[labels[i]]} →\n{class_names[predicted[i]]} {confidence[i]:.0%}" for i in worst]
    note = f"{len(worst)} of {len(wrong):,} mistakes, the most confident first (true → predicted)"
    _grid([images[i] for i in worst], captions, path, f"{title}\n{note}")


def predictions(
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str,
    more: int = 0,
) -> None:
    """Draw uint8 images (H, W, 3) of any sizes as a captioned grid, and say how many more there are.

    `MOST_PREDICTIONS` is as many as make a picture that can be looked at.
    """
    note = f"\nthe first {len(images)} pictures; {more:,} more are not shown" if more else ""
    _grid(images, captions, path, title + note)


def _curves(axes: Axes, records: Sequence[Mapping[str, Any]], key: str) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [record["epoch"] for record in records]
    marker = "o" if len(epochs) <= MOST_EPOCHS_WITH_DOTS else ""
    for part, colour in (("train", TRAIN), ("test", TEST)):
        values = [_number(record[f"{part}_{key}"]) for record in records]
        axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linewidth=1.6, label=part)
    # epoch 1 lasts from 0 to 1, where its values stand
    axes.set(xlabel="epoch", xlim=(epochs[0] - 1, epochs[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    if math.isfinite(values[-1]):  # the test set's, in the margin, where no curve can cross it
        axes.annotate(
            f"test\n{values[-1]:.3f}",
            (epochs[-1] + 0.5, values[-1]),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=TEST,
        )


def _mark(axes: Axes, changes: Sequence[tuple[float, str]]) -> None:
    """Draw a vertical line at each change, labelled above the axes, clear of the curves."""
    labels: dict[float, list[str]] = {}
    for position, label in changes:
        labels.setdefault(position, []).append(label)
    for position, together in labels.items():
        axes.axvline(position, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
        axes.annotate(
            ", ".join(together),
            (position, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=GREY,
        )


def _grid(
    images: Sequence[np.ndarray], captions: Sequence[str], path: str | os.PathLike[str], title: str
) -> None:
    rows = math.ceil(len(images) / MOST_COLUMNS)
    columns = math.ceil(len(images) / rows)
    figure = _figure(CELL_WIDTH * max(4, columns), CELL_HEIGHT * rows + 0.6)  # four cells hold a title
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image)
        axes.set_anchor("N")  # the captions of a row stand on one line, whatever the pictures' heights
        axes.set_title("\n".join(map(_shorten, caption.splitlines())), fontsize=8, parse_math=False)
    _save(figure, path, title)


def _shorten(text: str) -> str:
    """Cut the middle out of a long text: the end of a file's name often tells more."""
    text = text.encode("utf-8", "replace").decode()  # a file's name may be in another encoding
    return text if len(text) <= CAPTION_LENGTH else f"{text[: CAPTION_LENGTH - 9]}…{text[-8:]}"


def _number(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan


def _figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def wrapped(title: str, width: float) -> str:
    """A title in as many lines as a picture of this width, in inches, needs for it."""
    return "\n".join(textwrap.fill(line, int(width * TITLE_LENGTH)) for line in title.splitlines())


def _save(figure: Figure, path: str | os.PathLike[str], title: str) -> None:
    figure.suptitle(wrapped(title, figure.get_figwidth()), fontsize=TITLE_SIZE, parse_math=False)
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # a file's name may be in a script that matplotlib's font lacks: boxes are drawn in its place
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.draw_without_rendering()  # new tick labels change the layout, which one pass does not see
        figure.savefig(temporary, dpi=120)
