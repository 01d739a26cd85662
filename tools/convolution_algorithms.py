"""The fastest algorithm for a 3×3 convolution and its gradients, by shape: oneDNN's, Winograd's or AMX.

    python -m tools.convolution_algorithms

`ops.fastest` has its limits from here. The algorithms take turns; medians; a ratio above 1 says that the
other one is faster than oneDNN's. The last tables have the errors of both, for random numbers:
‖a − b‖₂ / ‖b‖₂, where b is computed in float64 from the same numbers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

from flax_resnet.cpu_kernels import build, ops
from recipe.output import grid
from recipe.system.memory import keep_freed_memory

TURNS = 9
OTHERS: tuple[tuple[str, ops.Algorithm], ...] = (
    ("float32", "winograd"),
    ("bfloat16", "winograd"),
    ("bfloat16", "amx"),  # where there is such a processor
)
SHAPES = [  # channels, side, batches
    (64, 32, (1, 16, 64)), (128, 16, (1, 4, 16, 64)), (256, 8, (1, 2, 4, 8, 16, 64)),
    (512, 4, (1, 8, 16, 17, 32, 33, 64, 128)), (64, 8, (1, 4, 64)), (32, 16, (1, 4, 16, 64)),
    (32, 8, (4, 64)), (128, 28, (2, 16)), (256, 6, (64,)), (512, 7, (2, 4, 64)),
    (512, 5, (64,)), (512, 3, (64,)),
]  # fmt: skip


def functions(algorithm: ops.Algorithm) -> list[Callable[..., jax.Array]]:
    """The convolution and its two gradients, as functions of x, kernel and dy."""

    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return ops.conv(x, kernel, 1, 1, algorithm)

    return [
        jax.jit(lambda x, kernel, dy: conv(x, kernel)),
        jax.jit(lambda x, kernel, dy: jax.vjp(lambda x: conv(x, kernel), x)[1](dy)[0]),
        jax.jit(lambda x, kernel, dy: jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](dy)[0]),
    ]


def seconds(function: Callable[..., jax.Array], operands: tuple[jax.Array, ...]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    function(*operands).block_until_ready()
    return time.perf_counter() - begin


def arrays(batch: int, side: int, channels: int, dtype: str) -> tuple[jax.Array, ...]:
    """x, kernel and dy of standard normal numbers; the kernel is float32."""
    rng = np.random.default_rng(0)
    x, dy = (jnp.asarray(rng.normal(size=(batch, side, side, channels)), dtype) for _ in "xy")
    return x, jnp.asarray(rng.normal(size=(3, 3, channels, channels)), jnp.float32), dy


def print_times(dtype: str, other: ops.Algorithm) -> None:
    """A row per shape."""
    both = functions("onednn"), functions(other)
    columns = "channels | pixels | batch | oneDNN, ms | forward | input | kernel | all | taken"
    print(f"\n| {dtype}, {other}: {columns} |\n|--:|--:|--:|--:|--:|--:|--:|--:|---|")
    for channels, side, batches in SHAPES:
        for batch in batches:
            x, kernel, dy = arrays(batch, side, channels, dtype)
            turns = [
                [[seconds(function, (x, kernel, dy)) for function in algorithm] for algorithm in both]
                for _ in range(TURNS + 1)
            ]
            onednn, others = np.median(turns[1:], 0)  # the first turn compiles
            ratios = [*(onednn / others), onednn.sum() / others.sum()]
            taken = "yes" if ops.fastest(x, kernel, 1, 1) == other else "no"
            cells = [channels, f"{side}²", batch, f"{1e3 * onednn.sum():.2f}"]
            print(grid.markdown_row([*cells, *(f"{r:.2f}×" for r in ratios), taken]), flush=True)


def print_errors(dtype: str, other: ops.Algorithm) -> None:
    """A row per stage of ResNet18: oneDNN's errors and the other's."""
    print(f"\n| {dtype}, {other}: channels | pixels | batch | forward | input | kernel |")
    print("|--:|--:|--:|--:|--:|--:|")
    for channels, side, batch in [(64, 32, 4), (128, 16, 4), (256, 8, 8), (512, 4, 32)]:
        x, kernel, dy = arrays(batch, side, channels, dtype)
        exact = in_float64(x, kernel, dy)
        cells = []
        for *both, b in zip(functions("onednn"), functions(other), exact, strict=True):
            found = (np.asarray(function(x, kernel, dy), np.float64) for function in both)
            cells.append(" → ".join(f"{np.linalg.norm(a - b) / np.linalg.norm(b):.1e}" for a in found))
        print(grid.markdown_row([channels, f"{side}²", batch, *cells]), flush=True)


def in_float64(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> list[np.ndarray]:
    """y, dx and the kernel's gradient, by PyTorch."""
    wide = [torch.from_numpy(np.asarray(array, np.float64)) for array in (x, kernel, dy)]
    images, weight, cotangent = (
        array.permute(axes).requires_grad_()
        for array, axes in zip(wide, [(0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)], strict=True)
    )
    y = torch.nn.functional.conv2d(images, weight, padding=1)
    dx, dweight = torch.autograd.grad(y, (images, weight), cotangent)
    axes = (0, 2, 3, 1), (0, 2, 3, 1), (2, 3, 1, 0)
    return [t.detach().permute(to).numpy() for t, to in zip((y, dx, dweight), axes, strict=True)]


def main() -> None:
    """Print the tables, in Markdown."""
    keep_freed_memory()
    if why_not := build.load():
        sys.exit(f"no native kernels: {why_not}")
    others = [(dtype, algorithm) for dtype, algorithm in OTHERS if algorithm != "amx" or build.has_amx()]
    for dtype, algorithm in others:
        print_times(dtype, algorithm)
    for dtype, algorithm in others:
        print_errors(dtype, algorithm)


if __name__ == "__main__":
    main()
