"""ReLU with a gradient that needs only its result.

`jax.nn.relu` keeps its argument for the gradient. In a residual network the next convolution keeps the
result anyway, and the argument, a sum, would have to be made again from two arrays.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


# The barrier keeps XLA from making the result anew in what follows. On a CPU that is not only a matter of
# speed: jaxlib 0.12.0 fuses a block's end with the mean over pixels into NaN, in bfloat16 and eval mode.
@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """Return max(x, 0), whose derivative at 0 is 0."""
    return jax.lax.optimization_barrier(jnp.maximum(x, 0))


@relu.defjvp
def _jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    y = relu(*primals)
    return y, jnp.where(y > 0, *tangents, 0)
