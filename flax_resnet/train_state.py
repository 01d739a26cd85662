"""Everything that a training step changes, as one explicit pytree."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.typing import DTypeLike

from flax_resnet.cpu_kernels import choose
from flax_resnet.model import ResNet
from flax_resnet.naming import (
    by_dotted_path,
    dotted,
    to_flax_layout,
    torch_key,
    torch_shape,
    with_string_keys,
)
from recipe import initial_weights
from recipe.architectures import ModelDescription
from recipe.system import matching

Tree = dict[Any, Any]  # nested dicts of arrays, keyed as the model's attributes

# config.precision → what convolutions compute in, and what parameters and statistics are kept in
DTYPES: dict[str, tuple[DTypeLike, DTypeLike]] = {
    "bf16": (jnp.bfloat16, jnp.float32),
    "f32": (jnp.float32, jnp.float32),
    "f64": (jnp.float64, jnp.float64),
}


class TrainState(NamedTuple):
    """The state of a run between two steps."""

    step: jax.Array  # int32 (), steps done
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState


def abstract_model(
    description: ModelDescription, precision: str, cpu_kernels: str = "auto"
) -> tuple[Any, Tree, Tree]:
    """Return the model's `nnx.GraphDef` and the shapes of its parameters and statistics.

    `cpu_kernels` is config.cpu_kernels. Nothing is allocated: the leaves are `jax.ShapeDtypeStruct`.
    """
    dtype, param_dtype = DTYPES[precision]
    native, _ = choose(cpu_kernels, precision)
    model = nnx.eval_shape(
        lambda: ResNet(
            description, dtype=dtype, param_dtype=param_dtype, cpu_kernels=native, rngs=nnx.Rngs(0)
        )
    )
    params, batch_stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    return nnx.graphdef(model), nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def initial_params(seed: int, params: Tree) -> Tree:
    """Draw the recipe's initial weights for a tree of shapes and dtypes."""
    shapes = flatten_dict(params)
    drawn = initial_weights.draw(seed, {torch_key(p): torch_shape(leaf.shape) for p, leaf in shapes.items()})
    return unflatten_dict(
        {p: jnp.asarray(to_flax_layout(drawn[torch_key(p)]), leaf.dtype) for p, leaf in shapes.items()}
    )


def initial_batch_stats(batch_stats: Tree) -> Tree:
    """Mean 0 and variance 1 for a tree of shapes and dtypes."""
    return unflatten_dict(
        {
            p: jnp.full(leaf.shape, float(p[-1] == "var"), leaf.dtype)
            for p, leaf in flatten_dict(batch_stats).items()
        }
    )


def initial_state(
    seed: int, params: Tree, batch_stats: Tree, optimizer: optax.GradientTransformation
) -> TrainState:
    """Return the state before the first step, from trees of shapes and dtypes."""
    params = initial_params(seed, params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=initial_batch_stats(batch_stats),
        opt_state=optimizer.init(params),
    )


def to_saved(state: TrainState) -> Tree:
    """Return the state as plain nested dicts with string keys, free of framework objects."""
    return {
        "params": with_string_keys(state.params),
        "batch_stats": with_string_keys(state.batch_stats),
        "momentum": with_string_keys(optax.tree_utils.tree_get(state.opt_state, "trace")),
    }


def from_saved(saved: Tree, step: int, state: TrainState) -> TrainState:
    """Put saved arrays into a state of the same network; the inverse of `to_saved`.

    A PyTorch run has no momentum before its first step, nor has what was converted from it: it is zero.

    Raises:
      UserError: if an array is missing, left over, or of another shape.
    """
    params = fit(saved["params"], state.params)
    batch_stats = fit(saved["batch_stats"], state.batch_stats)
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    momentum = fit(saved["momentum"], state.params) if "momentum" in saved else zeros
    # step and count are arrays of their own: the step donates every buffer, and none may be donated twice
    opt_state = optax.tree_utils.tree_set(state.opt_state, trace=momentum, count=jnp.asarray(step, jnp.int32))
    return TrainState(jnp.asarray(step, jnp.int32), params, batch_stats, opt_state)


def fit(saved: Tree, template: Tree) -> Tree:
    """Put saved arrays into the tree of a network, name by name, in the network's dtypes.

    Args:
      saved: nested dicts of NumPy arrays with string keys.
      template: the network's tree of arrays or shapes, where a list's positions are integers.

    Raises:
      UserError: if an array is missing, left over, or of another shape; names all of them.
    """
    arrays, wanted = by_dotted_path(saved), by_dotted_path(template)
    matching.check({k: v.shape for k, v in arrays.items()}, {k: v.shape for k, v in wanted.items()})
    return unflatten_dict(
        {path: jnp.asarray(arrays[dotted(path)], leaf.dtype) for path, leaf in flatten_dict(template).items()}
    )
