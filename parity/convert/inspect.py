"""`python -m parity inspect`: what a checkpoint holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from parity.convert import guesses
from parity.convert.files import Checkpoint, read
from parity.convert.sources import locate
from recipe.architectures import OUTPUTS
from recipe.state_dict import COUNTER, is_param
from recipe.system.terminal import printable
from recipe.training import checkpoints
from recipe.training.settings import fields

CONFIG = ("engine", "seed", "precision", "epochs", "batch_size", "optimizer.lr", "schedule.name")


def inspect(path: Path, layout: str | None = None, weights: str | None = None) -> str:
    """Describe a checkpoint, or a workdir's best (else latest) one, in lines of "name: value".

    Raises:
      UserError: if it is no checkpoint, is damaged, or could be of several layouts.
    """
    path = checkpoints.find(str(path), "")
    rows = _rows(read(path, layout, weights))
    rows = {"checkpoint": str(locate(path)), **rows}
    return "\n".join(f"{name + ':':<17}{printable(value)}" for name, value in rows.items() if value)


def _rows(checkpoint: Checkpoint) -> dict[str, str]:
    description, record = checkpoint.description, checkpoint.record
    source = record.get("source", {})
    arrays = checkpoint.model
    counters = {int(array) for name, array in arrays.items() if name.endswith(COUNTER)}
    weights = {name: array for name, array in arrays.items() if not name.endswith(COUNTER)}
    params = sum(a.size for n, a in weights.items() if is_param(n))
    dtypes = Counter(array.dtype.name for array in weights.values())
    names = description.class_names

    def mark(*fields: str) -> str:
        """What follows the value of a field that is a guess."""
        guessed = [field for field in fields if field in description.guessed]
        return f" (guessed: {', '.join(guessed).replace('_', ' ')})" if guessed else ""

    rows = {
        "form": checkpoint.form + (f", sharded: {checkpoint.shards} files" if checkpoint.shards else ""),
        "layout": f"{checkpoint.layout.name} ({checkpoint.layout.origin})",
        "came from": ", ".join(
            f"{k} {source[k]!r}" for k in ("layout", "wrapper", "prefix") if source.get(k)
        ),
        "architecture": f"{description.arch}, {description.stem} stem, width {description.width}",
        "parameters": f"{params:,}",
        "tensors": f"{len(weights)}, {', '.join(f'{n} {name}' for name, n in dtypes.items())}",
        "batch counters": ", ".join(map(str, sorted(counters))) if counters else "none",
        "classes": f"{len(names)} of {description.dataset}: {', '.join(names[:10])}"
        + (", …" if len(names) > 10 else "")
        + mark("class_names", "dataset"),
        "outputs": OUTPUTS[description.outputs],
        "mean": str(description.mean) + mark("mean"),
        "std": str(description.std) + mark("std"),
        "image size": f"{description.image_size} px" + mark("image_size"),
        "described by": ", ".join(source.get("beside", [])),
        "guessed": description.guess_notice,
        "doubtful": guesses.doubt(description, checkpoint.came_from.normalisation),
        "assumed": checkpoint.assumed,
        "other fields": ", ".join(f"{name} = {value}" for name, value in source.get("fields", {}).items()),
        "not convertible": ", ".join(checkpoint.lost),
        "integrity": _integrity(checkpoint),
    }
    if checkpoint.step is not None:
        config = dict(fields(record.get("config") or {}))
        sums = record["progress"]["sums"]
        rows |= {
            "step": str(checkpoint.step),
            "epoch position": f"{sums['steps']} steps into the epoch"
            if sums["steps"]
            else "between two epochs",
            "momentum": f"{len(checkpoint.momentum)} buffers" if checkpoint.momentum else "none yet",
            "config": ", ".join(f"{name} {config[name]}" for name in CONFIG if name in config),
        }
    return rows


def _integrity(checkpoint: Checkpoint) -> str:
    """What was checked of the tensors' bytes."""
    if checkpoint.sealed:
        return "every tensor and the record have the SHA-256 they were saved with"
    if checkpoint.checksums:
        return "every tensor has the CRC-32 it was saved with"
    return "no checksums (a flipped bit that leaves the values finite can't be seen)"
