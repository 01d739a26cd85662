"""The notebook of docs: it runs, and what it shows is what it prints."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from recipe import weights

PATH = Path(__file__).parent.parent / "docs" / "tour.ipynb"
MOST_BYTES = 60_000  # with its outputs


def printed(notebook: nbformat.NotebookNode, folder: Path) -> str:
    """What its cells print and show, in words; numbers differ from one processor to the next."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
    text = "".join(output.get("text") or output.data["text/plain"] for output in outputs)
    text = text.replace(str(folder), "runs/tour")
    text = re.sub(r"^python 3.*\n( .*\n)*", "", text, flags=re.MULTILINE)  # versions
    text = re.sub(r"^( +2 eval: .{40}) .*?(same|DIFFERENT)$", r"\1 \2", text, flags=re.MULTILINE)
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?(e-\d+)?", "#", text))


@pytest.mark.skipif(not weights.FOLDER.is_dir(), reason="it is about the weights that come with this project")
def test_the_tour_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    shown, notebook = (nbformat.read(PATH, as_version=4) for _ in range(2))
    for cell in notebook.cells:
        cell.source = cell.source.replace("runs/tour", str(tmp_path))
        cell.pop("outputs", None)
    NotebookClient(notebook, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    assert printed(notebook, tmp_path) == printed(shown, tmp_path)
    assert "The same: # comparisons" in printed(shown, tmp_path)
    assert "NOT the same: # difference, first at layer#.conv#" in printed(shown, tmp_path)
    assert PATH.stat().st_size < MOST_BYTES
