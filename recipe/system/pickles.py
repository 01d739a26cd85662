"""What a pickle would make, found by reading its instructions. Nothing of it is made or run.

A few hundred bytes can stand for more objects than a computer holds: a list that holds another one ten times,
which holds another one ten times, … To walk through such a thing, to compare, hash or print it, never ends.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import IO, Any

DEEPEST = 100  # objects within each other; a training run's have ten
MOST_OBJECTS = 5_000_000  # each counted as often as it is reached; a run of ResNet152 has 50,000
LETTERS = 64  # that count as one object more

_CALL = ("REDUCE", "NEWOBJ", "NEWOBJ_EX")  # the first of what they take
_CHANGE = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")  # the first of what they take


class TooMuch(ValueError):
    """What a pickle would make is beyond the limits of this file, for the reason in the message."""


class _Object:
    """What an instruction makes: how large it is by itself, what is in it, and its name if it is imported."""

    def __init__(self, size: int, inside: list[_Object], name: str = ""):
        self.size, self.inside, self.name = size, inside, name


def survey(file: IO[bytes]) -> tuple[set[str], set[str]]:
    """Follow a pickle's instructions to its end, where the file is left.

    Returns:
      the full names of all that it takes from modules by its own instruction, such as
      "collections.OrderedDict", and of those what it calls.

    Raises:
      TooMuch: if what it would make is deeper or larger than the limits of this file.
      ValueError: the reason, if it is no whole pickle.
    """
    stack: list[_Object] = []
    marks: list[int] = []  # places in the stack
    memo: dict[Any, _Object] = {}
    made = _Object(0, [])  # all that is made: also what is dropped again has been hashed, say
    names, calls = set(), set()
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(file), 1):
            name = str(argument).replace(" ", ".") if code.name in ("GLOBAL", "INST") else ""
            names |= {name} if name else set()
            if code.name == "MARK":
                marks.append(len(stack))
            elif code.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                number = len(memo) if argument is None else argument
                if number > count:  # for which a table of that length would be made
                    raise TooMuch(f"it gives an object the number {number:,}, of fewer than {count:,}")
                memo[number] = stack[-1]
            elif code.name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif code.name == "DUP":
                stack.append(stack[-1])
            else:
                taken = _take(code.stack_before, stack, marks)
                if code.name in _CALL:
                    calls.add(taken[0].name)
                if code.name in _CHANGE:
                    taken[0].inside += taken[1:]
                    stack.append(taken[0])
                elif code.stack_after:
                    letters = len(argument) if isinstance(argument, str | bytes) else 0
                    stack.append(_Object(1 + letters // LETTERS, taken, name))
                else:  # STOP, POP, POP_MARK
                    made.inside += taken
    except (IndexError, KeyError) as error:
        raise ValueError("its instructions do not fit together") from error
    made.inside += stack
    _weigh(made)
    return names, calls - {""}


def _take(before: list[Any], stack: list[_Object], marks: list[int]) -> list[_Object]:
    """Take from the stack what an instruction takes, by pickletools' description of it, without the mark."""
    start = len(stack) - len(before)
    if pickletools.markobject in before:
        start = marks.pop() - before.index(pickletools.markobject)
    if start < 0:
        raise IndexError("there is too little on the stack")
    taken = stack[start:]
    del stack[start:]
    return taken


def _weigh(root: _Object) -> None:
    """Raise `TooMuch` if the objects in `root`, at any depth, are too many, too deep, or a circle."""
    found: dict[int, tuple[int, int]] = {}  # id → size with all that is inside, and depth
    path: list[tuple[_Object, Iterator[_Object]]] = [(root, iter(root.inside))]
    on_path = {id(root)}
    while path:
        item, rest = path[-1]
        inner = next((inner for inner in rest if id(inner) not in found), None)
        if inner is None:
            path.pop()
            on_path.discard(id(item))
            size = item.size + sum(found[id(inner)][0] for inner in item.inside)
            depth = 1 + max((found[id(inner)][1] for inner in item.inside), default=0)
            found[id(item)] = size, depth
            if size > MOST_OBJECTS:
                raise TooMuch(f"it stands for more than {MOST_OBJECTS:,} objects")
            if depth > DEEPEST + 1:
                raise TooMuch(f"it has more than {DEEPEST} objects within each other")
        elif id(inner) in on_path:
            raise TooMuch("it holds an object that is within itself")
        else:
            on_path.add(id(inner))
            path.append((inner, iter(inner.inside)))
