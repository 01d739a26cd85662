"""Level 4: the loss and every gradient, and every layer's backward pass on its own."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import Tensor, nn

from parity import causes, decisions
from parity.bounds import FEW
from parity.budget import Arrays, C, distance, gamma, lower, reference_errors, scaled
from parity.case import Case
from parity.checks.forward import elementwise, rounded, shapes
from parity.results import Check, Finding, first_over
from parity.sides import Gradients, to_float, to_nhwc
from parity.trees import torch_arrays

SMOOTHING = (0.0, 0.1)
LOSS = "loss"


def check(case: Case) -> Iterator[Check]:
    """Layers one by one, then the whole network in every precision."""
    for precision in ("f64", "f32"):
        yield layers_alone(case, precision)
    for smoothing in SMOOTHING:
        yield whole_network(case, "f64", smoothing)
    for precision in ("f32", "bf16"):
        yield whole_network(case, precision, SMOOTHING[-1])


def whole_network(case: Case, precision: str, smoothing: float) -> Check:
    """Loss and gradients of a batch, in the order in which they are computed: from the loss backwards."""
    ((count, size),) = shapes(case, True, precision)
    images, labels = case.images(count, size), case.labels(count)

    errors = _errors(case, smoothing, count, size, lower(precision), turns=precision == "f32")
    allowed = scaled(errors, precision)
    theirs, ours = (
        _as_arrays(side.gradients(images, labels, smoothing))
        for side in (case.torch(precision), case.flax(precision))
    )
    findings = [
        Finding(name, distance(ours[name], theirs[name], precision), allowed[name]) for name in theirs
    ]
    family = cause = ""
    over = first_over(findings)
    if over and over.where == LOSS:
        plain = [
            float(side.gradients(images, labels, 0.0).loss)
            for side in (case.flax(precision), case.torch(precision))
        ]
        family, cause = causes.of_loss(float(ours[LOSS]), float(theirs[LOSS]), count, smoothing, *plain)
    elif over:
        family, cause = causes.of_gradients(ours, theirs, count, over.where)
    unit = "relative norm" if precision == "bf16" else "largest element"
    name = f"loss and gradients, label smoothing {smoothing:g}"
    return Check(4, name, precision, unit, tuple(findings), family, cause)


@functools.lru_cache(maxsize=8)
def _errors(
    case: Case, smoothing: float, count: int, size: int, precision: str, turns: bool
) -> dict[str, float]:
    """The reference's own errors in the loss and all gradients, doubtful decisions turned or as they fall."""
    images = case.images(count, size)

    def reference(images: np.ndarray, precision: str) -> Arrays:
        return _as_arrays(case.torch(precision).gradients(images, case.labels(count), smoothing))

    run = functools.partial(reference, images)
    doubtful = decisions.uncertain(run, "f32", "f64", case.seed) if turns else None
    return reference_errors(reference, images, precision, doubtful)


def layers_alone(case: Case, precision: str) -> Check:
    """Every layer's gradients, for PyTorch's input and a random gradient of its output.

    All of them are sums and have elementwise bounds; PyTorch's are taken in float64. In float32 what goes in
    is rounded, so it is the same in both.
    """
    if precision == "f64":
        case = case.with_all_digits
    match = causes.MATCHES[precision]
    ((count, size),) = shapes(case, training=True)
    findings: list[Finding] = []
    family = cause = ""
    rng = np.random.default_rng(case.seed)
    for layer in case.torch("f64").forward(case.images(count, size), True).layers[:-1]:
        module = case.torch("f64").module(layer.path)
        if isinstance(module, nn.Sequential) or list(module.children()):
            continue
        x, upstream = (
            rounded(array, precision) for array in (layer.input, rng.normal(size=layer.output.shape))
        )
        theirs = torch_backward(module, x, upstream)
        side = case.flax(precision)
        ours = flax_backward(
            side.module(layer.path, True), *(jnp.asarray(a, side.dtype) for a in (x, upstream))
        )
        bounds = _bounds(module, x, upstream, theirs, precision)
        for name in theirs:
            finding = elementwise(f"{layer.path} d{name}", ours[name], theirs[name], bounds[name])
            findings.append(finding)
            if finding.ratio > 1 and not cause:
                family, cause = causes.of_gradients(ours, theirs, count, name, match)
                cause = f"{layer.path}: {cause}"
    name = "every layer's backward pass on its own"
    return Check(4, name, precision, "largest element", tuple(findings), family, cause)


def torch_backward(module: nn.Module, x: np.ndarray, upstream: np.ndarray) -> dict[str, np.ndarray]:
    """Gradients of input ("input", channels last) and parameters."""
    dtype = next((p.dtype for p in module.parameters()), torch.float64)
    module.train()
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    given = _nchw(x, dtype).requires_grad_()
    parameters = dict(module.named_parameters())
    grads = torch.autograd.grad(module(given), [given, *parameters.values()], _nchw(upstream, dtype))
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    return {"input": to_nhwc(grads[0])} | {
        name: to_float(grad) for name, grad in zip(parameters, grads[1:], strict=True)
    }


def flax_backward(module: object, x: jax.Array, upstream: jax.Array) -> dict[str, np.ndarray]:
    """The same from a Flax layer."""
    graphdef = nnx.graphdef(module)
    params, batch_stats = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))

    def apply(params: object, x: jax.Array) -> jax.Array:
        return jnp.asarray(nnx.merge(graphdef, params, batch_stats)(x))

    _, pull = jax.vjp(apply, params, x)
    of_params, of_input = pull(upstream)
    named = torch_arrays(of_params)
    return {"input": to_float(of_input)} | {name: to_float(value) for name, value in named.items()}


def _bounds(
    module: nn.Module, x: np.ndarray, upstream: np.ndarray, theirs: dict[str, np.ndarray], precision: str
) -> dict[str, np.ndarray]:
    if isinstance(module, nn.Conv2d | nn.Linear):
        sums = torch_backward(_copy(module, torch.abs), np.abs(x), np.abs(upstream))
        batch = upstream.size // upstream.shape[-1]  # terms of a weight's gradient
        terms = {"input": module.weight.numel() // module.weight.shape[1]}
        return {name: C * gamma(terms.get(name, batch), precision) * value for name, value in sums.items()}
    if isinstance(module, nn.BatchNorm2d):
        return _batch_norm_bounds(module, x, upstream, precision)
    return {name: np.zeros_like(value) for name, value in theirs.items()}


def _batch_norm_bounds(
    module: nn.BatchNorm2d, x: np.ndarray, upstream: np.ndarray, precision: str
) -> dict[str, np.ndarray]:
    """γ of the sums in dx = w/σ·(g − mean(g) − x̂·mean(g·x̂)), dw = Σ g·x̂ and db = Σ g, all of magnitudes.

    x̂ = (x − mean)/σ carries the error of the mean, which is a sum itself.
    """
    axes = (0, 1, 2)
    n = x.size // x.shape[-1]
    weight, g = module.weight.detach().abs().numpy(), np.abs(upstream)
    deviation = np.sqrt(x.var(axes) + module.eps)
    normalised = (np.abs(x - x.mean(axes)) + np.abs(x).mean(axes)) / deviation
    factor = C * gamma(2 * n + FEW, precision)
    return {
        "input": factor * weight / deviation * (g + g.mean(axes) + normalised * (g * normalised).mean(axes)),
        "weight": factor * (g * normalised).sum(axes),
        "bias": factor * g.sum(axes),
    }


def _copy(module: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A layer whose tensors are changed by a function."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        return twin._apply(change)


def _nchw(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(array).to(dtype)
    return tensor.permute(0, 3, 1, 2).contiguous() if tensor.ndim == 4 else tensor


def _as_arrays(found: Gradients) -> dict[str, np.ndarray]:
    """Loss first, then gradients from the last layer to the first."""
    return {LOSS: found.loss} | dict(reversed(found.grads.items()))
