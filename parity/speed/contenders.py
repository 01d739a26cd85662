"""Who takes part. This is the one list of them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from parity.speed.jobs import Contender
from recipe.system.errors import UserError

LAYOUTS = ("NCHW", "channels_last")
# How PyTorch computes → mode of torch.compile. On a GPU, max-autotune picks among kernels, and replays CUDA
# graphs as well; on a CPU it only tunes matrix products.
EAGER = {"eager": ""}
COMPILE_MODES = {
    "cpu": {"compiled": "default"},
    "cuda": {"compiled": "default", "CUDA graphs": "reduce-overhead", "max-autotune": "max-autotune"},
}
# On a CPU a loop makes JAX's step tens of times slower (jax #12868); training runs one step there as well.
STEPS_PER_DISPATCH = {"cpu": 1, "cuda": 10}
# multiples of it, and so many that what an epoch costs once is little
EPOCH_STEPS = {"cpu": 8, "cuda": 100}
# JAX's settings of the network: name → config fields other than the default's. A setting that a config field
# chooses gets a line here. Where native kernels can't be had, both settings on a CPU are the same.
JAX_SETTINGS: dict[str, dict[str, dict[str, object]]] = {
    "cpu": {"JAX": {"cpu_kernels": "auto"}, "JAX, XLA alone": {"cpu_kernels": "xla"}},
    "cuda": {"JAX": {}},
}
REFERENCE = Contender("torch", "the reference", layout="channels_last")
LAYERS_REFERENCE = Contender("torch", "PyTorch", layout="channels_last")
PEAKS = (Contender("torch", "the peaks of PyTorch"), Contender("jax", "the peaks of JAX"))


def everybody(device: str, *, compiled: bool, steps_per_dispatch: int = 0) -> list[Contender]:
    """All contenders.

    Args:
      device: "cpu" or "cuda".
      compiled: whether torch.compile takes part.
      steps_per_dispatch: how many steps of JAX's train step run in one program, beside one step; 1 leaves
        that out, 0 takes the device's default.
    """
    modes = EAGER | (COMPILE_MODES[device] if compiled else {})
    theirs = [
        Contender("torch", f"PyTorch {how} {layout}", layout=layout, compile_mode=mode)
        for how, mode in modes.items()
        for layout in LAYOUTS
    ]
    steps = steps_per_dispatch or STEPS_PER_DISPATCH[device]
    ours = [
        Contender(
            "jax",
            name if count == 1 else f"{name}, {count} steps per dispatch",
            config=(*fields.items(), ("steps_per_dispatch", count)),
        )
        for name, fields in JAX_SETTINGS[device].items()
        for count in sorted({1, steps})
    ]
    return theirs + ours


def chosen(players: Sequence[Contender], patterns: Sequence[str]) -> list[Contender]:
    """Those whose names match a pattern, such as "JAX*" or "*channels_last"; all of them without patterns.

    Raises:
      UserError: if a pattern matches nobody.
    """
    for pattern in patterns:
        if not any(fnmatchcase(player.name, pattern) for player in players):
            names = ", ".join(repr(player.name) for player in players)
            raise UserError(f"--contenders: nobody is called {pattern!r}; there are {names}")
    return [p for p in players if not patterns or any(fnmatchcase(p.name, pattern) for pattern in patterns)]


def for_layers(device: str) -> list[Contender]:
    """Who takes part in `--layers`: the reference's framework in one layout, and every setting of JAX."""
    settings = JAX_SETTINGS[device]
    return [
        LAYERS_REFERENCE,
        *(Contender("jax", name, config=tuple(fields.items())) for name, fields in settings.items()),
    ]


def without_compiler() -> str:
    """Why torch.compile can't be had, or "": it builds C++ with the machine's compiler."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler):
        return ""
    return f"there is no C++ compiler ({compiler}; set CXX), so torch.compile was left out"
