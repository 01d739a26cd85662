"""python -m tools.profile: where a training step's time goes on the device, and whether the host waits.

Writes profile.md and profile.json into the output folder, and the trace that they are made of into its folder
"recording", which XProf opens. With --loop it profiles an epoch of the training loop in the place of bare
steps. --read makes the page again from a trace that is there, on any machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from parity.speed.jobs import PRECISIONS
from recipe.system import files, program
from recipe.system.errors import UserError, choice
from tools.profile import record, report, trace
from tools.profile.figures import figures
from tools.profile.predicted import predicted
from tools.profile.workload import Workload

RECORDING = "recording"
MOST_STEPS = 1000  # a GPU's trace of a step has some hundred events

MOST_IMAGES = 1_000_000  # of 3 kB


def main(arguments: list[str] | None = None) -> int:
    """Record, read and report; 2 for wrong input."""
    options = parser().parse_args(arguments)
    return program.run(lambda: profile(options), interrupted="Interrupted. No profile was written.")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(prog="python -m tools.profile", description=__doc__.partition("\n")[0])
    add = made.add_argument
    add("--output", type=Path, required=True, metavar="FOLDER", help="where the page and the trace go")
    add("--arch", default="resnet18", help="the network; resnet18 unless told")
    add("--width", type=int, default=0, help="channels of the first stage; 0: its own")
    add("--batch", type=int, default=512, help="images per step; 512 unless told")
    add("--precision", default="bf16", help=f"of {', '.join(PRECISIONS)}; bf16 unless told")
    add("--steps", type=int, default=20, help="that are profiled, of an epoch with --loop; 20 unless told")
    add("--steps-per-dispatch", type=int, default=0, help="steps in one program; 0: as training does")
    add("--loop", action="store_true", help="an epoch of the training loop, with what it does around steps")
    add(
        "--graphs", action="store_true", help="let XLA replay CUDA graphs, whose kernels a trace may not name"
    )
    add("--read", action="store_true", help="record nothing: read the trace that is in the folder")
    return made


def profile(options: argparse.Namespace) -> int:
    """Do what the flags ask for; 0 unless something is wrong, which is raised."""
    output = files.expanded(options.output)
    if options.graphs:  # read when the backend starts
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {record.GRAPHS}".strip()
    if not options.read:
        record.record(workload(options), output / RECORDING)
    recording = record.read(output / RECORDING)
    found = figures(trace.read(recording.trace), recording.programs)
    counted = predicted(recording.workload)
    files.write_text(output / "profile.json", report.as_json(recording, found, counted))
    files.write_text(output / "profile.md", report.markdown(recording, found, counted))
    print(
        f"{found.ms:.3f} ms per step in {found.launches:.1f} launches, device idle {found.idle:.1%}. "
        f"{found.waits.verdict}\nWritten: {output / 'profile.md'}, {output / 'profile.json'}"
    )
    return 0


def workload(options: argparse.Namespace) -> Workload:
    """What the flags ask for.

    Raises:
      UserError: for numbers that make no workload.
    """
    choice("--precision", options.precision, PRECISIONS)
    if not 2 <= options.steps <= MOST_STEPS:
        raise UserError(f"--steps={options.steps}: choose from 2 to {MOST_STEPS:,}")
    if options.batch < 1:
        raise UserError(f"--batch={options.batch}: a step needs an image at least")
    if (images := options.batch * options.steps) > MOST_IMAGES:
        raise UserError(
            f"--batch={options.batch} and --steps={options.steps} need {images:,} images, of which "
            f"{MOST_IMAGES:,} can be made; choose fewer of either"
        )
    return Workload(
        options.arch, options.width, options.precision, options.batch, options.steps,
        options.steps_per_dispatch, options.loop,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
