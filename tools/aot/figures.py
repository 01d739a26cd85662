"""The figures of a compiled step."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax.stages import Compiled

from tools.aot import hlo


class Figures(NamedTuple):
    """What a program costs; per device where there are several."""

    launches: int  # of a GPU's program; a TPU's instructions are no launches
    bytes_per_image: float
    memory: int  # bytes: arguments, results and temporary arrays; donated ones once
    temporary: int  # bytes of these that live only within a step
    collectives: dict[str, list[int]]  # how many of each, and their bytes
    transposes: int  # of four-dimensional arrays
    convolutions: int
    f32_convolutions: int  # with at least one operand in float32


def figures(program: Compiled, images: int, *, count_launches: bool) -> Figures:
    """Read a program's figures from its optimized HLO.

    Args:
      program: compiled.
      images: how many a run of it handles on each device.
      count_launches: whether it is a GPU's program.
    """
    module = hlo.parse(program.as_text() or "")
    launches = list(module.launches()) if count_launches else []
    memory: Any = program.memory_analysis()
    convolutions = list(module.convolutions())
    return Figures(
        launches=len(launches),
        bytes_per_image=sum(launch.bytes_read + launch.bytes_written for launch in launches) / images,
        memory=memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        collectives={name: list(of) for name, of in module.collectives().items()},
        transposes=len(list(module.transposes())),
        convolutions=len(convolutions),
        f32_convolutions=sum(any(s.startswith("f32") for s in shapes) for _, shapes in convolutions),
    )
