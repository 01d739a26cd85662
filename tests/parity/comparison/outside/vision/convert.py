"""The weights of the PyTorch network for images, as Flax's."""

from __future__ import annotations

from typing import Any


def hwio(w: Any) -> Any:
    """A convolution's kernel: (out, in, height, width) → (height, width, in, out)."""
    return w.transpose(2, 3, 1, 0)


def convert(t: dict[str, Any]) -> dict[str, Any]:
    """Return {path in Flax: array} of {name in PyTorch: array}."""
    out = {
        "stem.conv.kernel": hwio(t["stem.0.weight"]),
        "spatial.kernel": hwio(t["depthwise.0.weight"]),
        "spatial.bias": t["depthwise.0.bias"],
        "groups.scale": t["depthwise.1.weight"],
        "groups.bias": t["depthwise.1.bias"],
        "residual.first.conv.kernel": hwio(t["block.conv1.weight"]),
        "residual.second.conv.kernel": hwio(t["block.conv2.weight"]),
        "decoder.kernel": t["up.weight"].transpose(2, 3, 0, 1)[::-1, ::-1],
        "decoder.bias": t["up.bias"],
        "hidden.kernel": t["head.1.weight"].reshape(24, 16, 2, 3).transpose(2, 3, 1, 0).reshape(96, 24),
        "hidden.bias": t["head.1.bias"],
        "classifier.kernel": t["head.4.weight"].T,
        "classifier.bias": t["head.4.bias"],
    }
    batch_norms = {"stem.1": "stem", "block.bn1": "residual.first", "block.bn2": "residual.second"}
    for theirs, ours in batch_norms.items():
        out[f"{ours}.norm.scale"] = t[f"{theirs}.weight"]
        out[f"{ours}.norm.bias"] = t[f"{theirs}.bias"]
        out[f"{ours}.norm.mean"] = t[f"{theirs}.running_mean"]
        out[f"{ours}.norm.var"] = t[f"{theirs}.running_var"]
    for theirs, ours in {"norm1": "ln_tokens", "norm2": "ln_channels"}.items():
        out[f"mixer.{ours}.scale"] = t[f"mixer.{theirs}.weight"]
        out[f"mixer.{ours}.bias"] = t[f"mixer.{theirs}.bias"]
    linears = {
        "token_mlp.fc1": "tokens_in", "token_mlp.fc2": "tokens_out",
        "channel_mlp.fc1": "channels_in", "channel_mlp.fc2": "channels_out",
    }  # fmt: skip
    for theirs, ours in linears.items():
        out[f"mixer.{ours}.kernel"] = t[f"mixer.{theirs}.weight"].T
        out[f"mixer.{ours}.bias"] = t[f"mixer.{theirs}.bias"]
    return out
