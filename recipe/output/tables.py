"""What evaluation and prediction print."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import numpy as np

from recipe.system.terminal import printable

Top = list[tuple[str, float]]  # (class name, probability), the most likely first
Prediction = Top | str  # or why there is none


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count (true, predicted) pairs: int64 (classes, classes), a row per true class.

    Raises:
      ValueError: for a label or prediction outside 0…classes-1.
    """
    pairs = np.ravel_multi_index((labels, predictions), (classes, classes))
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def per_class(labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str]) -> str:
    """A table with a row per class: examples, right ones, accuracy, what it is most taken for.

    Args:
      labels: int (N,).
      predictions: int (N,).
      class_names: of the C classes.
    """
    matrix = confusion_matrix(labels, predictions, len(class_names))
    width = max(map(len, ("class", "all", *class_names)))
    lines = [f"{'class':<{width}}  {'count':>6}  {'correct':>7}  {'accuracy':>8}  most confused with"]
    for true, name in enumerate(class_names):
        row = matrix[true].copy()
        count, correct = int(row.sum()), int(row[true])
        row[true] = 0
        other = f"{class_names[int(row.argmax())]} ({row.max()})" if row.any() else "–"
        lines.append(_row(name, width, count, correct) + f"  {other}")
    lines.append(_row("all", width, int(matrix.sum()), int(matrix.trace())))
    return "\n".join(lines)


def top_k(probabilities: np.ndarray, class_names: Sequence[str], k: int = 5) -> list[Top]:
    """The k most likely classes of each image, of probabilities (N, C); ties by class index.

    All of them if there are fewer than k.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return [
        [(class_names[i], float(row[i])) for i in indices]
        for row, indices in zip(probabilities, order, strict=True)
    ]


def predictions(names: Sequence[str], results: Sequence[Prediction], output: str) -> str:
    """Write the predictions for named images as a "table", as "json" or as "csv".

    An image without one has its reason in a row: in JSON as "error" beside an empty "top", in CSV in the
    column "error". Names come from files, and characters that a terminal obeys are escaped: see `printable`.
    JSON has escapes of its own, by which a program reads names as they are.
    """
    names = [name.encode("utf-8", "replace").decode() for name in names]  # which may be in another encoding
    return _WRITERS[output](names, results)


def _json(names: Sequence[str], results: Sequence[Prediction]) -> str:
    images = [
        {"image": name, "top": [], "error": result}
        if isinstance(result, str)
        else {"image": name, "top": [{"class": label, "probability": p} for label, p in result]}
        for name, result in zip(names, results, strict=True)
    ]
    text = json.dumps(images, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _csv(names: Sequence[str], results: Sequence[Prediction]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "rank", "class", "probability", "error"])
    for name, result in zip(names, results, strict=True):
        if isinstance(result, str):
            writer.writerow([printable(name), "", "", "", printable(result)])
            continue
        for rank, (label, p) in enumerate(result, 1):
            # every digit, but no exponent: not all that reads CSV takes 1e-09 for a number
            writer.writerow(
                [printable(name), rank, printable(label), np.format_float_positional(p, trim="0"), ""]
            )
    return text.getvalue().rstrip("\n")


def _table(names: Sequence[str], results: Sequence[Prediction]) -> str:
    names = [printable(name) for name in names]
    cells = [
        [] if isinstance(result, str) else [f"{printable(label)} {p:.1%}" for label, p in result]
        for result in results
    ]
    name_width = max(map(len, names), default=0)
    cell_width = max((len(cell) for row in cells for cell in row), default=0)
    return "\n".join(
        f"{name:<{name_width}}  error: {printable(result)}"
        if isinstance(result, str)
        else "  ".join([name.ljust(name_width), *(cell.ljust(cell_width) for cell in row)]).rstrip()
        for name, row, result in zip(names, cells, results, strict=True)
    )


_WRITERS = {"table": _table, "json": _json, "csv": _csv}
OUTPUTS = tuple(_WRITERS)


def _row(name: str, width: int, count: int, correct: int) -> str:
    accuracy = f"{correct / count:.4f}" if count else "–"
    return f"{name:<{width}}  {count:>6}  {correct:>7}  {accuracy:>8}"
