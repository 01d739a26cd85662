"""The same small network for series in Flax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


class Lstm(nnx.Module):
    """An LSTM over (batch, steps, features), its gates in the order input, cell, forget, output."""

    def __init__(self, features: int, hidden: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        self.from_input = nnx.Linear(features, 4 * hidden, rngs=rngs)
        self.from_state = nnx.Linear(hidden, 4 * hidden, rngs=rngs)

    def __call__(self, x):
        """Return the states of all steps, and the last step's memory."""
        h = c = jnp.zeros((x.shape[0], self.hidden), x.dtype)
        states = []
        for step in range(x.shape[1]):
            gates = self.from_input(x[:, step]) + self.from_state(h)
            i, g, f, o = jnp.split(gates, 4, axis=-1)
            c = nnx.sigmoid(f) * c + nnx.sigmoid(i) * jnp.tanh(g)
            h = nnx.sigmoid(o) * jnp.tanh(c)
            states.append(h)
        return jnp.stack(states, axis=1), c


class Gate(nnx.Module):
    """What a gate sees of the input and of the state."""

    def __init__(self, features: int, hidden: int, *, rngs: nnx.Rngs):
        self.x = nnx.Linear(features, hidden, rngs=rngs)
        self.h = nnx.Linear(hidden, hidden, rngs=rngs)

    def __call__(self, x, h):
        """Sum both."""
        return self.x(x) + self.h(h)


class GruCell(nnx.Module):
    """A step of a GRU."""

    def __init__(self, features: int, hidden: int, *, rngs: nnx.Rngs):
        self.reset = Gate(features, hidden, rngs=rngs)
        self.update = Gate(features, hidden, rngs=rngs)
        self.new = Gate(features, hidden, rngs=rngs)

    def __call__(self, x, h):
        """Return the next state."""
        r = nnx.sigmoid(self.reset(x, h))
        z = jax.nn.sigmoid(self.update(x, h))
        n = jnp.tanh(self.new.x(x) + r * self.new.h(h))
        return (1 - z) * n + z * h


class Forecaster(nnx.Module):
    """Series (batch, steps, 5), the weekdays of their steps and their lengths, to the next three values."""

    def __init__(self, hidden: int = 12, *, rngs: nnx.Rngs):
        self.days = nnx.Embed(7, 4, rngs=rngs)
        self.lstm = Lstm(9, hidden, rngs=rngs)
        self.summary = nnx.Linear(hidden, hidden, rngs=rngs)
        self.gru = GruCell(hidden, hidden, rngs=rngs)
        self.ln = nnx.LayerNorm(hidden, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.dense = nnx.Linear(hidden, hidden, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.values = nnx.Linear(hidden, 2, rngs=rngs)

    def read_out(self, h):
        """Return the two values of a step."""
        y = jnp.tanh(self.dense(self.ln(h)))
        return self.values(self.dropout(y))

    def __call__(self, series, weekdays, lengths):
        """Return the forecast, and the states it came from."""
        states, memory = self.lstm(jnp.concatenate([series, self.days(weekdays)], axis=-1))
        h = jnp.take_along_axis(states, (lengths - 1)[:, None, None], axis=1)[:, 0]
        summary = self.summary(h)
        steps = []
        for _ in range(3):
            h = self.gru(summary, h)
            steps.append(self.read_out(h))
        return jnp.stack(steps, axis=1), {"memory": memory, "state": h}
