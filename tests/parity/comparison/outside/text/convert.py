"""The weights of the PyTorch network for text, as Flax's."""

from __future__ import annotations

from typing import Any

DIM, HEADS, SIZE, HIDDEN = 32, 4, 8, 40


def convert(t: dict[str, Any]) -> dict[str, Any]:
    """Return {path in Flax: array} of {name in PyTorch: array}."""
    out = {
        "embed.embedding": t["embed.weight"],
        "positions": t["position"][0],
        "output_bias": t["lm_head.bias"],
        "log_temperature": t["temperature"],
        "rms1.scale": t["decoder.norm1.weight"],
        "rms2.scale": t["decoder.norm2.weight"],
        "gated.gate.kernel": t["decoder.ffn.w12.weight"][:HIDDEN].T,
        "gated.up.kernel": t["decoder.ffn.w12.weight"][HIDDEN:].T,
        "gated.down.kernel": t["decoder.ffn.w3.weight"].T,
        "rotary.wo.kernel": t["decoder.attn.proj.weight"].T,
        "attention.attention.out.kernel": t["encoder.attn.proj.weight"].T.reshape(HEADS, SIZE, DIM),
        "attention.attention.out.bias": t["encoder.attn.proj.bias"],
    }
    fused = t["encoder.attn.qkv.weight"].reshape(3, HEADS, SIZE, DIM)
    bias = t["encoder.attn.qkv.bias"].reshape(3, HEADS, SIZE)
    for i, name in enumerate(("query", "key", "value")):
        out[f"attention.attention.{name}.kernel"] = fused[i].transpose(2, 0, 1)
        out[f"attention.attention.{name}.bias"] = bias[i]
    rows = t["decoder.attn.qkv.weight"]
    for i, name in enumerate(("wq", "wk", "wv")):
        out[f"rotary.{name}.kernel"] = rows[i * DIM : (i + 1) * DIM].T
    norms = {"encoder.norm1": "attention.ln", "encoder.norm2": "feed_forward.ln", "norm": "last_norm"}
    for theirs, ours in norms.items():
        out[f"{ours}.scale"] = t[f"{theirs}.weight"]
        out[f"{ours}.bias"] = t[f"{theirs}.bias"]
    linears = {
        "encoder.mlp.0": "feed_forward.wide", "encoder.mlp.3": "feed_forward.narrow",
        "score": "pool", "classifier": "classify",
    }  # fmt: skip
    for theirs, ours in linears.items():
        out[f"{ours}.kernel"] = t[f"{theirs}.weight"].T
        out[f"{ours}.bias"] = t[f"{theirs}.bias"]
    return out
