"""Why a tensor has no counterpart, or shares one."""

from __future__ import annotations

from parity.cause import Cause
from parity.comparison.mapping.mapping import TensorMap
from parity.comparison.structure import Structure


def of_flax(path: str, mapped: TensorMap, structure: Structure) -> Cause:
    """The cause at a tensor of Flax."""
    source = mapped.sources.get(path)
    name = source.names[0] if source else ""
    tied = structure.tied
    if name in mapped.copies:
        lost = [n for n in mapped.without_destination if structure.shapes[n] == structure.shapes[name]]
        if lost:
            return _astray(name, lost[0], mapped)
        further = [other for other, first in tied.items() if first == name]
        words = (
            f"tied in PyTorch ({', '.join([name, *further])})"
            if further
            else f"one tensor in PyTorch ({name})"
        )
        paths = " and ".join(mapped.copies[name])
        return Cause("weight tying", f"{words}, separate in Flax ({paths}): they drift apart in training")
    if path in mapped.left_out and path in separate(mapped, structure):
        again = separate(mapped, structure)[path]
        words = f"{tied[again]} and {again} are tied in PyTorch; this one is neither"
        return Cause("weight tying", f"{words}: the converter gives it nothing")
    if path in mapped.left_out:
        return Cause("mapping", "the converter gives it nothing, so it keeps its initial value")
    return Cause("missing parameter", "Flax has a tensor that nothing of PyTorch fits")


def separate(mapped: TensorMap, structure: Structure) -> dict[str, str]:
    """Tensors of Flax without a source → further names of tied ones of PyTorch, if there are as many.

    Their sizes are not compared: both networks have as many of them, and each has its order.
    """
    if len(mapped.left_out) != len(structure.tied):
        return {}
    return dict(zip(mapped.left_out, structure.tied, strict=True))


def _astray(name: str, lost: str, mapped: TensorMap) -> Cause:
    paths = " and ".join(mapped.copies[name])
    words = f"{name} goes to {paths}, while {lost} of its size goes nowhere"
    return Cause("mapping", f"{words}: one of these is its place")


def of_torch(name: str, mapped: TensorMap, structure: Structure) -> Cause:
    """The cause at a tensor of PyTorch that goes nowhere."""
    if name in structure.uniform and name not in structure.parameters:
        return Cause(
            "missing parameter",
            "a buffer of PyTorch goes nowhere in Flax; it is one number throughout, so other values in a "
            "checkpoint would be lost unseen: allow it if it is a constant",
        )
    shapes = structure.shapes
    for copied in mapped.copies:
        if shapes[copied] == shapes[name]:
            return _astray(copied, name, mapped)
    alike = [
        path for path, source in mapped.sources.items()
        if len(source.names) == 1 and shapes[source.names[0]] == shapes[name]
    ]  # fmt: skip
    words = "PyTorch has a tensor that goes nowhere in Flax"
    if len(shapes[name]) == 2 and len(alike) == 1:
        return Cause("weight tying", f"{words}; {alike[0]} has its size: is that tied in Flax?")
    return Cause("missing parameter", words)
