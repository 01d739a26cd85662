"""A user's file with a function that makes a pair."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from parity.comparison.pair import Pair
from recipe.system.errors import UserError


def load(text: str) -> Pair:
    """The pair of "my_pair.py:pair"; the function is `pair` if none is named.

    The file's folder is on the path while it is imported and the function runs, as it is for a script.

    Raises:
      UserError: if there is no such file or function, or it makes no `Pair`.
    """
    name, _, function = text.partition(":")
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            f"there is no file {name}: give a Python file with a function that returns a parity.Pair"
        )
    spec = importlib.util.spec_from_file_location(f"_pair_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{name} is no Python file: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[spec.name] = module  # dataclasses of the file look for their module there
    try:
        spec.loader.exec_module(module)
        make = getattr(module, function or "pair", None)
        if not callable(make):
            raise UserError(f"{name} has no function {function or 'pair'!r} that returns a parity.Pair")
        pair = make()
    except UserError:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
        raise UserError(f"{name} fails{_line(error, path)}: {words}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
        sys.modules.pop(spec.name, None)
    if not isinstance(pair, Pair):
        raise UserError(f"{function or 'pair'} of {name} returns {type(pair).__name__}, not a parity.Pair")
    return pair


def _line(error: BaseException, path: Path) -> str:
    """The last line of the user's file that the error went through."""
    line, trace = None, error.__traceback__
    while trace:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" in line {line}" if line else ""
