"""How a run of anybody's PyTorch module differs from a plain one: no dropout, float64 throughout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from parity.comparison.recording import Dropout

NARROW = (torch.float32, torch.bfloat16, torch.float16)
CASTS = ("float", "half", "bfloat16")  # methods of a tensor
DROPOUTS = (
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout",
    "feature_alpha_dropout",
)  # fmt: skip
WITH_DROPOUT = {  # function → where its rate is: the position and the keyword
    "scaled_dot_product_attention": (4, "dropout_p"),
    "multi_head_attention_forward": (10, "dropout_p"),
}
REQUIRE = Tensor.requires_grad.__set__  # type: ignore[attr-defined]
RNNS = ("lstm", "gru", "rnn_tanh", "rnn_relu")  # their rate, and then whether it counts, are by position


class WithoutDropout(TorchFunctionMode):
    """Passes values through every dropout, and keeps which were active.

    Args:
      where: the path of the module that is running.
    """

    def __init__(self, where: Callable[[], str]):
        super().__init__()
        self.where, self.active = where, list[Dropout]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, or what it would be with a rate of 0."""
        kwargs = dict(kwargs or {})
        if func == REQUIRE and args[1] and args[0].requires_grad:
            return None  # code that freezes a part asks for it, though its inputs may need gradients already
        name = getattr(func, "__name__", "").rstrip("_")
        if name in DROPOUTS:
            self._note(_argument(args, kwargs, 1, "p", 0.5), _argument(args, kwargs, 2, "training", True))
            return _argument(args, kwargs, 0, "input", None)
        if name in WITH_DROPOUT:
            position, keyword = WITH_DROPOUT[name]
            training = kwargs.get("training", True)
            self._note(_argument(args, kwargs, position, keyword, 0.0), training)
            if len(args) > position:
                args = (*args[:position], 0.0, *args[position + 1 :])
            elif keyword in kwargs:
                kwargs[keyword] = 0.0
        if name in RNNS:
            position = next(i for i, a in enumerate(args) if isinstance(a, float))
            self._note(args[position], args[position + 1])
            args = (*args[:position], 0.0, *args[position + 1 :])
        return func(*args, **kwargs)

    def _note(self, rate: Any, training: Any) -> None:
        if training and rate:
            self.active.append(Dropout(self.where(), float(rate)))


class Widened(TorchFunctionMode):
    """Makes every conversion to a narrower float one to float64, so that nothing is rounded on the way."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` in float64."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in CASTS and args and _is_float(args[0]):
            return args[0].double()
        args = tuple(_wide_dtype(a) for a in args)
        kwargs = {key: _wide_dtype(a) for key, a in kwargs.items()}
        if not name.endswith("_") and any(_is_float(a) and a.dtype == torch.float64 for a in args):
            # a tensor that is no buffer stays behind when a module becomes float64
            args = tuple(a.double() if _is_float(a) and a.dtype in NARROW else a for a in args)
        return func(*args, **kwargs)


def _argument(args: Any, kwargs: Any, position: int, keyword: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(keyword, default)


def _wide_dtype(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in NARROW else value


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype.is_floating_point
