"""Anybody's PyTorch module as one side of a comparison."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.comparison.inputs import Arguments, is_float
from parity.comparison.memory import make_room
from parity.comparison.recording import Arrays, Call, Pins, Recording
from parity.comparison.refusals import running
from parity.comparison.sides.torch_modes import Widened, WithoutDropout
from parity.comparison.sides.torch_tape import Tape
from parity.comparison.sides.torch_taps import Taps, is_float_tensor, to_numpy
from parity.comparison.structure import Structure
from parity.threads import safe_threads
from recipe.system.errors import UserError

DTYPES = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16}

Caller = Callable[..., Any]


class TorchSide:
    """The reference.

    Args:
      model: is copied, in each precision that is asked for, and left as it is.
      call: (model, *arguments, train=bool) → what the network returns; without it, `model(*arguments)`.
      outputs: what `call` returns → the tree that counts.
      loss: what `call` returns → a scalar; without it gradients are of a random linear function of the
        outputs.
      seed: for what draws random numbers.
      autocast: whether bfloat16 is autocast's, over float32 tensors, as in mixed-precision training; else all
        tensors are bfloat16.
    """

    def __init__(
        self,
        model: nn.Module,
        call: Caller | None = None,
        outputs: Callable[[Any], Any] | None = None,
        loss: Callable[[Any], Tensor] | None = None,
        seed: int = 0,
        autocast: bool = False,
    ):
        self._autocast = autocast
        self._call = call or (lambda m, *args, train, **kwargs: m(*args, **kwargs))
        self._outputs, self._loss, self._seed = outputs or (lambda found: found), loss, seed
        self._models = {"f64": _copied(model, "f64")}
        self._tied: dict[str, str] = {}  # a tied tensor's further name → its first
        self._names: dict[int, str] = {}
        for name, tensor in _all_tensors(self._models["f64"]):
            first = self._names.setdefault(id(tensor), name)
            if first != name:
                self._tied[name] = first

    def tensors(self) -> Arrays:
        """All float tensors by their (first) names, float64."""
        model = self._models["f64"]
        return {n: to_numpy(t) for n, t in _tensors(model) if t.dtype.is_floating_point}

    def structure(self, run: Recording) -> Structure:
        """What the network consists of.

        Args:
          run: any run of it, for the order of execution.
        """
        model = self._models["f64"]
        owned = {
            path: frozenset(
                self._names[id(t)]
                for t in [*module.parameters(), *module.buffers()]
                if t.dtype.is_floating_point
            )
            for path, module in model.named_modules()
        }
        whole = model.state_dict().items()
        return Structure(
            {n: tuple(t.shape) for n, t in _tensors(model) if t.dtype.is_floating_point},
            tuple(n for n, _ in model.named_parameters()),
            frozenset(n for n, _ in whole if n not in self._tied),
            frozenset(n for n, a in self.tensors().items() if not a.size or np.ptp(a) == 0),
            self._tied,
            owned,
            {n: None if t.dtype.is_floating_point else to_numpy(t) for n, t in whole},
            run.order,
            run.kinds,
        )

    def module(self, path: str) -> nn.Module:
        """A layer in float64; not to be changed."""
        return self._models["f64"].get_submodule(path)

    def run(
        self,
        tensors: Mapping[str, np.ndarray],
        inputs: Arguments,
        precision: str,
        training: bool,
        *,
        pins: Pins | None = None,
        keep: frozenset[str] | None = None,
        cotangents: Sequence[np.ndarray] | None = None,
        seed: int | None = None,
        watch: frozenset[Call] | None = None,
    ) -> Recording:
        """One forward pass, and a backward pass where there are cotangents.

        Args:
          tensors: float tensors by name.
          inputs: NumPy.
          precision: f64, f32 or bf16: of tensors, inputs and computation.
          training: the mode.
          pins: what replaces the values and the gradients that pass.
          keep: paths of the modules to record, None for all.
          cotangents: gradients of the outputs; with a loss their values don't matter.
          seed: for what draws random numbers, the side's own if None.
          watch: calls whose arguments, as the module got them, are kept; so are all operations then.
        """
        make_room(tensors, pins)
        mixed = self._autocast and precision == "bf16"
        held = "f32" if mixed else precision
        model, dtype = self._model(held), DTYPES[held]
        _load(model, tensors)
        model.train(training)
        leaves = [_to_tensor(leaf, dtype) for leaf in inputs.leaves]
        given = inputs.replaced(
            [x.clone() if is_float_tensor(x) else x for x in leaves]
        )  # may be changed in place
        tape = Tape({id(t): n for n, t in _tensors(model)}) if watch is not None else None
        taps = Taps(model, pins or {}, keep, dtype, watch or frozenset(), tape)
        without_dropout = WithoutDropout(taps.where)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_as_it_was(model))
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(self._seed if seed is None else seed)
            stack.enter_context(_default_dtype(dtype if precision != "bf16" else torch.float32))
            stack.enter_context(taps)
            if tape is not None:
                stack.enter_context(tape)
            stack.enter_context(without_dropout)
            stack.enter_context(safe_threads(model))
            if precision == "f64":
                stack.enter_context(Widened())
            mode, low = "train" if training else "eval", precision == "bf16"
            who = f"in {mode} mode{', in bfloat16,' if low else ''} the PyTorch network"
            stack.enter_context(running(who, "; leave bf16 out of precisions" if low else ""))
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                returned = self._call(model, *given.args, train=training, **given.kwargs)
            outputs = {name: x for name, x in _named_leaves(self._outputs(returned)) if is_float_tensor(x)}
            if tape is not None:
                for name, x in outputs.items():
                    tape.arrives(name, x)
            loss = None
            if cotangents is not None:
                loss = self._backward(returned, list(outputs.values()), cotangents)
            grads = {name: _taken(p) for name, p in model.named_parameters()}
            state = {n: to_numpy(b) for n, b in model.named_buffers() if b.dtype.is_floating_point}
        return Recording(
            taps.slots, taps.order, taps.kinds, {n: to_numpy(o) for n, o in outputs.items()}, state, grads,
            [to_numpy(x.grad) if is_float_tensor(x) and x.grad is not None else None for x in leaves],
            None if loss is None or self._loss is None else float(loss.detach()),
            without_dropout.active, arguments=taps.arguments, tape=tape,
        )  # fmt: skip

    def _backward(
        self, returned: Any, outputs: list[Tensor], cotangents: Sequence[np.ndarray]
    ) -> Tensor | None:
        if self._loss:
            loss = self._loss(returned)
        else:
            pairs = zip(outputs, cotangents, strict=True)
            loss = sum((o * torch.from_numpy(c).to(o.dtype)).sum() for o, c in pairs)  # type: ignore[assignment]
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            return None
        loss.backward()
        return loss

    def _model(self, precision: str) -> nn.Module:
        if precision not in self._models:
            self._models[precision] = _copied(self._models["f64"], precision)
        return self._models[precision]


def _taken(parameter: nn.Parameter) -> np.ndarray:
    """A parameter's gradient, which it has no longer."""
    grad, parameter.grad = parameter.grad, None
    return np.zeros(parameter.shape) if grad is None else to_numpy(grad)


def _copied(model: nn.Module, precision: str) -> nn.Module:
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the PyTorch model can't be copied ({words}): give it as it is built") from error
    twin = twin.to("cpu").to(DTYPES[precision])
    if not any(parameter.requires_grad for parameter in twin.parameters()):
        # all frozen is a network for inference; single ones that are frozen belong to the network
        for parameter in twin.parameters():
            if parameter.dtype.is_floating_point:
                parameter.requires_grad_(True)
    return twin


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _all_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """With further names of tied ones."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _load(model: nn.Module, tensors: Mapping[str, np.ndarray]) -> None:
    with torch.no_grad():
        own = dict(_tensors(model))
        for name, array in tensors.items():
            own[name].copy_(torch.tensor(array))


def _to_tensor(leaf: Any, dtype: torch.dtype) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    tensor = torch.tensor(leaf)
    return tensor.to(dtype).requires_grad_() if is_float(leaf) else tensor


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    return list(_walk(tree, "")) if _children(tree) is not None else [("output", tree)]


def _walk(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = _children(tree)
    if children is None:
        yield path, tree
    for key, child in children or ():
        yield from _walk(child, f"{path}[{key!r}]")


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    """Keys and values of a dict (libraries' output classes are some), a list or tuple, or a data class."""
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    return None


@contextlib.contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Puts buffers back that a run changes, in place or by putting other tensors in their places, and drops
    gradients, also after an error."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, values in kept:
                setattr(module, name, buffer.copy_(values))
        model.zero_grad(set_to_none=True)


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Constants that a model makes as it runs have this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
