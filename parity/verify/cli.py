"""The flags of `python -m parity verify`, and what it writes."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from parity import flags
from recipe.architectures import ARCHITECTURES
from recipe.system import files, json_values
from recipe.system.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser."""
    parser.add_argument(
        "path", type=files.expanded, nargs="?", metavar="CHECKPOINT", help="else random weights"
    )
    parser.add_argument("--arch", default="resnet18", help="without a checkpoint: an architecture, or all")
    parser.add_argument("--stem", default="cifar", help="cifar, cifar_pool or imagenet")
    parser.add_argument(
        "--width", type=flags.natural, default=0, help="channels of the first stage; 0: its own"
    )
    parser.add_argument("--levels", default="1-10", metavar="A-B", help="which levels, such as 2 or 1-6")
    parser.add_argument("--seed", type=flags.natural, default=0, help="draws weights and inputs")
    parser.add_argument("--quick", action="store_true", help="one shape of input, fewer images and steps")
    parser.add_argument(
        "--cpu-kernels",
        choices=("auto", "xla"),
        default="auto",
        help="of JAX, as config.cpu_kernels",
    )
    parser.add_argument("--stop", action="store_true", help="end at the first failure")
    parser.add_argument("--json", type=files.expanded, metavar="FILE", help="write every number")
    parser.add_argument("--html", type=files.expanded, metavar="FILE", help="write a page with plots")
    parser.add_argument(
        "--mutants", type=files.expanded, metavar="FILE", help="the page's table, by mutants --json"
    )
    flags.add_source_flags(parser)


def main(options: argparse.Namespace) -> int:
    """Check and report: 0 only if every check of every network passed."""
    from flax_resnet.runtime import start_backend
    from parity.report import html as report_html
    from parity.report import json as report_json
    from parity.verify import cases, run
    from parity.verify.levels.registry import LEVELS

    levels = flags.level_range(options.levels, max(LEVELS))
    start_backend()
    settings = {name: getattr(options, name) for name in ("seed", "quick", "cpu_kernels")}
    if options.path:
        chosen = [cases.from_checkpoint(options.path, options.layout, options.weights, **settings)]
    else:
        archs = list(ARCHITECTURES) if options.arch == "all" else [options.arch]
        chosen = [
            cases.from_description(cases.describe(arch, options.stem, options.width), **settings)
            for arch in archs
        ]
    mutants = read_mutants(options.mutants) if options.mutants else None
    outputs = [(options.json, report_json.render), (options.html, report_html.render)]
    passed = True
    for case in chosen:
        suffix = "" if len(chosen) == 1 else f"-{case.description.arch}"
        with contextlib.ExitStack() as stack:
            # opened before the checks: a path that can't be written must fail now, not after an hour
            opened = [
                (stack.enter_context(files.atomic_path(path.with_stem(path.stem + suffix))), render)
                for path, render in outputs
                if path
            ]
            report = run.run(case, levels, stop=options.stop)
            for temporary, render in opened:
                temporary.write_text(render(report, mutants), encoding="utf-8")
        passed = passed and report.passed
    return 0 if passed else 1


def read_mutants(path: Path) -> list[dict[str, Any]]:
    """What `mutants --json` wrote."""
    try:
        found = json_values.read(path)
    except ValueError as error:
        raise UserError(f"{path} is not what `mutants --json` writes: {error}") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) and "caught_by" in row for row in found):
        raise UserError(f"{path} is not what `mutants --json` writes: it holds no list of mutants")
    return found
