"""A pair in float64, without the tool: results, statistics and gradients of both, in Flax's layouts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

Arrays = dict[str, np.ndarray]


def disturbed(model: nn.Module, seed: int = 0) -> Arrays:
    """The model's tensors, others where they are constant: a scale of 1 or a bias of 0 hides mistakes."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        array = tensor.detach().double().numpy()
        if array.size and tensor.is_floating_point():
            if np.ptp(array) == 0:
                array = array + rng.uniform(-0.5, 0.5, array.shape)
            tensors[name] = np.asarray(array, np.float32).astype(np.float64)
    return tensors


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Both frameworks compute in float64, also where attention goes through float32."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with jax.enable_x64(True), mock.patch.object(jax.nn, "dot_product_attention", _attention):
            yield
    finally:
        torch.set_default_dtype(default)


def run_torch(pair: dict[str, Any], tensors: Arrays, train: bool) -> tuple[Arrays, Arrays, Arrays]:
    """Results, what the tensors are afterwards, and their gradients, all in PyTorch's names, in float64."""
    model = pair["torch_model"].double().train(train)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name in tensors:
                tensor.copy_(torch.from_numpy(tensors[name].copy()))
    model.zero_grad()
    for module in model.modules():
        if isinstance(module, nn.Dropout) and train:
            module.p = 0.0
    inputs = [torch.from_numpy(_wide(x, np.float64)) for x in pair["inputs"]]
    results = _named(pair["torch_call"](model, *inputs, train=train))
    torch.stack(
        [(r * torch.from_numpy(_weights(r.detach().numpy()))).sum() for r in results.values()]
    ).sum().backward()
    after = {n: t.detach().numpy().copy() for n, t in (*model.named_parameters(), *model.named_buffers())}
    gradients = {n: np.zeros_like(a) for n, a in tensors.items()}
    gradients |= {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    return {n: _channels_last(r.detach().numpy()) for n, r in results.items()}, after, gradients


def run_flax(
    pair: dict[str, Any], arrays: Arrays, train: bool, dtype: Any, gradients: bool
) -> tuple[Arrays, Arrays, Arrays]:
    """Results, statistics afterwards, and gradients (none unless asked for), in Flax's names."""
    model = nnx.clone(pair["flax_model"])
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Dropout) and train:
            module.rate = 0.0
        if getattr(module, "dtype", None) is not None:
            module.dtype = dtype
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)
    parameters, rest = (_filled(state, arrays, dtype) for state in (parameters, rest))
    inputs = [_wide(x, dtype) for x in pair["inputs"]]
    inputs = [jnp.asarray(x) for x in pair.get("flax_inputs", lambda *x: x)(*inputs)]

    def loss(parameters: Any) -> Any:
        model = nnx.merge(graph, parameters, rest, copy=True)
        results = _named(pair["flax_call"](model, *inputs, train=train))
        total = sum(jnp.sum(r * _weights(r, last=True).astype(dtype)) for r in results.values())
        return total, (results, nnx.state(model, nnx.BatchStat))

    if gradients:
        found, (results, statistics) = jax.grad(loss, has_aux=True)(parameters)
    else:
        found, (_, (results, statistics)) = {}, loss(parameters)
    return _numpy(results), _flat(statistics), _flat(found)


def differences(pair: dict[str, Any], train: bool, gradients: bool = True) -> dict[str, float]:
    """How far the networks are apart, by name, as a share of the largest number there; inf for one alone."""
    tensors = disturbed(pair["torch_model"])
    with float64():
        ours = run_flax(pair, pair["weights"](tensors), train, np.float64, gradients)
        theirs = run_torch(pair, tensors, train)
    results, after, found = theirs
    wanted = _numpy(results), pair["weights"](after), pair["weights"](found) if gradients else {}
    apart = {}
    for what, a, b in zip(("result", "statistic", "gradient"), ours, wanted, strict=True):
        for name in (*a, *(n for n in b if what == "result" and n not in a)):
            apart[f"{what} {name}"] = _distance(a.get(name), b.get(name))
    return apart


def unpaired(pair: dict[str, Any]) -> set[str]:
    """Flax's tensors that get nothing, arrays that none takes, and tensors of PyTorch that go nowhere."""
    tensors = disturbed(pair["torch_model"])
    owned = set(_flat(nnx.state(pair["flax_model"], nnx.Any(nnx.Param, nnx.BatchStat))))
    numbers = np.cumsum([0, *(a.size for a in tensors.values())])
    names = dict(zip(tensors, numbers[:-1], strict=True))
    moved = pair["weights"](
        {n: start + np.arange(tensors[n].size).reshape(tensors[n].shape) for n, start in names.items()}
    )
    used = np.concatenate([np.ravel(a) for a in moved.values()])
    lost = {n for n, start in names.items() if not np.isin(start + np.arange(tensors[n].size), used).all()}
    return owned ^ set(moved) | lost


def _attention(q: Any, k: Any, v: Any, bias: Any = None, mask: Any = None, **_: Any) -> Any:
    """`jax.nn.dot_product_attention`, whose softmax is in float32 whatever it is given."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
    scores = scores if mask is None else jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)


def _wide(x: np.ndarray, dtype: Any) -> np.ndarray:
    return x.astype(dtype) if x.dtype.kind == "f" else x


def _named(tree: Any) -> dict[str, Any]:
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in found}


def _channels_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, 1, -1) if a.ndim == 4 else a


def _weights(a: Any, last: bool = False) -> np.ndarray:
    """Random numbers of a result's shape, the same in both layouts."""
    images = a.ndim == 4
    shape = (a.shape[0], a.shape[3], *a.shape[1:3]) if images and last else a.shape
    drawn = np.random.default_rng(len(a.shape)).normal(size=shape)
    return _channels_last(drawn) if last else drawn


def _filled(state: Any, arrays: Arrays, dtype: Any) -> Any:
    def fill(path: Any, variable: Any) -> Any:
        name = ".".join(map(str, path))
        if name in arrays and np.shape(arrays[name]) == variable.shape:
            return variable.replace(jnp.asarray(arrays[name].astype(dtype)))
        return variable

    return nnx.from_flat_state([(path, fill(path, v)) for path, v in nnx.to_flat_state(state)])


def _flat(state: Any) -> Arrays:
    if not state:
        return {}
    return {".".join(map(str, path)): np.asarray(v[...]) for path, v in nnx.to_flat_state(state)}


def _numpy(arrays: Any) -> Arrays:
    return {name: np.asarray(a) for name, a in arrays.items()}


def _distance(a: Any, b: Any) -> float:
    if a is None or b is None or a.shape != b.shape:
        return float("inf")
    return float(np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-3))
