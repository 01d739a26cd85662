"""Counts in an optimized HLO module: what is launched, and what each launch reads and writes.

A launch is an instruction of the entry computation that does work on the device: not parameters, constants,
tuples and their elements, nor bitcasts. Of an asynchronous pair only the start counts. A loop counts its
body as often as it runs. A library call (cuDNN, cuBLAS) counts as one launch, though it may be several
kernels.

A launch writes its result and reads its operands, each once and whole, with two exceptions: of an operand
that it only slices or gathers from, it reads as much as it takes; an array that it updates in place costs
the update. What a library call uses as scratch memory is not known, and counts as nothing. So bytes are what
has to cross between the chip and its memory if no cache helps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier",
}  # fmt: skip
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
TAKES = ("slice", "dynamic-slice", "gather")
BITS = {"pred": 8, "token": 0}
CONVOLUTION = 'custom_call_target="__cudnn$conv'

_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    shape: str  # "bf16[8,4]{1,0}", or a tuple of such
    op: str
    operands: tuple[str, ...]
    attributes: str  # the rest of the line
    root: bool

    @property
    def size(self) -> int:
        """Bytes of the result, without a library call's scratch memory."""
        return shape_bytes(re.sub(r"u8\[\d+\]", "", self.shape) if self.is_library_call else self.shape)

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The dimensions={…} of a transpose."""
        found = re.search(r"dimensions=\{([\d,]*)\}", self.attributes)
        return tuple(map(int, found[1].split(","))) if found else ()

    @property
    def is_library_call(self) -> bool:
        """Whether it calls cuDNN or cuBLAS."""
        return self.target.startswith("__cu")

    @property
    def target(self) -> str:
        """What a custom call calls; "" of other instructions."""
        found = re.search(r'\bcustom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ""

    @property
    def op_name(self) -> str:
        """Where the traced function made it, as "jit(steps)/jvp()/mul"; "" where XLA made it."""
        found = re.search(r'\bop_name="([^"]*)"', self.attributes)
        return found[1] if found else ""

    def called(self, attribute: str) -> str:
        """The computation that an attribute names."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""


Computation = dict[str, Instruction]


class Launch(NamedTuple):
    """One launch and what it moves."""

    instruction: Instruction
    bytes_read: int
    bytes_written: int


class Module(NamedTuple):
    """A module in text form, parsed."""

    computations: dict[str, Computation]
    entry: str

    def launches(self, computation: str = "") -> Iterator[Launch]:
        """Everything that is launched, in order; a loop's body as often as it runs.

        Raises:
          ValueError: for a loop whose count is unknown, and for a conditional.
        """
        body = self.computations[computation or self.entry]
        for instruction in body.values():
            op = instruction.op
            if op in FREE or op.endswith(("-done", "-update")):
                continue
            if op == "while":
                count = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes)
                if not count:
                    raise ValueError(f"the loop {instruction.name} runs an unknown number of times")
                yield from list(self.launches(instruction.called("body"))) * int(count[1])
            elif op == "conditional":
                raise ValueError(f"{instruction.name}: a conditional launches one of several things")
            elif op == "call":
                yield from self.launches(instruction.called("to_apply"))
            else:
                yield Launch(instruction, *self.traffic(instruction, body))

    def convolutions(self) -> Iterator[tuple[Instruction, list[str]]]:
        """Every convolution, also inside a fusion, with the shapes of its operands."""
        for body in self.computations.values():
            for i in body.values():
                if i.op == "convolution" or (i.op == "custom-call" and CONVOLUTION in i.attributes):
                    yield i, [body[name].shape for name in i.operands]

    def transposes(self) -> Iterator[Instruction]:
        """Everything that moves a four-dimensional array to another order of its dimensions in memory."""
        for body in self.computations.values():
            for i in body.values():
                four = i.shape.count(",") >= 3 and not i.shape.startswith("(")
                if (
                    four
                    and i.op == "transpose"
                    and _order(i.shape, i.dimensions) != _order(body[i.operands[0]].shape)
                ):
                    yield i
                if four and i.op == "copy" and _order(i.shape) != _order(body[i.operands[0]].shape):
                    yield i

    def collectives(self) -> dict[str, tuple[int, int]]:
        """How many of each collective operation there are, and the bytes of their operands on a device.

        One that is split into a start, steps and an end, as a TPU's are, has the same channel in all of them.
        """
        found: dict[str, tuple[str, int]] = {}
        for body in self.computations.values():
            for i in body.values():
                name = i.op.removesuffix("-start")
                if name in COLLECTIVES:
                    channel = re.search(r"channel_id=(\d+)", i.attributes)
                    size = sum(body[operand].size for operand in i.operands)
                    found.setdefault(channel[1] if channel else i.name, (name, size))
        sizes = {name: [size for n, size in found.values() if n == name] for name in COLLECTIVES}
        return {name: (len(of), sum(of)) for name, of in sizes.items() if of}

    def traffic(self, instruction: Instruction, body: Computation) -> tuple[int, int]:
        """Bytes that one run of an instruction of a computation reads and writes; see above."""
        sizes = [body[name].size for name in instruction.operands]
        inner = self.computations.get(instruction.called("calls"))
        if instruction.op == "fusion" and inner:
            parameters = [i for i in inner.values() if i.op == "parameter"]
            parameters.sort(key=lambda p: int(p.operands[0]))
            reads = [_taken(p, inner) for p in parameters]
            return sum(map(min, reads, sizes)), sum(_written(i, inner) for i in _results(inner))
        if instruction.op in TAKES:
            return instruction.size + sum(sizes[1:]), instruction.size
        if instruction.op == "dynamic-update-slice":
            return sum(sizes[1:]), sizes[1]
        return sum(sizes), instruction.size


def parse(text: str) -> Module:
    """Parse the text of an optimized module (`jax.stages.Compiled.as_text()`)."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instruction = _instruction(found[2], found[3], bool(found[1]))
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("the text has no ENTRY computation")
    return Module(computations, entry)


def shape_bytes(shape: str) -> int:
    """Bytes of all arrays in a shape: shape_bytes("(f32[2,3]{1,0}, bf16[4])") is 32."""
    return sum(
        math.prod(map(int, filter(None, sizes.split(",")))) * _bits(dtype) // 8
        for dtype, sizes in _ARRAY.findall(shape)
    )


def _order(shape: str, dimensions: tuple[int, ...] = ()) -> list[int]:
    """The dimensions from the fastest in memory to the slowest, those of length 1 left out.

    With a transpose's `dimensions`, in terms of its operand.
    """
    array = _ARRAY.search(shape)
    sizes = [int(size) for size in array[2].split(",")] if array else []
    layout = re.search(r"\{([\d,]+)", shape)
    minor = [int(d) for d in layout[1].split(",")] if layout else list(range(len(sizes)))[::-1]
    return [dimensions[d] if dimensions else d for d in minor if sizes[d] > 1]


def _bits(dtype: str) -> int:
    return BITS[dtype] if dtype in BITS else int(re.findall(r"\d+", dtype)[0])


def _instruction(name: str, text: str, root: bool) -> Instruction:
    shape, rest = _split_shape(text)
    op, _, rest = rest.strip().partition("(")
    inside, after = _until_closed(rest)
    # operands may carry their shapes: "f32[2]{0} %a, %b", "0" of a parameter
    names = re.findall(r"%([\w.\-]+)", inside) or re.findall(r"[\w.\-]+", inside)
    return Instruction(name, shape, op, tuple(names) if op != "constant" else (), after, root)


def _split_shape(text: str) -> tuple[str, str]:
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    inside, rest = _until_closed(text[1:])
    return f"({inside})", rest


def _until_closed(text: str) -> tuple[str, str]:
    depth = 1
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[:position], text[position + 1 :]
    raise ValueError(f"no closing parenthesis: {text[:80]}")


def _users(instruction: Instruction, body: Computation) -> list[Instruction]:
    users = [i for i in body.values() if instruction.name in i.operands]
    return [u for i in users for u in (_users(i, body) if i.op == "bitcast" else [i])]


def _taken(parameter: Instruction, body: Computation) -> int:
    """Bytes that a fusion reads of a parameter."""
    users = _users(parameter, body)
    sources = {parameter.name} | {
        i.name for i in body.values() if i.op == "bitcast" and parameter.name in i.operands
    }
    if users and all(u.op in TAKES and u.operands[0] in sources for u in users):
        return sum(u.size for u in users)
    if users and all(u.op == "dynamic-update-slice" and u.operands[0] in sources for u in users):
        return 0
    return parameter.size


def _results(body: Computation) -> list[Instruction]:
    root = next(i for i in body.values() if i.root)
    return [body[name] for name in root.operands] if root.op == "tuple" else [root]


def _written(result: Instruction, body: Computation) -> int:
    return body[result.operands[1]].size if result.op == "dynamic-update-slice" else result.size
