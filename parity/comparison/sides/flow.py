"""What depends on what in a traced network: read off its jaxpr, whose steps each count as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from parity.comparison.recording import Call, Slot


def unused_calls(jaxpr: Any, results: int, slots: Sequence[Slot]) -> frozenset[Call]:
    """Calls on whose results nothing depends that the network returns or keeps.

    Args:
      jaxpr: of the network; it gives so many results, and then the values at the slots.
      results: their number.
      slots: in the order of the values.
    """
    needed = {id(var) for var in jaxpr.outvars[:results]}
    for step in reversed(jaxpr.eqns):
        if step.effects or any(id(var) in needed for var in step.outvars):
            needed |= {id(var) for var in step.invars}
    given = [
        (slot.call, id(var) in needed)
        for slot, var in zip(slots, jaxpr.outvars[results:], strict=True)
        if slot.side == "out"
    ]
    return frozenset(call for call, _ in given) - {call for call, need in given if need}


def reached_slots(jaxpr: Any, results: int, slots: Sequence[Slot]) -> frozenset[Slot]:
    """Slots whose value is made of parameters or float inputs, so that a gradient may arrive there.

    Args:
      jaxpr: and
      results: and
      slots: as for `unused_calls`.
    """
    reached = {id(var) for var in jaxpr.invars if _is_float(var)}
    for step in jaxpr.eqns:
        if step.primitive.name != "stop_gradient" and any(id(var) in reached for var in step.invars):
            reached |= {id(var) for var in step.outvars if _is_float(var)}
    values = zip(slots, jaxpr.outvars[results:], strict=True)
    return frozenset(slot for slot, var in values if id(var) in reached)


def _is_float(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jnp.floating)
