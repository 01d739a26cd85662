"""Why a tensor has no counterpart, or shares one."""

from __future__ import annotations

from parity.cause import Cause
from parity.comparison.findings import Place
from parity.comparison.mapping.mapping import TensorMap
from parity.comparison.sides.torch_side import TorchSide


def of_tensor(place: Place, mapped: TensorMap, side: TorchSide, shared: set[str]) -> Cause:
    """The cause at a place of the mapping that is not as it should be."""
    if place.flax in shared:
        name = mapped.sources[place.flax].names[0]
        paths = " and ".join(mapped.copies[name])
        tied = [further for further, first in side.tied.items() if first == name]
        words = f"tied in PyTorch ({', '.join([name, *tied])})" if tied else f"one tensor in PyTorch ({name})"
        return Cause("weight tying", f"{words}, separate in Flax ({paths}): they drift apart in training")
    if place.flax in mapped.left_out:
        return Cause("mapping", "the converter gives it nothing, so it keeps its initial value")
    if place.flax:
        return Cause("missing parameter", "Flax has a tensor that nothing of PyTorch fits")
    shape = side.tensors()[place.torch].shape
    alike = [
        path for path, source in mapped.sources.items()
        if len(source.names) == 1 and side.tensors()[source.names[0]].shape == shape
    ]  # fmt: skip
    words = "PyTorch has a tensor that goes nowhere in Flax"
    if len(shape) == 2 and len(alike) == 1:
        return Cause("weight tying", f"{words}; {alike[0]} has its size: is that tied in Flax?")
    return Cause("missing parameter", words)
