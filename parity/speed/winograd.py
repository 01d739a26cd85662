"""Where Winograd's way is the faster one: both ways of a 3×3 convolution and its gradients, by shape.

    python -m parity.speed.winograd

`ops.suits_winograd` has its limits from here. The ways take turns; medians; a ratio above 1 says that
Winograd's way is faster.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from flax_resnet.cpu_kernels import build, ops
from recipe.memory import keep_freed_memory

TURNS = 9
SHAPES = [  # channels, side, batches
    (64, 32, (1, 64)), (128, 16, (1, 4, 64)), (256, 8, (1, 2, 4, 8, 64)), (512, 4, (1, 8, 16, 32, 64, 128)),
    (64, 8, (1, 4, 64)), (32, 16, (1, 4, 16, 64)), (32, 8, (4, 64)), (128, 28, (2,)), (256, 6, (64,)),
    (512, 7, (2, 4, 64)), (512, 5, (64,)), (512, 3, (64,)),
]  # fmt: skip


def functions(winograd: bool) -> list[Callable[..., jax.Array]]:
    """The convolution and its two gradients, as functions of x, kernel and dy."""

    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return ops.conv(x, kernel, 1, 1, winograd)

    return [
        jax.jit(lambda x, kernel, dy: conv(x, kernel)),
        jax.jit(lambda x, kernel, dy: jax.vjp(lambda x: conv(x, kernel), x)[1](dy)[0]),
        jax.jit(lambda x, kernel, dy: jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](dy)[0]),
    ]


def seconds(function: Callable[..., jax.Array], arrays: tuple[jax.Array, ...]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    function(*arrays).block_until_ready()
    return time.perf_counter() - begin


def main() -> None:
    """Print the table, in Markdown."""
    keep_freed_memory()
    if why_not := build.load():
        sys.exit(f"no native kernels: {why_not}")
    ways = functions(False), functions(True)
    rng = np.random.default_rng(0)
    print("| channels | pixels | batch | tiles | direct, ms | forward | input | kernel | all | taken |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|")
    for channels, side, batches in SHAPES:
        for batch in batches:
            x, dy = (jnp.asarray(rng.normal(size=(batch, side, side, channels)), jnp.float32) for _ in "xy")
            kernel = jnp.asarray(rng.normal(size=(3, 3, channels, channels)), jnp.float32)
            turns = [
                [[seconds(function, (x, kernel, dy)) for function in way] for way in ways]
                for _ in range(TURNS + 1)
            ]
            direct, winograd = np.median(turns[1:], 0)  # the first turn compiles
            ratios = [*(direct / winograd), direct.sum() / winograd.sum()]
            taken = "yes" if ops.suits_winograd(x, kernel, 1, 1) else "no"
            tiles = batch * ((side + 1) // 2) ** 2
            cells = [channels, f"{side}²", batch, tiles, f"{1e3 * direct.sum():.2f}"]
            print(f"| {' | '.join(map(str, [*cells, *(f'{r:.2f}×' for r in ratios), taken]))} |", flush=True)


if __name__ == "__main__":
    main()
