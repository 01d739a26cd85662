"""JAX: every layer of flax_resnet on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from flax_resnet.cpu_kernels import choose
from flax_resnet.devices import DataMesh
from flax_resnet.model import Layers, ReLU
from flax_resnet.nn import activations
from flax_resnet.train_state import DTYPES
from parity.speed.jobs import Job
from parity.speed.programs.jax_steps import JaxProgram
from parity.speed.programs.problem import make_config
from parity.speed.programs.program import Arrays


class SingleLayers(JaxProgram):
    """Every layer on its own, as the network makes it."""

    def __init__(self, job: Job):
        super().__init__(job)
        native, _ = choose(make_config(job).cpu_kernels, job.precision)
        dtype, param_dtype = DTYPES[job.precision]
        make = Layers(dtype, param_dtype, nnx.Rngs(job.seed), native)
        for number, layer in enumerate(job.layers):
            x_key, y_key, residual_key = jax.random.split(jax.random.key(number), 3)
            x = jax.random.normal(x_key, (job.batch_size, layer.size, layer.size, layer.inputs), dtype)
            dy = jax.random.normal(
                y_key, (job.batch_size, layer.output_size, layer.output_size, layer.outputs), dtype
            )
            if layer.kind == "convolution":
                conv = make.conv(layer.inputs, layer.outputs, layer.kernel, layer.stride)
                functions = convolution(*nnx.split(conv), x, dy, self.mesh)
            else:
                residual = jax.random.normal(residual_key, x.shape, dtype)
                functions = batch_norm(*nnx.split(make.norm(layer.outputs)), x, dy, residual, layer.then)
            for operation in layer.operations:
                self.tracks[layer.track(operation)] = repeated(*functions[operation])

    def first(self) -> Arrays:
        """See Program."""
        for run in self.tracks.values():
            run(1)
        return {}


Call = tuple[Callable[..., Any], tuple[Any, ...]]


def convolution(graphdef: Any, state: Any, x: jax.Array, dy: jax.Array, mesh: DataMesh) -> dict[str, Call]:
    """Operation → a compiled function and its arguments, kernel and its gradient as the trainer has them."""
    state = nnx.to_pure_dict(state)
    formats = mesh.state(state)
    state = jax.device_put(state, formats)

    def forward(state: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state)(x)

    return {
        "forward": (jax.jit(forward), (state, x)),
        "input gradient": (
            jax.jit(lambda state, x, dy: jax.vjp(lambda x: forward(state, x), x)[1](dy)),
            (state, x, dy),
        ),
        "weight gradient": (
            jax.jit(
                lambda state, x, dy: jax.vjp(lambda state: forward(state, x), state)[1](dy),
                out_shardings=(formats,),
            ),
            (state, x, dy),
        ),
    }


def batch_norm(
    graphdef: Any, state: Any, x: jax.Array, dy: jax.Array, residual: jax.Array, then: str
) -> dict[str, Call]:
    """Operation → a compiled function and its arguments."""
    params, statistics = map(nnx.to_pure_dict, nnx.split_state(state, nnx.Param, ...))

    def forward(params: Any, x: jax.Array, residual: jax.Array) -> jax.Array:
        follows: dict[str, dict[str, Any]] = {
            "residual": {"residual": residual, "relu": activations.relu},
            "relu": {"relu": ReLU()},
            "": {},
        }
        return nnx.merge(graphdef, params, statistics)(x, **follows[then])

    arguments = params, x, residual
    pull = jax.jit(lambda *arguments: jax.vjp(forward, *arguments)[1])(*arguments)
    return {
        "forward": (jax.jit(forward), arguments),
        "backward": (jax.jit(lambda pull, dy: pull(dy)), (pull, dy)),
    }


def repeated(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[int], None]:
    """A track that calls a function again and again."""

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(function(*arguments))

    return run
