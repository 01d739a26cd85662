"""Who takes part. This is the one list of them."""

from __future__ import annotations

import os
import shutil
import sys

from parity.speed.jobs import Contender

LAYOUTS = ("NCHW", "channels_last")
# On a GPU, max-autotune picks among kernels and replays CUDA graphs; on a CPU it only tunes matrix products.
COMPILE_MODES = {"cpu": "default", "cuda": "max-autotune"}
# JAX's ways to run the network: name → config fields. A way that a config field chooses gets a line here.
JAX_WAYS: dict[str, dict[str, object]] = {"JAX": {}}
REFERENCE = Contender("torch", "the reference", layout="channels_last")
GEMMS = (Contender("torch", "GEMM in PyTorch"), Contender("jax", "GEMM in JAX"))


def everybody(device: str, *, compiled: bool) -> list[Contender]:
    """All contenders on a kind of device ("cpu" or "cuda"), with or without torch.compile."""
    modes = {"eager": ""} | ({"compiled": COMPILE_MODES[device]} if compiled else {})
    theirs = [
        Contender("torch", f"PyTorch {how} {layout}", layout=layout, compile_mode=mode)
        for how, mode in modes.items()
        for layout in LAYOUTS
    ]
    ours = [Contender("jax", name, config=tuple(fields.items())) for name, fields in JAX_WAYS.items()]
    return theirs + ours


def without_compiler() -> str:
    """Why torch.compile can't be had, or "": it builds C++ with the machine's compiler."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler):
        return ""
    return f"there is no C++ compiler ({compiler}; set CXX), so torch.compile was left out"
