"""What tools.aot counted in the same step, compiled ahead of time for an H100."""

from __future__ import annotations

from pathlib import Path

from tools.aot import rows
from tools.aot.figures import Figures as Counted
from tools.profile.workload import Workload

FILE = Path(__file__).parent.parent.parent / "docs" / "results" / "accelerators.json"


def predicted(workload: Workload, file: Path = FILE) -> Counted | None:
    """The counts of a workload's step on a GPU; None where they are not in the file."""
    if workload.arch != "resnet18" or workload.width not in (0, 64):
        return None
    wanted = "cuda", "train", workload.batch_size, workload.precision
    found = rows.read(file).values()
    return next(
        (row.figures for row in found if (row.platform, row.step, row.batch_size, row.precision) == wanted),
        None,
    )
