"""The training step and the evaluation step: pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from flax_resnet.augment import make_batch, standardise
from flax_resnet.train_state import TrainState, Tree
from recipe.training.description import Augment

Metrics = dict[str, jax.Array]

# scopes that a profile of the compiled step tells operations apart by; the others are the network's
AUGMENTATION, OPTIMIZER = "augmentation", "optimizer"


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Mean cross-entropy of logits (B, C) and int labels (B,), taken in at least float32.

    With smoothing ε the target is 1 − ε + ε/C for the true class and ε/C for the others, as in
    `torch.nn.functional.cross_entropy`.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if not label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    targets = optax.smooth_labels(
        jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), label_smoothing
    )
    return optax.softmax_cross_entropy(logits, targets).mean()


def make_loss(graphdef: nnx.GraphDef, label_smoothing: float) -> Callable[..., tuple[jax.Array, Any]]:
    """Return loss(params, batch_stats, batch) -> (loss, (logits, new batch_stats)), in train mode."""

    def loss(params: Tree, batch_stats: Tree, batch: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
        model = nnx.merge(graphdef, params, batch_stats)
        model.train()
        logits = model(batch["image"])
        new_batch_stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return cross_entropy(logits, batch["label"], label_smoothing), (logits, new_batch_stats)

    return loss


def make_train_step(
    graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, label_smoothing: float
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]]:
    """Return train_step(state, batch) -> (state, metrics), where batch is {"image", "label"}.

    The metrics are {"loss": mean over the batch, "correct": int32 count}, both before the update.
    """
    grad = jax.value_and_grad(make_loss(graphdef, label_smoothing), has_aux=True)

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        (loss, (logits, batch_stats)), grads = grad(state.params, state.batch_stats, batch)
        with jax.named_scope(OPTIMIZER):
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        correct = jnp.sum(jnp.argmax(logits, axis=-1) == batch["label"], dtype=jnp.int32)
        return TrainState(state.step + 1, params, batch_stats, opt_state), {"loss": loss, "correct": correct}

    return train_step


def make_planned_steps(
    train_step: Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]],
    augment: Augment,
    *,
    loop: bool,
    out: Any,
) -> Any:
    """Return steps(state, sums, data, plan, resize_matrix, count) -> (state, sums), compiled.

    Each step takes its batch from the device-resident data by the epoch plan's row, and adds its metrics
    to the epoch's sums {"loss", "correct", "steps"}. The state is donated. Data and plan are arguments, never
    closed over: as constants, XLA would fold them into the program. `resize_matrix` is None where images keep
    their size.

    With `loop`, `count` steps run in one program, and how an epoch is cut into counts changes no bit and
    compiles nothing anew. Without it one step runs, and there is no loop, not even of one step: in a loop,
    XLA:CPU computes a convolution's weight gradient tens of times slower (jax #12868). XLA rounds a step in a
    loop and one outside differently. `out` holds the shardings of (state, sums).
    """

    def step(
        state: TrainState,
        sums: Metrics,
        data: dict[str, jax.Array],
        plan: dict[str, jax.Array],
        resize_matrix: jax.Array | None,
    ) -> tuple[TrainState, Metrics]:
        with jax.named_scope(AUGMENTATION):
            row = {name: rows[state.step % len(rows)] for name, rows in plan.items()}
            batch = make_batch(data, row, augment, resize_matrix)
        state, metrics = train_step(state, batch)
        return state, {
            "loss": sums["loss"] + metrics["loss"],
            "correct": sums["correct"] + metrics["correct"],
            "steps": sums["steps"] + 1,
        }

    def steps(
        state: TrainState,
        sums: Metrics,
        data: dict[str, jax.Array],
        plan: dict[str, jax.Array],
        resize_matrix: jax.Array | None,
        count: int,
    ) -> tuple[TrainState, Metrics]:
        def body(_: int, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            return step(*carry, data, plan, resize_matrix)

        return jax.lax.fori_loop(0, count, body, (state, sums)) if loop else body(0, (state, sums))

    return jax.jit(steps, donate_argnums=0, out_shardings=out)


def make_eval_step(graphdef: nnx.GraphDef, out: Any = None) -> Any:
    """Return eval_step(params, batch_stats, uint8 images (B, H, W, 3), table) -> logits (B, C), compiled.

    `out` is the sharding of the logits.
    """

    def eval_step(params: Tree, batch_stats: Tree, images: jax.Array, table: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, params, batch_stats)
        model.eval()
        logits = model(standardise(images, table))
        return logits.astype(table.dtype)

    return jax.jit(eval_step, out_shardings=out)
