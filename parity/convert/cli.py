"""The flags of `python -m parity convert` and `inspect`, and what they call."""

from __future__ import annotations

import argparse

from parity import flags
from recipe.system import files
from recipe.system.errors import UserError


def add_convert_flags(parser: argparse.ArgumentParser) -> None:
    """Add `convert`'s to a parser."""
    parser.add_argument(
        "source",
        type=files.expanded,
        metavar="SRC",
        help="a checkpoint in any form, a folder or an index of shards from a hub, or a workdir",
    )
    parser.add_argument(
        "destination", type=files.expanded, metavar="DST", help="where it goes; for a workdir, a workdir"
    )
    parser.add_argument(
        "--to",
        metavar="FORM[:LAYOUT]",
        help="jax, torch or safetensors, and whose names (torch:torchvision); "
        "else DST's suffix says the form; without one it is jax",
    )
    parser.add_argument("--force", action="store_true", help="replace DST if it exists")
    parser.add_argument("--no-check", action="store_true", help="don't run both networks")
    parser.add_argument("--class-names", metavar="A,B,…", help="where the file of another project has none")
    parser.add_argument("--dataset", help="name of the data that the network was trained on")
    parser.add_argument("--mean", metavar="R,G,B", help="of pixel/255, subtracted from the input")
    parser.add_argument("--std", metavar="R,G,B", help="what the input is then divided by")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="that the network was trained on")
    flags.add_source_flags(parser)


def add_inspect_flags(parser: argparse.ArgumentParser) -> None:
    """Add `inspect`'s to a parser."""
    parser.add_argument("path", type=files.expanded, metavar="PATH")
    flags.add_source_flags(parser)


def run_convert(options: argparse.Namespace) -> int:
    """`convert`: one checkpoint, or a workdir's latest and best."""
    from parity.convert.convert import convert, convert_run
    from recipe.training.checkpoints import FOLDER

    settings = {"force": options.force, "check": not options.no_check}
    if (options.source / FOLDER).is_dir():
        for name in ("layout", "to", "weights", "class_names", "dataset", "mean", "std", "image_size"):
            if getattr(options, name) is not None:
                raise UserError(
                    f"--{name.replace('_', '-')} is for one checkpoint, and {options.source} is a workdir: "
                    f"name one of those in {options.source / FOLDER}"
                )
        convert_run(options.source, options.destination, **settings)
        return 0
    changes = {
        "class_names": options.class_names and options.class_names.split(","),
        "dataset": options.dataset,
        "mean": options.mean and numbers("mean", options.mean),
        "std": options.std and numbers("std", options.std),
        "image_size": options.image_size,
    }
    convert(
        options.source,
        options.destination,
        layout=options.layout,
        to=options.to,
        weights=options.weights,
        changes={name: value for name, value in changes.items() if value is not None},
        **settings,
    )
    return 0


def run_inspect(options: argparse.Namespace) -> int:
    """`inspect`."""
    from parity.convert.inspect import inspect

    print(inspect(options.path, options.layout, options.weights))
    return 0


def numbers(name: str, text: str) -> list[float]:
    """Three numbers between commas."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise UserError(f"--{name} takes three numbers, one per channel: --{name}=0.5,0.5,0.5")
    return values
