"""The product's own steps, lowered for a target from shapes alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.stages import Lowered

from configs import r18
from flax_resnet.devices import DataMesh
from flax_resnet.optimizer import make_optimizer
from flax_resnet.steps import make_eval_step, make_planned_steps, make_train_step
from flax_resnet.train_state import DTYPES, TrainState, abstract_model
from recipe import plan
from recipe.architectures import ModelDescription
from recipe.training.description import Augment, describe_model, describe_optimizer, describe_schedule
from tools.aot.targets import Target

EXAMPLES = 50_000  # of CIFAR-10
CLASS_NAMES = tuple(map(str, range(10)))


def describe(config: Any) -> ModelDescription:
    """ResNet18 for CIFAR-10, unless the config says otherwise."""
    return describe_model(config, CLASS_NAMES, (0.0,) * 3, (1.0,) * 3)


def train_step(target: Target, *, batch_size: int, precision: str, steps: int = 1) -> Lowered:
    """Lower the trainer's program: `steps` planned steps with augmentation, the state donated.

    Args:
      target: what it is for; the batch is split over its devices.
      batch_size: images per step, over all devices.
      precision: config.precision.
      steps: how many run per dispatch; 1 has no loop.
    """
    config = r18.get_config()
    config.batch_size, config.precision = batch_size, precision
    mesh = DataMesh(target.devices)
    schedule = describe_schedule(config, EXAMPLES // batch_size)
    graphdef, params, batch_stats = abstract_model(describe(config), precision, "xla")
    optimizer = make_optimizer(describe_optimizer(config), schedule)
    count: Any = jax.ShapeDtypeStruct((), jnp.int32)
    state: Any = TrainState(count, params, batch_stats, jax.eval_shape(optimizer.init, params))
    dtype = DTYPES[precision][1]
    sums = {"loss": jax.ShapeDtypeStruct((), dtype), "correct": count, "steps": count}
    data = {
        "image": jax.ShapeDtypeStruct((EXAMPLES, 32, 32, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((EXAMPLES,), jnp.int32),
        "table": jax.ShapeDtypeStruct((256, 3), dtype),
    }
    rows = jax.ShapeDtypeStruct((EXAMPLES // batch_size, batch_size), jnp.int32, sharding=mesh.plan)
    epoch = dict.fromkeys(plan.EpochPlan.__dataclass_fields__, rows)
    program = make_planned_steps(
        make_train_step(graphdef, optimizer, config.label_smoothing),
        Augment(**config.augment.to_dict()),
        loop=steps > 1,
        out=(mesh.state(state), mesh.replicated),
    )
    state = _on(state, mesh.state(state))
    sums, data = (_on(tree, jax.tree.map(lambda _: mesh.replicated, tree)) for tree in (sums, data))
    return _lower(program.trace(state, sums, data, epoch, None, steps), target)


def eval_step(target: Target, *, batch_size: int, precision: str) -> Lowered:
    """Lower the evaluation step for `batch_size` images over all devices of a target."""
    mesh = DataMesh(target.devices)
    graphdef, params, batch_stats = abstract_model(describe(r18.get_config()), precision, "xla")
    table = jax.ShapeDtypeStruct((256, 3), DTYPES[precision][1], sharding=mesh.replicated)
    images = jax.ShapeDtypeStruct((batch_size, 32, 32, 3), jnp.uint8, sharding=mesh.batch)
    variables = _on((params, batch_stats), mesh.state((params, batch_stats)))
    return _lower(make_eval_step(graphdef).trace(*variables, images, table), target)


def _on(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), tree, shardings
    )


def _lower(traced: Any, target: Target) -> Lowered:
    return traced.lower(lowering_platforms=(target.platform,))
