"""The weights of the PyTorch network for series, as Flax's."""

from __future__ import annotations

from typing import Any

HIDDEN = 12


def reordered(w: Any) -> Any:
    """The gates of an LSTM: input, forget, cell, output → input, cell, forget, output."""
    return w.reshape(4, HIDDEN, -1)[[0, 2, 1, 3]].reshape(w.shape)


def convert(t: dict[str, Any]) -> dict[str, Any]:
    """Return {path in Flax: array} of {name in PyTorch: array}."""
    out = {
        "days.embedding": t["weekday.weight"],
        "lstm.from_input.kernel": reordered(t["encoder.weight_ih_l0"]).T,
        "lstm.from_input.bias": reordered(t["encoder.bias_ih_l0"]),
        "lstm.from_state.kernel": reordered(t["encoder.weight_hh_l0"]).T,
        "lstm.from_state.bias": reordered(t["encoder.bias_hh_l0"]),
        "ln.scale": t["norm.weight"],
        "ln.bias": t["norm.bias"],
        "summary.kernel": t["context.weight"].T,
        "summary.bias": t["context.bias"],
        "dense.kernel": t["readout.0.weight"].T,
        "dense.bias": t["readout.0.bias"],
        "values.kernel": t["readout.3.weight"].T,
        "values.bias": t["readout.3.bias"],
    }
    for i, gate in enumerate(("reset", "update", "new")):
        rows = slice(i * HIDDEN, (i + 1) * HIDDEN)
        out[f"gru.{gate}.x.kernel"] = t["cell.weight_ih"][rows].T
        out[f"gru.{gate}.x.bias"] = t["cell.bias_ih"][rows]
        out[f"gru.{gate}.h.kernel"] = t["cell.weight_hh"][rows].T
        out[f"gru.{gate}.h.bias"] = t["cell.bias_hh"][rows]
    return out
