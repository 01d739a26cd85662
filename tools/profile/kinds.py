"""What kind of work an instruction of an optimized HLO module is, by the module's text.

A launch may do several things at once. It is a convolution or a matrix product if it contains one; else of
the data augmentation or the optimizer if most of what it computes is; else a reduction if it contains one
(batch norm's sums, with the arithmetic that XLA fuses into the same launch); else copying, if it does nothing
else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from flax_resnet.steps import AUGMENTATION, OPTIMIZER
from tools.aot import hlo

FORWARD, GRADIENT = "convolution, forward", "convolution, gradient"
PRODUCT, REDUCE, ELEMENTWISE = "matrix product", "reduction", "batch norm and elementwise"
COPIES, UPDATE, INPUT = "copy or transpose", "optimizer", "data augmentation"
COLLECTIVE, HOST, OTHER = "collective", "copy to or from the host", "other"
KINDS = (
    FORWARD, GRADIENT, PRODUCT, REDUCE, ELEMENTWISE, COPIES, UPDATE, INPUT, COLLECTIVE, HOST, OTHER,
)  # fmt: skip
SCOPES = {AUGMENTATION: INPUT, OPTIMIZER: UPDATE}

MOVES = {
    "copy",
    "transpose",
    "reverse",
    "slice",
    "concatenate",
    "pad",
    "dynamic-slice",
    "dynamic-update-slice",
}
SUMS = {"reduce", "reduce-window", "select-and-scatter"}
SAYS_NOTHING = hlo.FREE | {"broadcast", "convert", "reshape", "iota"}  # of what a fusion is for
CONTAINERS = {"while", "conditional"}
# How cuDNN and cuBLAS call their kernels: a guess, for where a trace names no instruction
KERNEL_NAMES = {
    "fprop": FORWARD, "dgrad": GRADIENT, "wgrad": GRADIENT, "gemm": PRODUCT, "nchwToNhwc": COPIES,
    "nhwcToNchw": COPIES,
}  # fmt: skip


class Program:
    """An optimized module whose instructions are found by their names, which are unique in it."""

    def __init__(self, text: str):
        """Parse the text of a module.

        Raises:
          ValueError: if it is none.
        """
        head = re.match(r"HloModule ([^\s,]+)", text)
        self.name = head[1] if head else ""
        self._module = hlo.parse(text)
        self._found = {
            i.name: (i, body) for body in self._module.computations.values() for i in body.values()
        }
        self._kinds: dict[str, str] = {}
        self._kernels = {re.sub(r"\W", "_", name): name for name in self._found}

    def __contains__(self, name: str) -> bool:
        return name in self._found

    @property
    def convolutions(self) -> frozenset[str]:
        """The names of all convolutions, also of those within fusions."""
        return frozenset(name for name, (i, _) in self._found.items() if _is_convolution(i))

    @property
    def open_loops(self) -> tuple[str, ...]:
        """The loops of which the text does not know how often they run.

        XLA:GPU then copies to the host, each time, whether to go on, and the host waits for it
        (xla/backends/gpu/runtime/while_thunk.cc), unless the loop is in a CUDA graph.
        """
        loops = (i for i, _ in self._found.values() if i.op == "while")
        return tuple(loop.name for loop in loops if "known_trip_count" not in loop.attributes)

    @property
    def has_scopes(self) -> bool:
        """Whether the text says what is of the data augmentation and of the optimizer."""
        return any(_scope(i) for i, _ in self._found.values())

    def instruction(self, hlo_op: str, kernel: str) -> str:
        """The instruction that launched a kernel; "" if that can't be told.

        Args:
          hlo_op: the instruction that the trace names. It may be the launch of a CUDA graph.
          kernel: the kernel's name: XLA names its own after the instruction.
        """
        if hlo_op in self._found and not self._is_container(self._found[hlo_op][0]):
            return hlo_op
        return self._kernels.get(kernel, "")

    def kind(self, name: str) -> str:
        """What an instruction does, of KINDS."""
        if name not in self._kinds:
            self._kinds[name] = _kind(self.parts(name))
        return self._kinds[name]

    def traffic(self, name: str) -> int:
        """Bytes that one run of an instruction reads and writes, as tools.aot.hlo counts them."""
        return sum(self._module.traffic(*self._found[name]))

    def origin(self, name: str) -> str:
        """Where the traced function made an instruction; "" where XLA made it."""
        return self._found[name][0].op_name

    def shape(self, name: str) -> str:
        """The shape of an instruction's result, without the order in memory: "bf16[512,32,32,64]"."""
        return re.sub(r"\{[^}]*\}", "", self._found[name][0].shape)

    def parts(self, name: str) -> list[hlo.Instruction]:
        """What an instruction computes: itself, or what is fused into it."""
        return list(self._parts(self._found[name][0]))

    def _parts(self, instruction: hlo.Instruction) -> Iterator[hlo.Instruction]:
        attribute = {"fusion": "calls", "call": "to_apply", "async-start": "calls"}.get(instruction.op)
        inner = self._module.computations.get(instruction.called(attribute)) if attribute else None
        if inner is None:
            yield instruction
        else:
            for part in inner.values():
                yield from self._parts(part)

    def _is_container(self, instruction: hlo.Instruction) -> bool:
        is_graph = instruction.op == "call" and instruction.called("to_apply").startswith("command_buffer")
        return is_graph or instruction.op in CONTAINERS


def guess(kernel: str) -> str:
    """The kind of a kernel by a library's habit of naming; OTHER where it has none."""
    return next((kind for part, kind in KERNEL_NAMES.items() if part in kernel), OTHER)


def _kind(parts: Sequence[hlo.Instruction]) -> str:
    telling = [part for part in parts if part.op not in SAYS_NOTHING] or parts
    for part in telling:
        if _is_convolution(part):
            return GRADIENT if _is_gradient(part) else FORWARD
    # the linear layer's; a product in the augmentation resizes pictures
    scope = _scope_of_most(telling)
    if any(_is_product(part) for part in telling):
        return SCOPES.get(scope, PRODUCT)
    if any(part.op.removesuffix("-start").removesuffix("-done") in hlo.COLLECTIVES for part in telling):
        return COLLECTIVE
    if scope:
        return SCOPES[scope]
    if any(part.op in SUMS for part in telling):
        return REDUCE
    if all(part.op.removesuffix("-start").removesuffix("-done") in MOVES for part in telling):
        return COPIES
    if any(part.op == "custom-call" and "norm" not in part.target for part in telling):
        return OTHER
    if any(part.op in CONTAINERS for part in telling):
        return OTHER
    return ELEMENTWISE


def _scope_of_most(parts: Iterable[hlo.Instruction]) -> str:
    """The scope of most parts; those that XLA made have no say."""
    counts = Counter(_scope(part) for part in parts if part.op_name)
    return counts.most_common(1)[0][0] if counts else ""


def _scope(instruction: hlo.Instruction) -> str:
    names = re.split("[/;]", instruction.op_name)
    return next((scope for scope in SCOPES if scope in names), "")


def _is_convolution(instruction: hlo.Instruction) -> bool:
    return instruction.op == "convolution" or "conv" in instruction.target.lower()


def _is_gradient(instruction: hlo.Instruction) -> bool:
    """By cuDNN's and our kernels' names, or by where reverse-mode differentiation made it."""
    return "transpose(" in instruction.op_name or bool(re.search("[Bb]ackward|grad", instruction.target))


def _is_product(instruction: hlo.Instruction) -> bool:
    return instruction.op == "dot" or bool(re.search("gemm|matmul|dot", instruction.target))
