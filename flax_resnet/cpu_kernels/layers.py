"""What the network's layers use of the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flax_resnet.cpu_kernels import ops

# what nnx.Conv takes in place of lax.conv_general_dilated and its own promotion: the kernel stays float32,
# and is rounded while it is put into the order of a product
CONV: dict[str, Any] = {
    "conv_general_dilated": ops.conv_general_dilated,
    "promote_dtype": lambda arrays, dtype: (jnp.asarray(arrays[0]).astype(dtype), *arrays[1:]),
}


class Normalised:
    """Batch norm's result, not yet in memory: what follows, "+ residual" and ReLU, joins the same pass.

    Anything else that is done with it, or with an attribute of it, sees the array.
    """

    def __init__(self, run: Callable[[jax.Array | None, bool], jax.Array], residual: jax.Array | None = None):
        self._run = run  # (residual, relu) → array
        self._residual = residual

    def __add__(self, residual: Any) -> Normalised:
        other = jnp.asarray(residual)
        return Normalised(self._run, other if self._residual is None else self._residual + other)

    def __jax_array__(self) -> jax.Array:
        array = self._run(None, False)
        return array if self._residual is None else array + self._residual

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__jax_array__(), name)

    def relu(self) -> jax.Array:
        """max(sum, 0)."""
        return self._run(self._residual, True)


def _as_array(operator: str) -> Callable[..., Any]:
    return lambda self, *others: getattr(self.__jax_array__(), operator)(*others)


# Python looks for operators on the class, not by __getattr__
for _operator in (
    "__neg__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__pow__", "__matmul__",
    "__getitem__", "__lt__", "__le__", "__gt__", "__ge__",
):  # fmt: skip
    setattr(Normalised, _operator, _as_array(_operator))
