"""Where checkpoints are, and what is written beside the arrays. The arrays are each engine's own matter.

<workdir>/checkpoints/latest/<step>   the two newest, to go on from: the newest that is whole
<workdir>/checkpoints/best/<step>     the one with the highest test accuracy

The record is JSON: {"model": ModelDescription, "config": the run's config, "progress": {"step", "sums"}}.
Of what was another project's, "source" says how its file was built (parity/convert/files.py).
Weights alone, such as converted ones, have neither config nor progress.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe.architectures import ModelDescription
from recipe.system.errors import Damaged, UserError
from recipe.system.files import expanded, remove
from recipe.system.json_values import Rule, check, fields, integer, items, real, text
from recipe.system.terminal import printable
from recipe.training.description import AUTO, PRECISIONS, Inference
from recipe.training.engine import Sums

FOLDER = "checkpoints"
LATEST, BEST = "latest", "best"
_OTHERS = (".bin", ".ckpt", ".pth", ".th")  # how the names of other projects' weights end
WEIGHTS = ".safetensors"  # how the name of a file with weights alone ends; see recipe.training.weights


def step_of(path: Path) -> int | None:
    """The step in a checkpoint's name (`390` or `390.pt`); None for anything else."""
    return int(path.stem) if path.stem.isdecimal() and path.suffix in ("", ".pt") else None


def newest(folder: Path, suffix: str) -> Path | None:
    """The checkpoint of the highest step in a folder, or None when there is none.

    Of a step that is there in both engines' forms, it is the one whose name ends in `suffix`.
    """
    found = [path for path in folder.iterdir() if step_of(path) is not None] if folder.is_dir() else []
    return max(found, key=lambda path: (step_of(path), path.suffix == suffix), default=None)


def of_run(workdir: Path, suffix: str) -> list[Path]:
    """The checkpoints that a run may go on from, newest first; of a step the latest before the best.

    Of a step that is there in both engines' forms, those whose names end in `suffix` come first.
    """
    folders = [workdir / FOLDER / kind for kind in (BEST, LATEST)]
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return sorted(
        (path for path in found if step_of(path) is not None),
        key=lambda path: (step_of(path), path.suffix == suffix, path.parent.name == LATEST),
        reverse=True,
    )


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is none any more; its new path."""
    aside = path.with_name(f"{path.name}.damaged")
    if aside.exists():
        remove(aside)
    return path.rename(aside)


def find(path: str, suffix: str) -> Path:
    """The checkpoint meant by a path: of a folder of them the best, else the latest; else itself.

    Raises:
      UserError: if there is none.
    """
    root = expanded(path)
    if not root.exists():
        raise UserError(f"no checkpoint at {root}: there is no such file or folder")
    for folder in (root / FOLDER / BEST, root / FOLDER / LATEST, root / BEST, root / LATEST, root):
        if checkpoint := newest(folder, suffix):
            return checkpoint
    if root.is_dir() and (root / FOLDER).exists():
        raise UserError(f"no checkpoint at {root}: the run in it has not saved one yet")
    return root


def find_weights(path: str, suffix: str) -> Path:
    """As `find`, and of a folder that holds no checkpoint its one file of weights.

    The Hugging Face hub's cache of a folder has its files in snapshots/<revision>.

    Raises:
      UserError: if there is none, or several of them, or if they are shards or in another project's form.
    """
    root = find(path, suffix)
    folders = (root, *root.glob("snapshots/*/"))
    if theirs := next((folder for folder in folders if _is_another_projects(folder)), None):
        target = root.with_name(f"{root.resolve().name}_converted{suffix}")
        raise UserError(
            f"{root} holds weights of another project: convert them first, python -m parity convert "
            f"{shlex.quote(str(theirs))} {shlex.quote(str(target))}, and name {target}"
        )
    if len(found := sorted(path for folder in folders for path in folder.glob(f"*{WEIGHTS}"))) > 1:
        names = printable(", ".join(str(path.relative_to(root)) for path in found[:8]))
        raise UserError(f"{root} holds {len(found)} files of weights: name one ({names})")
    return found[0] if found else root


def _is_another_projects(folder: Path) -> bool:
    """Whether a folder has shards, or weights in no form of this project."""
    if not folder.is_dir() or any((folder / name).exists() for name in ("record", "_CHECKPOINT_METADATA")):
        return False
    names = [path.name for path in folder.iterdir()]
    if any(fnmatch.fnmatch(name, "*.index*.json") for name in names):
        return True
    return any(name.endswith(_OTHERS) for name in names) and not any(name.endswith(WEIGHTS) for name in names)


def held_out(record: dict[str, Any]) -> int:
    """config.data.holdout of the run that a checked record is from; 0 where there is none."""
    return int(((record.get("config") or {}).get("data") or {}).get("holdout", 0))


def settled(inference: Inference, record: dict[str, Any]) -> Inference:
    """How to run a network, given its checked record: in the precision of its run where it is "auto"."""
    if inference.precision != AUTO:
        return inference
    trained_in = (record.get("config") or {}).get("precision")
    return dataclasses.replace(inference, precision=trained_in if trained_in in PRECISIONS else "f32")


def check_record(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a checkpoint's record if its fields are what they should be, whoever has written it.

    Raises:
      UserError: naming the first field that is not.
    """
    if "model" in record:
        described(record, path)
    try:
        if "progress" in record:
            check(record["progress"], {"step": _COUNT, "sums": fields}, "progress")
            sums = {"loss": real, "correct": _COUNT, "steps": _COUNT}
            check(record["progress"]["sums"], sums, "progress.sums")
        check(record.get("source", {}), _SOURCE, "source", optional=tuple(_SOURCE))
        config = {} if record.get("config") is None else record["config"]
        check(config, {"data": fields}, "config", optional=("data",))
        check(config.get("data", {}), {"holdout": integer(0, 10**6)}, "config.data", optional=("holdout",))
    except UserError as error:
        raise Damaged(f"{path} has a damaged record: {error}") from error
    return record


def progress(step: int, sums: Sums) -> dict[str, Any]:
    """Where a run is: the steps done, and the sums of the epoch under way."""
    return {"step": step, "sums": sums._asdict()}


def progressed(record: dict[str, Any], path: Path) -> tuple[int, Sums]:
    """The inverse of `progress`, from a checkpoint's checked record."""
    if "progress" not in record:
        raise UserError(
            f"{path} holds weights only, no step and no momentum: there is no run in it to go on with"
        )
    sums = record["progress"]["sums"]
    return record["progress"]["step"], Sums(float(sums["loss"]), sums["correct"], sums["steps"])


def described(record: Any, path: Path) -> ModelDescription:
    """The model description in a checkpoint's record."""
    if not isinstance(record, dict) or "model" not in record:
        raise UserError(f"{path} is no checkpoint of this project: it has no model description")
    try:
        return ModelDescription.from_json(json.dumps(record["model"]))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a checkpoint that can't be read, or is truncated, damaged or none at all."""
    reason = printable(next(iter(str(error).splitlines()), "")[:200])
    if isinstance(error, PermissionError | MemoryError):
        return UserError(f"can't read {path}: {type(error).__name__}: {reason}")
    return Damaged(
        f"{path} is not a readable checkpoint (damaged, or none at all): {type(error).__name__}: {reason}"
    )


def require_finite(names: Sequence[str], path: Path) -> None:
    """Raise a `UserError` for a checkpoint whose tensors of these names hold NaN or infinity."""
    if names:
        others = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
        raise UserError(
            f"{path} holds NaN or infinity in {names[0]}{others}: its run diverged; take another checkpoint, "
            "or train with a lower config.optimizer.lr in another --workdir"
        )


def _wrapper(value: Any) -> str:
    return text(value) and items(text)(value) and "a text, or a list of texts"


_COUNT = integer(0, 2**31 - 1)  # as JAX counts steps
_SOURCE: dict[str, Rule] = {  # of what parity.convert writes
    "layout": text, "form": text, "wrapper": _wrapper, "prefix": text, "fields": fields,
    "beside": items(text),
}  # fmt: skip
