"""How long comparisons take, and how much memory: `python -m tests.parity.comparison.sizes`, a row for each.

Every pair runs in a process of its own, in float64 and float32. Levels 1 to 3 are mapping and both modes
without gradients; a vision transformer's modes are the same, so eval mode alone is compared, with gradients.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import time

import numpy as np

from parity.comparison.api import compare_pair
from parity.comparison.pair import Pair
from parity.verify import cases
from parity.verify.networks import to_flax
from tests.parity.comparison.pairs import vit

ROWS = {  # name → levels
    "resnet18 16": (1, 2, 3), "resnet18 32": (1, 2, 3), "resnet18 64": (1, 2, 3),
    "resnet34 64": (1, 2, 3), "resnet18 64 with gradients": (1, 2, 3, 4),
    "vit 6×192": (1, 2, 4), "vit 12×192": (1, 2, 4), "vit 12×384": (1, 2, 4), "vit 12×768": (1, 2, 4),
}  # fmt: skip


def make(name: str) -> Pair:
    """A pair by its name: a ResNet and its width, or a transformer's blocks and width."""
    kind, what, *_ = name.split(" ")
    if kind == "vit":
        blocks, width = map(int, what.split("×"))
        size = vit.Size(224, 16, width, width // 64, 4 * width, blocks, 1000)
        return vit.make(size, exact=True, modes=("eval",))
    case = cases.from_description(cases.describe(kind, "cifar", int(what)), seed=0, cpu_kernels="xla")
    images = case.images(4, 32).astype(np.float32).transpose(0, 3, 1, 2)
    return Pair(case.torch("f32").network, case.flax("f32").network, inputs=[images], weights=to_flax)


def main() -> None:
    """Print a table, or with a row's name that row."""
    if len(sys.argv) == 1:
        print("| pair | million parameters | levels | s | GiB |\n|---|--:|---|--:|--:|", flush=True)
        for name in ROWS:
            subprocess.run([sys.executable, "-m", __spec__.name, name], check=True)
        return
    name = sys.argv[1]
    pair = make(name)
    started = time.monotonic()
    report = compare_pair(pair, levels=ROWS[name], memory=math.inf)  # what it takes is what is asked
    seconds = time.monotonic() - started
    parameters = sum(p.numel() for p in pair.torch_model.parameters()) / 1e6
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    verdict = "" if report.passed else ", NOT the same"
    print(f"| {name}{verdict} | {parameters:.1f} | {ROWS[name]} | {seconds:.0f} | {gib:.1f} |", flush=True)


if __name__ == "__main__":
    main()
