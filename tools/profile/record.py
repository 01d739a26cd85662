"""Running a workload under jax.profiler, and keeping what a reader needs in a folder.

The folder has the trace where XProf looks for it (plugins/profile/…/*.xplane.pb), the optimized text of the
programs (programs/*.txt), since a trace names instructions without saying what they are, and recording.json:
what was run on what.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from flax_resnet.runtime import start_backend
from parity.environment import jax_facts
from recipe.system import files, json_values
from recipe.system.errors import UserError, first_line
from tools.profile.workload import Run, Workload

FACTS, PROGRAMS = "recording.json", "programs"
GRAPHS = "--xla_enable_command_buffers_during_profiling=true"  # one of XLA's flags


@dataclasses.dataclass(frozen=True)
class Recording:
    """What was recorded."""

    workload: Workload
    environment: dict[str, str]  # versions, device, XLA's flags
    platform: str  # as JAX calls it: cpu | gpu
    trace: Path  # an xplane.pb file
    programs: tuple[str, ...]  # texts of optimized HLO modules


def record(workload: Workload, folder: Path) -> None:
    """Run a workload under the profiler, in a new `folder`; an earlier recording there is replaced.

    Raises:
      UserError: if the workload can't be run, or the folder holds something else.
    """
    if folder.exists() and not (folder / FACTS).exists():
        raise UserError(f"{folder} is there, and no recording; choose another --output")
    start_backend()
    with tempfile.TemporaryDirectory() as workdir, own_names(), enough_memory(workload):
        run = Run(workload, Path(workdir))
        with files.atomic_folder(folder) as new:
            new.mkdir()
            options = jax.profiler.ProfileOptions()
            # Python's calls say who waits in the loop; where only the device matters they would slow the host
            options.python_tracer_level = int(workload.loop)
            with jax.profiler.trace(str(new), profiler_options=options):
                run.go()
            keep_programs(new / PROGRAMS)
            facts = {
                "workload": dataclasses.asdict(workload),
                "environment": jax_facts(),
                "platform": jax.default_backend(),
            }
            files.write_text(new / FACTS, json.dumps(facts, indent=1) + "\n")


@contextlib.contextmanager
def enough_memory(workload: Workload) -> Iterator[None]:
    """Make it a `UserError` if the device has too little memory, which only shows when it runs."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"the device has too little memory for batches of {workload.batch_size} ({first_line(error)}); "
            "choose a smaller --batch"
        ) from error


@contextlib.contextmanager
def own_names() -> Iterator[None]:
    """Take no program from JAX's compilation cache that was compiled under other names.

    Its key knows no names otherwise, so they would be those of the version that compiled it.
    """
    name = "jax_compilation_cache_include_metadata_in_key"
    before = jax.config.values[name]
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


def keep_programs(folder: Path) -> None:
    """Write the text of every program that this process has compiled, as it is run, if it has a text."""
    folder.mkdir()
    for number, executable in enumerate(jax.devices()[0].client.live_executables()):
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            text = "\n".join(module.to_string() for module in executable.hlo_modules())
            (folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")


def read(folder: Path) -> Recording:
    """What `record` wrote.

    Raises:
      UserError: if there is none, or it is not whole.
    """
    file = folder / FACTS
    if not file.exists():
        raise UserError(f"there is no recording in {folder}: {FACTS} is missing; leave --read out to record")
    traces = sorted(folder.glob("plugins/profile/*/*.xplane.pb"))
    if len(traces) != 1:
        raise UserError(
            f"{folder} has {len(traces)} traces in the place of one; record again, without --read"
        )
    try:
        facts: Any = json_values.read(file)
        workload = Workload(**facts["workload"])
        environment, platform = dict(facts["environment"]), str(facts["platform"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); record again, without --read") from error
    texts = tuple(path.read_text(encoding="utf-8") for path in sorted((folder / PROGRAMS).glob("*.txt")))
    return Recording(workload, environment, platform, traces[0], texts)
