"""`python -m parity convert`: read, write under a temporary name, read back, prove, rename."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import flax_resnet.checkpoint
import torch_ref.checkpoint
from flax_resnet.runtime import float64, start_backend
from parity.budgets import reference as budget
from parity.convert import guesses
from parity.convert.files import Checkpoint, read
from parity.convert.layouts import OURS, Layout, named
from parity.convert.sources import SUFFIXES, locate
from parity.convert.writing import write
from parity.engines import FlaxNetwork, TorchNetwork
from recipe.normalisation import standardisation_table
from recipe.system.errors import UserError, choice
from recipe.system.files import atomic_folder, atomic_path
from recipe.system.terminal import printable
from recipe.training import checkpoints

FORMS = ("jax", "torch", "safetensors")
PROOF_IMAGES = 8
PROOF_PIXELS = 224  # of a side, at most: larger ones take gigabytes, and show nothing that these do not
PRECISIONS = {"f64": "float64", "f32": "float32"}


class Target(NamedTuple):
    """In what form, and with whose names, to write."""

    form: str  # one of FORMS
    layout: Layout


class Proof(NamedTuple):
    """The largest differences between both frameworks' logits, and the allowed ones."""

    differences: dict[str, float]  # by precision
    allowed: dict[str, float]
    largest: float  # of all logits, in magnitude

    @property
    def passed(self) -> bool:
        """Whether the networks agree; NaN does not."""
        return all(self.differences[precision] <= self.allowed[precision] for precision in PRECISIONS)


def convert(
    source: Path,
    destination: Path,
    *,
    layout: str | None = None,
    to: str | None = None,
    weights: str | None = None,
    changes: Mapping[str, Any] | None = None,
    force: bool = False,
    check: bool = True,
) -> None:
    """Convert one checkpoint; print what it is, what could not be converted, and the proof.

    Args:
      source: a checkpoint in any form, or a folder with one.
      destination: a free path, unless `force`.
      layout: the source's layout; None means to find it out.
      to: "FORM" or "FORM:LAYOUT"; by default the form is the one of the destination's suffix, "jax" where it
        has none, and names are this project's.
      weights: the wrapper to take the weights from, in a file that has several.
      changes: fields of the model description that differ from the layout's usual ones.
      force: whether an existing checkpoint may be replaced.
      check: whether to prove it by running both networks.

    Raises:
      UserError: for wrong input, if it can't be written, or if the proof fails; the destination is unchanged.
    """
    checkpoint = read(source, layout, weights)
    source = locate(source)
    checkpoint = checkpoint.corrected(changes) if changes else checkpoint
    target = find_target(to, destination, checkpoint)
    check_destination(destination, target.form, force)
    if check or target.form == "jax":
        start_backend()
    print(f"{source}: {printable(summary(checkpoint))}")
    if checkpoint.assumed:
        print(f"Assumed: {checkpoint.assumed}")
    description = checkpoint.description
    if description.guessed:
        print(f"Guessed: {printable(description.guess_notice)}")
    if reason := guesses.doubt(description, checkpoint.came_from.normalisation):
        print(f"Doubtful: {printable(reason)}")
    atomic = atomic_folder if target.form == "jax" else atomic_path
    try:
        with atomic(destination) as temporary:
            lost = [*checkpoint.lost, *write(temporary, checkpoint, target.form, target.layout)]
            named_layout = None if target.layout is OURS else target.layout.name
            written = read(temporary, named_layout, look_beside=False)
            compare(checkpoint, written)
            if check:
                report(prove(checkpoint, written))
    except OSError as error:
        raise UserError(f"can't write {destination}: {error.strerror or error}") from error
    names = "" if target.layout is OURS else f", in the layout {target.layout.name}"
    print(f"{destination}: written as a {target.form} checkpoint{names}; read back, every byte is the same")
    if lost:
        print(f"Not moved: {printable(', '.join(lost))}")


def convert_run(source: Path, destination: Path, **options: Any) -> None:
    """Convert a workdir's latest and best checkpoint, so that the other engine can go on in `destination`.

    `destination` may be the same workdir, or a new one, to which the run's config and metrics are copied.
    They come first, so that after a kill the same command knows them, and goes on.
    """
    if destination.suffix in SUFFIXES:
        raise UserError(f"{source} is a workdir: DST must be one as well, not a {destination.suffix} file")
    if not destination.is_dir():
        check_suffix(destination)
    if (destination / checkpoints.FOLDER).exists() and not _of_same_run(source, destination):
        raise UserError(f"{destination} holds a run already; choose a new workdir")
    pairs = []
    for kind in (checkpoints.BEST, checkpoints.LATEST):
        folder = Path(checkpoints.FOLDER) / kind
        found = checkpoints.newest(source / folder, flax_resnet.checkpoint.SUFFIX)
        if found:
            suffix = flax_resnet.checkpoint.SUFFIX if found.suffix else torch_ref.checkpoint.SUFFIX
            pairs.append((found, destination / folder / f"{found.stem}{suffix}"))
    if not pairs:
        raise UserError(f"no checkpoint in {source}: the run in it has not saved one yet")
    for name in ("config.json", "metrics.jsonl"):
        if (source / name).exists() and not (destination / name).exists():
            with atomic_path(destination / name) as temporary:
                shutil.copyfile(source / name, temporary)
    for found, target in pairs:
        if options["force"] or not target.exists():  # the best may have come from the other engine
            convert(found, target, **options)
    engine = "torch" if pairs[-1][1].suffix else "jax"
    print(f"Go on with: python main.py … --config.engine={engine} --workdir={shlex.quote(str(destination))}")


def _of_same_run(source: Path, destination: Path) -> bool:
    """Whether two workdirs are one, or have the same config and log, as a copy that was begun has."""
    return destination.samefile(source) or all(
        (source / name).exists()
        and (destination / name).exists()
        and (destination / name).read_bytes() == (source / name).read_bytes()
        for name in ("config.json", "metrics.jsonl")
    )


def find_target(to: str | None, destination: Path, checkpoint: Checkpoint) -> Target:
    """The form and layout to write, by `to`, or else by the destination's suffix."""
    check_suffix(destination)
    by_suffix = SUFFIXES.get(destination.suffix)
    if to:
        form, _, layout = to.partition(":")
        choice("form (--to)", form, FORMS)
        if (by_suffix or "jax") != form:
            ending = {"jax": "no suffix", "torch": ".pt", "safetensors": ".safetensors"}[form]
            raise UserError(f"{destination} does not look like a {form} checkpoint: give it {ending}")
        if form == "jax" and layout not in ("", OURS.name):
            raise UserError(f"layouts are for PyTorch's names: a JAX checkpoint has no layout {layout}")
        return Target(form, named(layout or OURS.name))
    if by_suffix is None and checkpoint.form == "jax":
        raise UserError(f"{destination} needs a suffix: .pt for PyTorch's form, or .safetensors")
    return Target(by_suffix or "jax", OURS)


def check_suffix(destination: Path) -> None:
    """Raise a `UserError` for a suffix that stands for no form, such as .msgpack.

    Digits and single letters are no suffix: a folder's name may end in a version, or in a learning rate.
    """
    suffix = destination.suffix
    name = suffix.removeprefix(".")
    if suffix in SUFFIXES or name.isdecimal() or len(name) < 2:
        return
    raise UserError(
        f"{destination}: can't write {suffix} files; DST ends in {', '.join(SUFFIXES)}, or has no suffix to "
        "become a JAX folder"
    )


def check_destination(path: Path, form: str, force: bool) -> None:
    """Raise a `UserError` if something exists at `path` that may not be replaced."""
    if not path.exists():
        return
    if path.is_dir() != (form == "jax"):
        raise UserError(f"{path} is a {'folder' if path.is_dir() else 'file'}; choose another destination")
    if path.is_dir() and not (path / "_CHECKPOINT_METADATA").exists():
        raise UserError(f"{path} is a folder but no checkpoint; it is never replaced")
    if not force:
        raise UserError(f"{path} exists; choose another destination, or replace it with --force")


def compare(ours: Checkpoint, theirs: Checkpoint) -> None:
    """Check that a checkpoint read back has the names, dtypes and bytes of the one that was written."""
    for group in ("model", "momentum"):
        a, b = getattr(ours, group), getattr(theirs, group)
        if b is None:  # this form holds no momentum
            continue
        same = a.keys() == b.keys() and all(
            a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a
        )
        if not same:
            raise UserError("what was read back is not what was written: the copy was deleted")


def prove(source: Checkpoint, written: Checkpoint) -> Proof:
    """Compare the Flax and the PyTorch network on random images, each read from its own framework's file."""
    description = source.description
    in_flax, in_torch = (written, source) if written.form == "jax" else (source, written)
    theirs = {p: TorchNetwork(description, in_torch.model, p) for p in PRECISIONS}
    rng = np.random.default_rng(0)
    size = min(description.image_size, PROOF_PIXELS)
    pixels = rng.integers(0, 256, (PROOF_IMAGES, size, size, 3))
    images = standardisation_table(description.mean, description.std)[pixels, np.arange(3)]

    with float64(True):
        found = {p: FlaxNetwork(description, in_flax.model, p).logits(images) for p in PRECISIONS}
    logits = {p: engine.logits(images) for p, engine in theirs.items()}
    errors = budget.reference_errors(lambda x, p: {"logits": theirs[p].logits(x)}, images, "f32")
    return Proof(
        differences={p: budget.distance(found[p], logits[p], p) for p in PRECISIONS},
        allowed={p: budget.scaled(errors, p)["logits"] for p in PRECISIONS},
        largest=float(np.abs(logits["f64"]).max()),
    )


def report(proof: Proof) -> None:
    """Print a proof; raise a `UserError` if it fails."""
    numbers = ", ".join(
        f"{proof.differences[p]:.2g} in {name} (allowed {proof.allowed[p]:.2g})"
        for p, name in PRECISIONS.items()
    )
    line = (
        f"Logits of {PROOF_IMAGES} random images, up to {proof.largest:.3g}; JAX against PyTorch, largest "
        f"difference: {numbers}"
    )
    if not proof.passed:
        raise UserError(f"the two networks disagree. {line}. The copy was deleted")
    print(line)


def summary(checkpoint: Checkpoint) -> str:
    """What a checkpoint is, in one line."""
    d = checkpoint.description
    run = "weights only" if checkpoint.step is None else f"a run at step {checkpoint.step}"
    return (
        f"{d.arch}, {d.stem} stem, width {d.width}, {d.num_classes} classes of {d.dataset}; {run}; "
        f"layout {checkpoint.layout.name}; mean {d.mean}, std {d.std}"
    )
