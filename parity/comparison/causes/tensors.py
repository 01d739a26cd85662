"""Why a tensor has no counterpart, or shares one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.cause import Cause
from parity.comparison.mapping.mapping import TensorMap


def of_flax(path: str, mapped: TensorMap, tied: Mapping[str, str]) -> Cause:
    """The cause at a tensor of Flax; `tied` has a tied tensor's further name → its first, in PyTorch."""
    source = mapped.sources.get(path)
    name = source.names[0] if source else ""
    if name in mapped.copies:
        further = [other for other, first in tied.items() if first == name]
        words = (
            f"tied in PyTorch ({', '.join([name, *further])})"
            if further
            else f"one tensor in PyTorch ({name})"
        )
        paths = " and ".join(mapped.copies[name])
        return Cause("weight tying", f"{words}, separate in Flax ({paths}): they drift apart in training")
    if path in mapped.left_out:
        return Cause("mapping", "the converter gives it nothing, so it keeps its initial value")
    return Cause("missing parameter", "Flax has a tensor that nothing of PyTorch fits")


def of_torch(name: str, mapped: TensorMap, shapes: Mapping[str, Any]) -> Cause:
    """The cause at a tensor of PyTorch that goes nowhere; `shapes` are PyTorch's."""
    alike = [
        path for path, source in mapped.sources.items()
        if len(source.names) == 1 and shapes[source.names[0]] == shapes[name]
    ]  # fmt: skip
    words = "PyTorch has a tensor that goes nowhere in Flax"
    if len(shapes[name]) == 2 and len(alike) == 1:
        return Cause("weight tying", f"{words}; {alike[0]} has its size: is that tied in Flax?")
    return Cause("missing parameter", words)
