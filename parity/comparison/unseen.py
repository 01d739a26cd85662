"""What a comparison of one mode did not look at, or left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.cause import Cause
from parity.comparison import links, refusals
from parity.comparison.findings import DROPOUT, Place, exact
from parity.comparison.flax_mode import FlaxMode
from parity.comparison.flax_part import FlaxNetwork
from parity.comparison.recording import Recording
from parity.comparison.structure import Structure


def unseen(
    theirs: Recording, ours: FlaxMode, free: Recording, structure: Structure, network: FlaxNetwork
) -> list[str]:
    """Modules and tensors that a mode does not judge on their own, in words.

    Args:
      theirs: PyTorch's free run.
      ours: Flax's mode.
      free: its free run in float64.
      structure: of PyTorch's network.
      network: Flax's.
    """
    found = [*ours.odd, *links.without_link(ours.twins, ours.links, theirs, free)]
    reasons: dict[str, list[str]] = {}
    for path, why in ours.described.opaque.items():
        reasons.setdefault(why, []).append(path)
    found += [f"in Flax {why}: {refusals.listed(paths)}" for why, paths in reasons.items()]
    called_t, called_f = ({path for path, _ in run.order} for run in (theirs, ours.described))
    for who, owned, called in (("PyTorch", structure.owned, called_t), ("Flax", network.owned, called_f)):
        idle = [p for p, names in owned.items() if p and names and p not in called]
        idle = [p for p in idle if not any(q != p and q.startswith(f"{p}.") for q in owned if owned[q])]
        if idle:
            found.append(
                f"never called as modules in {who}, so part of what is around them: {refusals.listed(idle)}"
            )
    for path, source in network.mapped.sources.items():
        arrays = [free.grads.get(path, 1), *(theirs.grads.get(n, 0) for n in source.names)]
        if free.grads and not any(np.any(array) for array in arrays):
            found.append(f"{path}: these inputs give it no gradient on either side")
    return found


def dropouts_in_eval(theirs: Recording, described: Recording) -> list[Place]:
    """Dropouts that are on in eval mode; comparisons leave them out."""
    found = []
    for who, run in (("PyTorch", theirs), ("Flax", described)):
        for path, rate in dict.fromkeys(run.dropouts):
            words = f"dropout of rate {rate:g} is on in eval mode in {who}"
            paths = (path, "") if who == "PyTorch" else ("", path)
            found.append(exact(DROPOUT, *paths, Cause("dropout", words)))
    return found


def notes(theirs: Recording, ours: FlaxMode) -> list[str]:
    """Dropouts that were left out, and cuts that were taken away."""
    found = []
    rates_t, rates_f = ([d.rate for d in run.dropouts] for run in (theirs, ours.described))
    if sorted(rates_t) != sorted(rates_f):
        found.append(
            f"dropout was left out; active were {_rates(rates_t)} in PyTorch, {_rates(rates_f)} in Flax"
        )
    names = dict.fromkeys(one.torch.path for one in ours.links if one.flax in ours.elsewhere)
    if names:
        found.append(
            "ends at another place than its counterpart, so it is judged together with what is behind it: "
            f"{refusals.listed(names)}"
        )
    return found


def _rates(rates: Sequence[float]) -> str:
    if not rates:
        return "none"
    return ", ".join(f"{rates.count(rate)} of rate {rate:g}" for rate in dict.fromkeys(rates))
