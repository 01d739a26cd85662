"""Pictures: what is in them, and what is left on disk when one can't be drawn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from recipe.output import plots

PICTURE = np.zeros((8, 8, 3), np.uint8)
DRAWN = list[tuple[Figure, str]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> DRAWN:
    """Catch (figure, title) instead of writing files."""
    caught: DRAWN = []
    monkeypatch.setattr(plots, "_save", lambda figure, path, title: caught.append((figure, title)))
    return caught


def record(epoch: int, value: float | None = 0.5) -> dict[str, Any]:
    return {"epoch": epoch} | dict.fromkeys(("train_loss", "test_loss", "train_acc", "test_acc"), value)


def captions(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.images]


def test_plots_load_matplotlib_only_to_draw():
    program = "import sys, recipe.output.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_every_picture_is_a_picture(tmp_path: Path):
    """Also from awkward input."""
    folder = tmp_path / "pictures"
    records = [
        record(1) | {"test_loss": None},
        record(2) | {"train_loss": float("nan")},
        record(3) | {"test_loss": float("inf")},
    ]
    changes = [(1.5, "lr ×0.1"), (1.5, "24 px"), (9, "never")]
    plots.curves(records, folder / "curves.png", title="t", changes=changes)
    plots.curves([record(1)], folder / "curve.png", title="t")
    plots.confusion(np.zeros((3, 3), int), ("a", "b", "c"), folder / "confusion.png", title="t")
    plots.confusion(np.eye(100, dtype=int), [str(i) for i in range(100)], folder / "hundred.png", title="t")
    pictures = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    right = np.eye(3)[np.zeros(70, int)]
    plots.mistakes(pictures, np.zeros(70, int), right, ("a", "b", "c"), folder / "none.png", title="t")
    plots.predictions(list(pictures), ["long name " * 9] * 70, folder / "grid.png", title="t")
    drawn = list(folder.iterdir())
    assert len(drawn) == 6
    for path in drawn:
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 0


def test_a_failed_drawing_leaves_the_old_picture_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "curves.png"
    plots.curves([record(1)], path, title="t")
    old = path.read_bytes()

    def fail_halfway(self: Figure, target: Path, **options: Any) -> None:
        target.write_bytes(old[:100])
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", fail_halfway)
    with pytest.raises(OSError, match="no space left"):
        plots.curves([record(1), record(2)], path, title="t")
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_leaves_a_gap(tmp_path: Path, drawn: DRAWN, value: float | None):
    plots.curves([record(1), record(2, value), record(3)], tmp_path, title="t")
    for axes in drawn[0][0].axes:
        for line in axes.lines:
            np.testing.assert_array_equal(line.get_ydata(), [0.5, np.nan, 0.5])
        assert [text.get_text() for text in axes.texts] == ["test\n0.500"]


def test_a_last_value_that_is_no_number_has_no_label(tmp_path: Path, drawn: DRAWN):
    plots.curves([record(1), record(2, None)], tmp_path, title="t")
    assert not any(axes.texts for axes in drawn[0][0].axes)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_run_without_any_number_still_makes_a_picture(tmp_path: Path, value: float | None):
    plots.curves([record(1, value), record(2, value)], tmp_path / "a.png", title="t")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        picture.load()


def test_curves_show_the_records(tmp_path: Path, drawn: DRAWN):
    names = ("train_loss", "test_loss", "train_acc", "test_acc")
    rows = [{"epoch": e, **{name: e + i / 10 for i, name in enumerate(names)}} for e in (3, 4, 5)]
    plots.curves(rows, tmp_path, title="t")
    lines = [line for axes in drawn[0][0].axes for line in axes.lines]
    assert [line.get_label() for line in lines] == ["train", "test", "train", "test"]
    for line, name in zip(lines, names, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [3, 4, 5])
        np.testing.assert_array_equal(line.get_ydata(), [row[name] for row in rows])


def test_changes_are_marked_where_they_happened(tmp_path: Path, drawn: DRAWN):
    changes = [*[(i, "lr ×0.1") for i in (4, 6, 8, 12)], (4, "24 px"), (5, "32 px")]
    plots.curves([record(epoch) for epoch in range(1, 9)], tmp_path, title="t", changes=changes)
    for axes in drawn[0][0].axes:
        lines = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert lines == [4, 6, 5]
        labels = [text.get_text() for text in axes.texts if "test" not in text.get_text()]
        assert labels == ["lr ×0.1, 24 px", "lr ×0.1", "32 px"]


def test_confusion_shows_every_count(tmp_path: Path, drawn: DRAWN):
    matrix = np.array([[1200, 3, 0], [0, 0, 0], [5, 6, 7]])
    plots.confusion(matrix, ("a", "b", "c"), tmp_path, title="t")
    figure, title = drawn[0]
    axes = figure.axes[0]
    counts = {text.get_position(): int(text.get_text()) for text in axes.texts}
    assert counts == {(column, row): count for (row, column), count in np.ndenumerate(matrix)}
    assert "14 of 1,221" in title
    shares = np.array([[1200 / 1203, 3 / 1203, 0], [0, 0, 0], [5 / 18, 6 / 18, 7 / 18]])
    np.testing.assert_allclose(axes.images[0].get_array(), shares)


def test_mistakes_shows_only_errors_the_most_confident_first(tmp_path: Path, drawn: DRAWN):
    """Against a loop; each picture has its number as its colour."""
    rng = np.random.default_rng(0)
    pictures = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    labels = rng.integers(0, 3, 60)
    probabilities = rng.dirichlet(np.ones(3), 60)
    plots.mistakes(pictures, labels, probabilities, "abc", tmp_path, title="t", count=10)

    wrong = [i for i in range(60) if probabilities[i].argmax() != labels[i]]
    wrong.sort(key=lambda i: -probabilities[i].max())
    figure, title = drawn[0]
    shown = [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes if axes.images]
    assert len(wrong) > 10
    assert shown == wrong[:10]
    assert captions(figure) == [
        f"{'abc'[labels[i]]} →\n{'abc'[probabilities[i].argmax()]} {probabilities[i].max():.0%}"
        for i in wrong[:10]
    ]
    assert f"10 of {len(wrong)} mistakes" in title


def test_no_more_mistakes_are_shown_than_there_are(tmp_path: Path, drawn: DRAWN):
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([0, 0, 0, 1])
    plots.mistakes(np.stack([PICTURE] * 4), labels, probabilities, "ab", tmp_path, title="t", count=2)
    figure, title = drawn[0]
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["a →\nb 80%", "a →\nb 60%"]
    assert "2 of 2 mistakes" in title


def test_predictions_says_how_many_are_not_shown(tmp_path: Path, drawn: DRAWN):
    for more in (0, 6):
        plots.predictions([PICTURE] * 64, [str(i) for i in range(64)], tmp_path, title="t", more=more)
    (whole, whole_title), (cut, cut_title) = drawn
    assert len(whole.axes) == len(cut.axes) == 64
    assert captions(whole) == captions(cut) == [str(i) for i in range(64)]
    assert whole_title == "t"
    assert "the first 64 pictures; 6 more are not shown" in cut_title


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", [r"$\foo$.png", "a$5_b$6.png", "日本.png", "two\nlines", ""])
def test_any_text_can_be_drawn(tmp_path: Path, text: str):
    """Neither mathematics nor a missing glyph: file and class names are text."""
    plots.predictions([PICTURE], [text], tmp_path / "grid.png", title=text)
    plots.confusion(np.eye(2, dtype=int), (text, "b"), tmp_path / "confusion.png", title=text)
    assert len(list(tmp_path.iterdir())) == 2


def layout(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], None]) -> Figure:
    """The figure as it was written, with everything in its final place."""
    written: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, target, **options: written.append(self))
    draw()
    return written[0]


def test_grid_cells_keep_their_size_and_captions_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pictures of very different shapes fill their cells' width or height, whatever their neighbours."""
    sizes = [(160, 90), (60, 160), (160, 160), (20, 160), (160, 12), (32, 32), (3, 2)] * 3
    pictures = [np.zeros((*size, 3), np.uint8) for size in sizes]
    texts = [f"IMG_20260117_{i}_from_a_phone_camera.jpeg\naquarium_fish 100%" for i in range(len(sizes))]
    path = tmp_path / "a.png"
    figure = layout(monkeypatch, lambda: plots.predictions(pictures, texts, path, title="t"))
    cells = [axes for axes in figure.axes if axes.images]
    assert len(cells) == len(sizes)
    for axes in cells:
        box = axes.get_window_extent()
        assert max(box.width, box.height) > figure.dpi  # more than an inch
    titles = [axes.title.get_window_extent() for axes in cells]
    assert not any(a.overlaps(b) for i, a in enumerate(titles) for b in titles[:i])
    assert all(figure.bbox.contains(*title.min) and figure.bbox.contains(*title.max) for title in titles)


@pytest.mark.parametrize("count", [1, 3, 9, 13])
def test_a_grid_has_no_row_that_is_much_shorter_than_the_others(tmp_path: Path, drawn: DRAWN, count: int):
    plots.predictions([PICTURE] * count, ["a"] * count, tmp_path, title="t")
    figure = drawn[0][0]
    assert sum(bool(axes.images) for axes in figure.axes) == count
    rows = figure.axes[0].get_gridspec().nrows
    assert rows == -(-count // 8)
    assert len(figure.axes) - count < rows


@pytest.mark.parametrize("epochs", [1, 5, 200])
def test_curves_texts_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int):
    rows = [record(epoch, 1 / epoch) for epoch in range(1, epochs + 1)]
    drops = [(epochs / 2, "lr ×0.1"), (epochs * 3 / 4, "lr ×0.1")]
    path = tmp_path / "a.png"
    figure = layout(monkeypatch, lambda: plots.curves(rows, path, title="ResNet18", changes=drops))
    texts = [text for text in figure.texts if text.get_text()]
    for axes in figure.axes:
        texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == 1 + 2 * (2 + 1 + 2)  # the title; per panel two drops, the last value, two labels
    # neither each other, nor the tick labels of the y axes, nor the inside, where the curves are
    for axes in figure.axes:
        bottom, top = axes.get_ylim()  # ticks beyond them exist, but are not drawn
        ticks = [label for label in axes.get_yticklabels() if bottom <= label.get_position()[1] <= top]
        boxes += [axes.get_window_extent(), *(label.get_window_extent() for label in ticks)]
    outside = boxes[: len(texts)]
    assert not any(a.overlaps(b) for i, a in enumerate(outside) for b in boxes[i + 1 :])


def test_a_single_epoch_shows_the_drops_within_it(tmp_path: Path, drawn: DRAWN):
    drops = [(0.5, "lr ×0.1"), (0.75, "lr ×0.1"), (1.0, "lr ×0.1"), (2.0, "lr ×0.1")]
    plots.curves([record(1)], tmp_path, title="t", changes=drops)
    for axes in drawn[0][0].axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.5, 0.75]
        assert axes.get_xlim()[0] < 0.5
        assert all(tick == int(tick) for tick in axes.get_xticks())


def test_drops_before_the_first_record_are_not_marked(tmp_path: Path, drawn: DRAWN):
    """The log of a run's first epochs may be lost."""
    plots.curves([record(5), record(6)], tmp_path, title="t", changes=[(2, "lr ×0.1"), (4.5, "lr ×0.1")])
    for axes in drawn[0][0].axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [4.5]


def test_no_record_draws_nothing(tmp_path: Path):
    plots.curves([], tmp_path / "a.png", title="t")
    assert not list(tmp_path.iterdir())


def test_a_faultless_network_gets_a_picture_that_says_so(tmp_path: Path, drawn: DRAWN):
    plots.mistakes(
        np.stack([PICTURE] * 3), np.array([0, 1, 1]), np.eye(2)[[0, 1, 1]], "ab", tmp_path, title="t"
    )
    assert [text.get_text() for text in drawn[0][0].texts] == ["no mistake in 3 images"]


def test_a_hundred_classes_have_no_numbers_but_every_name(tmp_path: Path, drawn: DRAWN):
    names = [f"class {i}" for i in range(100)]
    plots.confusion(np.eye(100, dtype=int), names, tmp_path, title="t")
    axes = drawn[0][0].axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert [label.get_text() for label in axes.get_yticklabels()] == names


def test_a_file_name_that_is_not_utf8_can_be_drawn(tmp_path: Path):
    plots.predictions(
        [PICTURE], [b"caf\xe9.png".decode("utf-8", "surrogateescape")], tmp_path / "a.png", title="t"
    )
    assert (tmp_path / "a.png").exists()


def test_a_long_title_is_wrapped_into_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    title = "resnet18 trained on a dataset with quite a long name " * 3
    figure = layout(monkeypatch, lambda: plots.predictions([PICTURE], ["a"], tmp_path / "a.png", title=title))
    (text,) = figure.findobj(lambda artist: isinstance(artist, Text) and "resnet18" in artist.get_text())
    box = text.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
