"""Logits for any number of images, and networks loaded from checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from flax_resnet.checkpoint import SUFFIX, read
from flax_resnet.compilation_cache import keep_programs
from flax_resnet.cpu_kernels import choose
from flax_resnet.devices import DataMesh
from flax_resnet.steps import make_eval_step
from flax_resnet.train_state import DTYPES, Tree, abstract_model, fit
from recipe.architectures import ModelDescription
from recipe.normalisation import standardisation_table
from recipe.system.errors import UserError
from recipe.training import checkpoints


def set_up(precision: str) -> None:
    """Switch float64 on if the run needs it, and keep compiled programs; this holds for the whole process."""
    jax.config.update("jax_enable_x64", precision == "f64")
    keep_programs()


def runtime(precision: str, cpu_kernels: str = "auto") -> str:
    """Library versions, device, and whose convolutions run there, for the log."""
    count, device = jax.device_count(), jax.devices()[0]
    _, kernels = choose(cpu_kernels, precision)
    where = device.platform if count == 1 else f"{count} × {device.platform}"
    versions = f"JAX {jax.__version__}, Flax {flax.__version__}"
    return f"{versions} on {where} ({device.device_kind}), kernels: {kernels}"


def device_table(description: ModelDescription, precision: str) -> jax.Array:
    """The standardisation table (256, 3) in the dtype that parameters have."""
    return jnp.asarray(standardisation_table(description.mean, description.std), DTYPES[precision][1])


def batched(
    eval_batch: Callable[[jax.Array], jax.Array], images: np.ndarray, batch_size: int, mesh: DataMesh
) -> np.ndarray:
    """Evaluate images (N, H, W, 3) in batches of one shape, so that one program serves all of them.

    Every device of the mesh gets an equal share of each batch. The last batch is padded with black images,
    whose logits are dropped.
    """
    size = mesh.round_up(min(batch_size, len(images)))
    results: list[jax.Array] = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        padding = np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)
        jax.block_until_ready(results[:-1])  # one under way is enough, and Ctrl-C is heard between two
        results.append(eval_batch(jax.device_put(np.concatenate([batch, padding]), mesh.batch)))
    return np.concatenate(jax.device_get(results))[: len(images)]


class Predictor:
    """A network with fixed weights; see recipe.training.engine.LoadedPredictor."""

    def __init__(
        self,
        description: ModelDescription,
        params: Tree,
        batch_stats: Tree,
        *,
        precision: str,
        batch_size: int,
        cpu_kernels: str = "auto",
        held_out: int = 0,
    ):
        self.runtime = runtime(precision, cpu_kernels)
        self.held_out = held_out
        self._mesh = DataMesh()
        variables = params, batch_stats
        self._variables: tuple[Tree, Tree] = jax.device_put(variables, self._mesh.state(variables))
        self._table = jax.device_put(device_table(description, precision), self._mesh.whole)
        self._batch_size = batch_size
        self._eval_step = make_eval_step(abstract_model(description, precision, cpu_kernels)[0])

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map N ≥ 1 uint8 images (N, H, W, 3) to logits (N, classes), float32 (of an f64 network float64)."""
        return batched(
            lambda batch: self._eval_step(*self._variables, batch, self._table),
            images,
            self._batch_size,
            self._mesh,
        )


def load(path: str, config: Any) -> tuple[ModelDescription, Predictor]:
    """Load a checkpoint; architecture, classes and normalisation come from it.

    Args:
      path: a checkpoint, or a workdir, whose best one is taken.
      config: of which precision, eval_batch_size and cpu_kernels count.

    Returns:
      what the network is, and the network. For the whole process float64 is on from then on if the precision
      is f64, and off if not.

    Raises:
      UserError: if there is none, it is damaged, or of another form.
    """
    set_up(config.precision)
    found = checkpoints.find(path, SUFFIX)
    record, saved = read(found)
    description = checkpoints.described(record, found)
    _, *templates = abstract_model(description, config.precision, config.cpu_kernels)
    try:
        variables = [fit(saved[k], t) for k, t in zip(("params", "batch_stats"), templates, strict=True)]
    except (KeyError, UserError) as error:
        raise UserError(f"{found}: {error}") from error
    return description, Predictor(
        description,
        *variables,
        precision=config.precision,
        batch_size=config.eval_batch_size,
        cpu_kernels=config.cpu_kernels,
        held_out=checkpoints.held_out(record),
    )
