"""The flags of `python -m parity describe` and `record`, and what they say."""

from __future__ import annotations

import argparse
from pathlib import Path

from parity import flags
from parity.comparison.levels import ALL
from parity.comparison.memory import size
from parity.comparison.progress import Progress
from recipe.system import backend, files

FILE = "FILE.py[:FUNCTION]"


def add_describe_flags(parser: argparse.ArgumentParser) -> None:
    """Add those of `describe`."""
    parser.add_argument(
        "half", type=flags.file_and_function, metavar=FILE,
        help="a file with a function that returns a parity.TorchHalf",
    )  # fmt: skip
    parser.add_argument("--out", type=files.expanded, metavar="FOLDER", required=True, help="where it goes")
    parser.add_argument("--levels", default="1-5", metavar="A-B", help="which levels will be compared")
    parser.add_argument("--memory", metavar="SIZE", help="what captured values may take, such as 8G")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run_describe(options: argparse.Namespace) -> int:
    """Describe a PyTorch network; JAX need not be installed."""
    levels = flags.level_range(options.levels, max(ALL))
    memory = None if options.memory is None else size(options.memory)

    from parity.comparison import pair_file
    from parity.comparison.offline.describe import describe_half

    progress = Progress(options.quiet)
    progress(f"loading {options.half}")
    half = pair_file.load_torch(options.half)
    describe_half(half, options.out, levels=levels, memory=memory, progress=progress)
    print(
        f"Described {type(half.model).__name__} in {options.out} ({_size(options.out)}). Next, where JAX is: "
        f"python -m parity record FILE.py {options.out}"
    )
    return 0


def add_record_flags(parser: argparse.ArgumentParser) -> None:
    """Add those of `record`."""
    parser.add_argument(
        "half", type=flags.file_and_function, metavar=FILE,
        help="a file with a function that returns a parity.FlaxHalf",
    )  # fmt: skip
    parser.add_argument("folder", type=files.expanded, metavar="FOLDER", help="that describe wrote")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run_record(options: argparse.Namespace) -> int:
    """Run a Flax network as a description asks for; PyTorch need not be installed."""
    import jax

    from parity.comparison import pair_file
    from parity.comparison.offline.record import record_half

    backend.start(jax.devices)
    progress = Progress(options.quiet)
    progress(f"loading {options.half}")
    half = pair_file.load_flax(options.half)
    record_half(half, options.folder, progress=progress)
    print(
        f"Recorded Flax's runs in {options.folder} ({_size(options.folder)}). Next, where PyTorch is: "
        f"python -m parity compare FILE.py --recorded {options.folder}"
    )
    return 0


def _size(folder: Path) -> str:
    """Of all files in it, in words."""
    count = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{count / 1e6:.1f} MB"
