"""Mistakes in the network for series, and rewritings of it that are none."""

from __future__ import annotations

from tests.parity.comparison.outside.kinds import CONVERT, FLAX, mistakes, rewritings

LOOP = """        states = []
        for step in range(x.shape[1]):
            gates = self.from_input(x[:, step]) + self.from_state(h)
            i, g, f, o = jnp.split(gates, 4, axis=-1)
            c = nnx.sigmoid(f) * c + nnx.sigmoid(i) * jnp.tanh(g)
            h = nnx.sigmoid(o) * jnp.tanh(c)
            states.append(h)
        return jnp.stack(states, axis=1), c
"""
SCAN = """
        def step(carry, x):
            h, c = carry
            i, g, f, o = jnp.split(self.from_input(x) + self.from_state(h), 4, axis=-1)
            c = nnx.sigmoid(f) * c + nnx.sigmoid(i) * jnp.tanh(g)
            h = nnx.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        (h, c), states = jax.lax.scan(step, (h, c), jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(states, 0, 1), c
"""

MUTANTS = (
    *mistakes(
        "recurrent", FLAX,
        ("LSTM forgets a bias", "self.from_state(h)\n", "h @ self.from_state.kernel\n", "encoder",
         "recurrent cell"),
        ("LSTM without a hidden bias", "nnx.Linear(hidden, 4 * hidden, rngs=rngs)",
         "nnx.Linear(hidden, 4 * hidden, use_bias=False, rngs=rngs)", "encoder.bias_hh_l0",
         "missing parameter"),
        ("LSTM's forget gate with a bias of 1", "nnx.sigmoid(f) * c", "nnx.sigmoid(f + 1) * c", "encoder",
         "recurrent cell"),
        ("LSTM without the last tanh", "nnx.sigmoid(o) * jnp.tanh(c)", "nnx.sigmoid(o) * c", "encoder",
         "recurrent cell"),
        ("GRU's bias outside of the reset gate", "r * self.new.h(h))",
         "r * (h @ self.new.h.kernel) + self.new.h.bias)", "cell", "recurrent cell"),
        ("GRU resets the state, not its product", "self.new.x(x) + r * self.new.h(h)", "self.new(x, r * h)",
         "cell", "recurrent cell"),
        ("GRU's update gate the other way", "(1 - z) * n + z * h", "z * n + (1 - z) * h", "cell",
         "recurrent cell"),
        ("GRU forgets a bias", "n = jnp.tanh(self.new.x(x) +", "n = jnp.tanh(x @ self.new.x.kernel +", "cell",
         "recurrent cell"),
        ("sigmoid is hard", "r = nnx.sigmoid(self.reset(x, h))", "r = nnx.hard_sigmoid(self.reset(x, h))",
         "cell", "recurrent cell"),
        ("last step of the padding",
         "jnp.take_along_axis(states, (lengths - 1)[:, None, None], axis=1)[:, 0]", "states[:, -1]",
         "context", "wiring"),
        ("state starts at zero again", "h = self.gru(summary, h)", "h = self.gru(summary, jnp.zeros_like(h))",
         "cell", "wiring"),
        ("no gradient through time", "h = self.gru(summary, h)",
         "h = self.gru(summary, jax.lax.stop_gradient(h))", "cell", "gradient"),
        ("no tanh in the readout", "jnp.tanh(self.dense(self.ln(h)))", "self.dense(self.ln(h))", "readout.3",
         "activation"),
        ("ReLU in the readout", "jnp.tanh(self.dense(self.ln(h)))", "nnx.relu(self.dense(self.ln(h)))",
         "readout.3", "activation"),
        ("steps from the last to the first",
         "self.from_input(x[:, step])", "self.from_input(x[:, -1 - step])",
         "encoder", "wiring"),
        ("LayerNorm's eps by Flax's default", "nnx.LayerNorm(hidden, epsilon=1e-5,", "nnx.LayerNorm(hidden,",
         "norm", "normalisation"),
        ("weekdays from 1", "self.days(weekdays)", "self.days((weekdays + 1) % 7)", "weekday", "embedding"),
    ),
    *mistakes(
        "recurrent", CONVERT,
        ("LSTM's gates as PyTorch has them", "[[0, 2, 1, 3]]", "[[0, 1, 2, 3]]", "encoder", "recurrent cell"),
        ("GRU's gates in another order", '("reset", "update", "new")', '("update", "reset", "new")', "cell",
         "recurrent cell"),
        ("square Linear transposed", 't["readout.0.weight"].T', 't["readout.0.weight"]', "readout.0",
         "linear layer"),
        ("a bias from elsewhere", '"dense.bias": t["readout.0.bias"]', '"dense.bias": t["context.bias"]',
         "readout.0.bias", "mapping"),
    ),
)  # fmt: skip

REWRITINGS = rewritings(
    "recurrent", FLAX,
    ("the state first, as in Flax's cells", "h = self.gru(summary, h)", "h = self.gru(h=h, x=summary)"),
    ("an LSTM by scan", LOOP, SCAN),
)  # fmt: skip
