"""mlcommons/algorithmic-efficiency: DeepSpeech of LibriSpeech, linen beside PyTorch: a bidirectional LSTM over padded sequences (two biases beside one).

The logits are compared where there is sound, as in tests/modeldiffs/librispeech_deepspeech/compare.py."""
import jax
import numpy as np
import parity
import torch
from algoperf.workloads.librispeech_deepspeech.librispeech_jax import models as jax_models
from algoperf.workloads.librispeech_deepspeech.librispeech_pytorch import models as torch_models


def pair():
    config = dict(vocab_size=17, encoder_dim=32, num_lstm_layers=1, num_ffn_layers=1, use_specaug=False)
    torch_model, module = torch_models.DeepspeechEncoderDecoder(torch_models.DeepspeechConfig(**config)), jax_models.Deepspeech(jax_models.DeepspeechConfig(**config))
    sound, padding = np.random.default_rng(0).normal(size=(2, 8000)).astype(np.float32), (np.arange(8000) >= [[8000], [5000]]).astype(np.int64)
    torch_model.eval()(torch.tensor(sound), torch.tensor(padding).float())  # lazy layers get their shapes
    variables, weights = module.init(jax.random.key(0), sound, padding.astype(np.float32), train=False), {}
    seen = lambda o: o[0] * (1 - o[1][:, :, None])
    for i, end in enumerate(["", "_reverse"]):
        cell = f"BatchRNN_0.LSTM_0.LSTM.LSTMSequenceEncoder_{i}.cell"
        for j, gate in enumerate("ifgo"):
            weights[f"{cell}.i{gate}.kernel"] = ([f"lstms.0.lstm.weight_ih_l0{end}"], lambda w, j=j: np.split(w, 4)[j].T)
            weights[f"{cell}.h{gate}.kernel"] = ([f"lstms.0.lstm.weight_hh_l0{end}"], lambda w, j=j: np.split(w, 4)[j].T)
            weights[f"{cell}.h{gate}.bias"] = ([f"lstms.0.lstm.bias_ih_l0{end}", f"lstms.0.lstm.bias_hh_l0{end}"], lambda a, b, j=j: np.split(a + b, 4)[j])
    return parity.Pair(torch_model, (module, variables), inputs=[sound, padding], weights=weights, torch_call=lambda m, x, p, train: seen(m(x, p.to(x.dtype), dropout_rate=0.0)),
                       flax_call=lambda m, x, p, train: seen(m(x, p.astype(x.dtype), train=train, dropout_rate=0.0, rngs={"dropout": jax.random.key(0)})))
