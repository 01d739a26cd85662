"""Both engines' networks behind one interface: NumPy arrays in, NumPy arrays out.

Images and activations are (N, H, W, C), tensors have PyTorch's names and layout, in both engines.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import Tensor, nn

import flax_resnet.capture
import flax_resnet.steps
import torch_ref.capture
import torch_ref.steps
from flax_resnet.train_state import DTYPES as FLAX_DTYPES
from flax_resnet.train_state import abstract_model, fit
from parity.arrays import Arrays, split, to_tensor, torch_arrays
from parity.torch_layer import to_float, to_nchw, to_nhwc, torch_backward
from recipe.architectures import ModelDescription
from torch_ref.train_state import DTYPES as TORCH_DTYPES
from torch_ref.train_state import fit as fit_torch
from torch_ref.train_state import make_model

LOGITS = "logits"


class LayerCall(NamedTuple):
    """One layer's turn in a forward pass."""

    path: str
    kind: str  # class name
    input: np.ndarray
    output: np.ndarray


class Pass(NamedTuple):
    """A forward pass: every layer in the order in which it finished, and the statistics afterwards."""

    layers: list[LayerCall]
    statistics: Arrays

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        """Outputs by path; a layer's second run is "path (2)". The network's is `LOGITS`."""
        found: dict[str, np.ndarray] = {}
        for layer in self.layers:
            turn = sum(name == layer.path or name.startswith(f"{layer.path} (") for name in found)
            found[f"{layer.path} ({turn + 1})" if turn else layer.path] = layer.output
        return found


class Gradients(NamedTuple):
    """Loss and gradients by parameter."""

    loss: np.ndarray  # ()
    grads: Arrays


class TorchNetwork:
    """The reference, on the CPU."""

    def __init__(self, description: ModelDescription, model: Arrays, precision: str):
        self.precision = precision
        self.network = make_model(description, precision, torch.device("cpu"))
        fit_torch({name: to_tensor(array) for name, array in model.items()}, self.network)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map standardised images (N, H, W, 3) to logits (N, classes) in eval mode."""
        with torch.inference_mode(), torch_ref.steps.autocast(self.precision, torch.device("cpu")):
            return to_float(self.network.eval()(self.tensor(images)))

    def forward(self, images: np.ndarray, training: bool) -> Pass:
        """Run the network; its statistics are put back afterwards."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        self.network.train(training)
        with torch.no_grad(), torch_ref.capture.record_calls(self.network) as calls:
            with torch_ref.steps.autocast(self.precision, torch.device("cpu")):
                logits = self.network(self.tensor(images))
            layers = [
                LayerCall(call.path, type(call.module).__name__, to_nhwc(call.input), to_nhwc(call.output))
                for call in calls
            ]
            layers.append(LayerCall(LOGITS, "ResNet", images, to_nhwc(logits)))
            statistics = {
                name: to_float(buffer) for name, buffer in self.network.named_buffers() if "running" in name
            }
            for name, buffer in self.network.named_buffers():
                buffer.copy_(before[name])
        return Pass(layers, statistics)

    def gradients(self, images: np.ndarray, labels: np.ndarray, label_smoothing: float) -> Gradients:
        """Loss and gradients in train mode; statistics are put back."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        self.network.train()
        self.network.zero_grad()
        with torch_ref.steps.autocast(self.precision, torch.device("cpu")):
            logits = self.network(self.tensor(images))
        loss = torch_ref.steps.cross_entropy(logits, torch.from_numpy(labels), label_smoothing)
        loss.backward()
        with torch.no_grad():
            for name, buffer in self.network.named_buffers():
                buffer.copy_(before[name])
        grads = {name: to_float(param.grad) for name, param in self.network.named_parameters()}
        return Gradients(to_float(loss), grads)

    def module(self, path: str) -> nn.Module:
        """A layer by its path."""
        return self.network.get_submodule(path)

    def alone(self, path: str, x: np.ndarray, training: bool) -> Arrays:
        """Run one layer on its own: its output, by its path, and its running statistics afterwards."""
        layer = copy.deepcopy(self.module(path)).train(training)
        with torch.no_grad(), torch_ref.steps.autocast(self.precision, torch.device("cpu")):
            found = {path: to_nhwc(layer(to_nchw(x, TORCH_DTYPES[self.precision][0])))}
        buffers = {f"{path}.{name}": to_float(buffer) for name, buffer in layer.named_buffers()}
        return found | {name: buffer for name, buffer in buffers.items() if "running" in name}

    def backward(self, path: str, x: np.ndarray, upstream: np.ndarray) -> Arrays:
        """One layer's gradients in train mode, as `torch_backward` gives them."""
        forward = torch_ref.steps.autocast(self.precision, torch.device("cpu"))
        dtype = TORCH_DTYPES[self.precision][0]
        return torch_backward(copy.deepcopy(self.module(path)), x, upstream, dtype, forward)

    def tensor(self, images: np.ndarray) -> Tensor:
        """Images in the precision's dtype, NCHW by name."""
        return torch.from_numpy(images).to(TORCH_DTYPES[self.precision][1]).permute(0, 3, 1, 2)


class FlaxNetwork:
    """The network that is compared with the reference."""

    def __init__(
        self, description: ModelDescription, model: Arrays, precision: str, cpu_kernels: str = "auto"
    ):
        self.precision = precision
        self.graphdef, params, batch_stats = abstract_model(description, precision, cpu_kernels)
        tree = split(model)
        self.params, self.batch_stats = fit(tree["params"], params), fit(tree["batch_stats"], batch_stats)
        self.compute_dtype, self.dtype = FLAX_DTYPES[precision]
        # traced once per shape and mode; what is traced is read from the classes' own code
        self._logits = jax.jit(lambda params, batch_stats, x: self._merged(params, batch_stats, False)(x))
        self._forward = jax.jit(self._run, static_argnames="training")
        self._gradients = jax.jit(self._loss_and_grads, static_argnames="label_smoothing")
        self._paths: dict[tuple[Any, ...], list[tuple[str, str]]] = {}

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map standardised images (N, H, W, 3) to logits (N, classes) in eval mode, by one program."""
        return to_float(self._logits(self.params, self.batch_stats, jnp.asarray(images, self.dtype)))

    @functools.lru_cache(maxsize=2)  # noqa: B019  a network lives as long as its process
    def network(self, training: bool) -> nnx.Module:
        """The network as a module, in one of its modes; not to be changed."""
        return self._merged(self.params, self.batch_stats, training)

    def forward(self, images: np.ndarray, training: bool) -> Pass:
        """Run the network in one compiled program."""
        batch = jnp.asarray(images, self.dtype)
        inputs, outputs, batch_stats = self._forward(self.params, self.batch_stats, batch, training=training)
        layers = [
            LayerCall(path, kind, to_float(x), to_float(y))
            for (path, kind), x, y in zip(self._paths[images.shape, training], inputs, outputs, strict=True)
        ]
        return Pass(layers, {name: to_float(array) for name, array in torch_arrays(batch_stats).items()})

    def gradients(self, images: np.ndarray, labels: np.ndarray, label_smoothing: float) -> Gradients:
        """Loss and gradients in train mode."""
        batch = {"image": jnp.asarray(images, self.dtype), "label": jnp.asarray(labels)}
        loss, grads = self._gradients(self.params, self.batch_stats, batch, label_smoothing=label_smoothing)
        return Gradients(to_float(loss), {n: to_float(array) for n, array in torch_arrays(grads).items()})

    def module(self, path: str, training: bool) -> Callable[[jax.Array], jax.Array]:
        """A layer by its path, with state of its own."""
        layer: Any = self.network(training)
        for part in path.split("."):
            layer = layer[int(part)] if part.isdecimal() else getattr(layer, part)
        return nnx.clone(layer)

    def alone(self, path: str, x: np.ndarray, training: bool) -> Arrays:
        """Run one layer on its own: its output, by its path, and its running statistics afterwards."""
        layer: Any = self.module(path, training)
        found = {path: to_float(layer(jnp.asarray(x, self.compute_dtype)))}
        statistics = torch_arrays(nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat)))
        return found | {f"{path}.{name}": to_float(array) for name, array in statistics.items()}

    def backward(self, path: str, x: np.ndarray, upstream: np.ndarray) -> Arrays:
        """Gradients of a layer's input ("input") and parameters, in train mode, given its output's."""
        layer: Any = self.module(path, True)
        graphdef = nnx.graphdef(layer)
        params, batch_stats = (
            nnx.to_pure_dict(nnx.state(layer, kind)) for kind in (nnx.Param, nnx.BatchStat)
        )

        def apply(params: Any, x: jax.Array) -> jax.Array:
            return nnx.merge(graphdef, params, batch_stats)(x)

        _, pull = jax.vjp(apply, params, jnp.asarray(x, self.compute_dtype))
        of_params, of_input = pull(jnp.asarray(upstream, self.compute_dtype))
        named = {name: to_float(array) for name, array in torch_arrays(of_params).items()}
        return {"input": to_float(of_input)} | named

    def _merged(self, params: Any, batch_stats: Any, training: bool) -> Any:
        network = nnx.merge(self.graphdef, params, batch_stats)
        network.train() if training else network.eval()
        return network

    def _run(self, params: Any, batch_stats: Any, images: jax.Array, training: bool) -> Any:
        network = self._merged(params, batch_stats, training)
        with flax_resnet.capture.record_calls(network) as calls:
            logits = network(images)
        calls.append(flax_resnet.capture.Call(LOGITS, network, images, logits))
        names = [(call.path, type(call.module).__name__) for call in calls if call.path]
        self._paths[images.shape, training] = names
        kept = [call for call in calls if call.path]
        statistics = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
        return [call.input for call in kept], [call.output for call in kept], statistics

    def _loss_and_grads(self, params: Any, batch_stats: Any, batch: Any, label_smoothing: float) -> Any:
        loss = flax_resnet.steps.make_loss(self.graphdef, label_smoothing)
        (value, _), grads = jax.value_and_grad(loss, has_aux=True)(params, batch_stats, batch)
        return value, grads
