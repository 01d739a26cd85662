"""The updates of a user's optax transformation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from parity.comparison.recording import Arrays
from parity.comparison.updates import FACTORS
from recipe.system.errors import UserError, first_line


def after(transformation: Any, tensors: Arrays, grads: Arrays) -> Arrays:
    """Parameters after some updates in float64.

    Args:
      transformation: optax's.
      tensors: the parameters by dotted paths.
      grads: theirs.

    Raises:
      UserError: if the transformation fails.
    """
    with jax.enable_x64(True):
        params, gradients = (
            unflatten_dict({tuple(p.split(".")): jnp.asarray(a, jnp.float64) for p, a in arrays.items()})
            for arrays in (tensors, grads)
        )
        try:
            state = transformation.init(params)
            for factor in FACTORS:
                scaled = jax.tree.map(lambda g, factor=factor: factor * g, gradients)
                updates, state = transformation.update(scaled, state, params)
                params = optax.apply_updates(params, updates)
        except Exception as error:  # a stranger's transformation may raise anything
            raise UserError(f"the optax transformation fails ({first_line(error)})") from error
        return {".".join(p): np.asarray(a, np.float64) for p, a in flatten_dict(params).items()}
