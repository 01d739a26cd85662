"""A user's file with a function that makes a pair, or a half of one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from parity.comparison.halves import FlaxHalf, TorchHalf
from parity.comparison.pair import Pair
from recipe.system import files
from recipe.system.errors import UserError, first_line


def load(text: str) -> Pair:
    """The pair of "my_pair.py:pair"; the function is `pair` if none is named.

    Raises:
      UserError: if there is no such file or function, or it makes no `Pair`.
    """
    return _made(text, ("pair",), Pair)


def load_torch(text: str) -> TorchHalf:
    """PyTorch's half, of a function that makes it or a pair: `torch_half`, else `pair`, if none is named.

    Raises:
      UserError: if there is no such file or function, or it makes neither.
    """
    made = _made(text, ("torch_half", "pair"), TorchHalf)
    return made.torch_half if isinstance(made, Pair) else made


def load_flax(text: str) -> FlaxHalf:
    """Flax's half, of a function that makes it or a pair: `flax_half`, else `pair`, if none is named.

    Raises:
      UserError: if there is no such file or function, or it makes neither.
    """
    made = _made(text, ("flax_half", "pair"), FlaxHalf)
    return made.flax_half if isinstance(made, Pair) else made


def _made(text: str, names: tuple[str, ...], kind: type) -> Any:
    """What the function of a file makes: a thing of this kind, or a `Pair`.

    The file's folder is on the path while it is imported and the function runs, as it is for a script.
    Weights that it draws with PyTorch are the same every time.
    """
    name, _, function = text.partition(":")
    path = files.expanded(name)
    if not path.is_file():
        raise UserError(
            f"there is no file {name}: give a Python file with a function that returns a "
            f"parity.{kind.__name__}"
        )
    spec = importlib.util.spec_from_file_location(f"_pair_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{name} is no Python file: its name has to end in .py")
    if kind is not FlaxHalf:
        import torch  # a half of Flax has to load where there is none

        torch.manual_seed(0)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[spec.name] = module  # dataclasses of the file look for their module there
    try:
        spec.loader.exec_module(module)
        wanted = (function,) if function else names
        chosen = next((one for one in wanted if callable(getattr(module, one, None))), None)
        if chosen is None:
            raise UserError(f"{name} has no function {wanted[0]!r} that returns a parity.{kind.__name__}")
        made = getattr(module, chosen)()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} fails{_line(error, path)}: {first_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
        sys.modules.pop(spec.name, None)
    if not isinstance(made, kind | Pair):
        raise UserError(f"{chosen} of {name} returns {type(made).__name__}, not a parity.{kind.__name__}")
    return made


def _line(error: BaseException, path: Path) -> str:
    """The last line of the user's file that the error went through."""
    line, trace = None, error.__traceback__
    while trace:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" in line {line}" if line else ""
