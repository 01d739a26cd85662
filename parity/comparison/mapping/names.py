"""How alike two modules' names are, where two libraries call the same thing differently."""

from __future__ import annotations

import difflib
import functools
import re

SYNONYMS = (
    ("query", "q"), ("key", "k"), ("value", "v"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
    ("q_proj", "q"),
    ("k_proj", "k"), ("v_proj", "v"), ("wq", "q"), ("wk", "k"), ("wv", "v"), ("wo", "out"),
    ("out_proj", "out"), ("o_proj", "out"), ("to_out", "out"), ("convolution", "conv"),
    ("normalization", "bn"), ("batch_norm", "bn"), ("batchnorm", "bn"), ("layer_norm", "norm"),
    ("layernorm", "norm"), ("ln", "norm"), ("downsample", "shortcut"), ("identity", "shortcut"),
    ("proj_bn", "shortcut"), ("classifier", "head"), ("fc", "head"), ("linear", "dense"),
    ("attn", "attention"), ("mha", "attention"), ("emb", "embedding"), ("embed", "embedding"),
    ("embeddings", "embedding"), ("wte", "token embedding"), ("wpe", "position embedding"),
)  # fmt: skip


@functools.lru_cache(maxsize=65536)
def alike(a: str, b: str, digits: bool = True) -> float:
    """From 0 to 1; without `digits` numbers don't count: bn1, bn2 beside bn0, bn1 mislead."""
    words_a, words_b = _words(a, digits), _words(b, digits)
    return difflib.SequenceMatcher(None, words_a, words_b, autojunk=False).ratio()


@functools.lru_cache(maxsize=65536)
def _words(path: str, digits: bool) -> tuple[str, ...]:
    split = re.sub(r"([a-z])([A-Z])", r"\1_\2", path).lower()
    joined = " ".join(part for part in re.split(r"[._/]", split) if part)
    for a, b in SYNONYMS:
        joined = re.sub(rf"\b{a.replace('_', ' ')}\b", b, joined)
    words = joined.split()
    return tuple(words) if digits else tuple(w for word in words if (w := re.sub(r"\d+", "", word)))
