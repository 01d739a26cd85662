"""Which checkpoints of a run are kept."""

from __future__ import annotations

from pathlib import Path

from recipe.training.writer import prune_run


def test_what_a_kill_has_left_too_many_is_deleted(tmp_path: Path):
    """Between the rename of the new checkpoint and the removal of the old one, in whichever engine's form."""
    for name in ("latest/2.pt", "latest/3", "latest/4.pt", "latest/1.pt.damaged", "best/2", "best/4.pt"):
        path = tmp_path / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir()
    for _ in range(2):
        prune_run(tmp_path)
        left = sorted(str(path.relative_to(tmp_path / "checkpoints")) for path in tmp_path.glob("*/*/*"))
        assert left == ["best/4.pt", "latest/1.pt.damaged", "latest/3", "latest/4.pt"]
    prune_run(tmp_path / "new")
