"""The proposal of a mapping where shapes alone don't decide."""

from __future__ import annotations

from parity.comparison.mapping.propose import propose
from parity.comparison.mapping.units import Unit


def test_numbers_in_names_do_not_exchange_layers_of_one_shape():
    """The last convolution of a bottleneck and its shortcut have one shape and run in one order."""
    kernel = {"kernel": (1, 1, 8, 32)}
    theirs = [
        Unit(f"layer1.0.{name}", "Conv2d", {"weight": (32, 8, 1, 1)}) for name in ("conv3", "downsample.0")
    ]
    ours = [Unit(f"BottleneckResNetBlock_0.{name}", "Conv", kernel) for name in ("Conv_2", "conv_proj")]
    sources = propose(theirs, ours)
    assert {path: source.names for path, source in sources.items()} == {
        "BottleneckResNetBlock_0.Conv_2.kernel": ("layer1.0.conv3.weight",),
        "BottleneckResNetBlock_0.conv_proj.kernel": ("layer1.0.downsample.0.weight",),
    }
