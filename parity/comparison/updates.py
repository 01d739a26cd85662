"""Level 5: the updates of a user's two optimizers, from the same weights and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from parity.budgets.reference import distance, rounding
from parity.comparison.findings import UPDATE, Place, place
from parity.comparison.mapping.sources import Sources
from parity.comparison.recording import Arrays
from recipe.system.errors import UserError

FACTORS = (1.0, -0.5, 2.0)  # of the gradients, step by step: momentum and bias corrections show
DTYPES = {"f32": torch.float32, "f64": torch.float64}


def compare(
    optimizers: tuple[Callable[[Any], Any], Any], sources: Sources, tensors: Arrays, grads: Arrays
) -> Iterator[Place]:
    """Every parameter of Flax after three updates in float64.

    Args:
      optimizers: (parameters → torch.optim optimizer, optax transformation).
      sources: of Flax's parameters.
      tensors: PyTorch's parameters.
      grads: their gradients.

    Raises:
      UserError: if one of the optimizers fails.
    """
    make, transformation = optimizers
    try:
        low, exact = (_torch(make, tensors, grads, precision) for precision in ("f32", "f64"))
        ours = _optax(
            transformation,
            {p: s(tensors) for p, s in sources.items()},
            {p: s(grads) for p, s in sources.items()},
        )
    except Exception as error:  # a stranger's optimizers may raise anything
        words = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
        raise UserError(f"the optimizers can't be compared ({words})") from error
    for path, source in sources.items():
        own = max(max(distance(low[n], exact[n], "f32"), rounding(exact[n], "f32")) for n in source.names)
        yield place(
            UPDATE, " + ".join(source.names), path, theirs=source(exact), ours=ours[path], own=own,
            precision="f64",
        )  # fmt: skip


def _torch(make: Callable[[Any], Any], tensors: Arrays, grads: Arrays, precision: str) -> Arrays:
    dtype = DTYPES[precision]
    parameters = {n: torch.nn.Parameter(torch.tensor(tensors[n]).to(dtype)) for n in grads}
    optimizer = make(list(parameters.values()))
    for factor in FACTORS:
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(factor * grads[name]).to(dtype)
        optimizer.step()
    return {n: p.detach().double().numpy() for n, p in parameters.items()}


def _optax(transformation: Any, tensors: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray]) -> Arrays:
    with jax.enable_x64(True):
        params, gradients = (
            unflatten_dict({tuple(p.split(".")): jnp.asarray(a, jnp.float64) for p, a in arrays.items()})
            for arrays in (tensors, grads)
        )
        state = transformation.init(params)
        for factor in FACTORS:
            scaled = jax.tree.map(lambda g, factor=factor: factor * g, gradients)
            updates, state = transformation.update(scaled, state, params)
            params = optax.apply_updates(params, updates)
        return {".".join(p): np.asarray(a, np.float64) for p, a in flatten_dict(params).items()}
