"""jax-ml/bonsai Whisper's encoder (NNX) beside transformers', one layer wide as published; weights proposed by the tool, the heads' given."""
import dataclasses
import numpy as np
import parity
from bonsai.models.whisper import modeling
from flax import nnx
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder


def pair():
    shape = dict(d_model=32, encoder_layers=1, encoder_attention_heads=4, encoder_ffn_dim=64, num_mel_bins=10, max_source_positions=16)
    torch_model = WhisperEncoder(WhisperConfig(**shape, activation_function="gelu"))
    flax_model = modeling.WhisperEncoder(dataclasses.replace(modeling.ModelConfig.whisper_tiny(), **shape), rngs=nnx.Rngs(0))
    sound, weights = np.random.default_rng(0).normal(size=(2, 10, 32)).astype(np.float32), {}
    for name, part in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
        weights[f"layers.0.self_attn.{part}.kernel"] = ([f"layers.0.self_attn.{name}.weight"], lambda w: w.T.reshape(32, 4, 8))
    return parity.Pair(torch_model, flax_model, inputs=[sound], weights=weights, flax_inputs=lambda inputs: [inputs[0].swapaxes(1, 2)])
