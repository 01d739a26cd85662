"""Logits for any number of images, and networks loaded from checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_resnet import naming
from flax_resnet.checkpoint import SUFFIX, not_finite, read
from flax_resnet.compilation_cache import keep_programs
from flax_resnet.devices import DataMesh
from flax_resnet.runtime import float64, in_own_precision, runtime, start_backend
from flax_resnet.steps import make_eval_step
from flax_resnet.train_state import DTYPES, Tree, abstract_model, fit
from recipe.architectures import ModelDescription
from recipe.normalisation import standardisation_table
from recipe.system.errors import UserError
from recipe.training import checkpoints, weights
from recipe.training.description import Inference


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
        results.append(eval_batch(mesh.put(np.concatenate([batch, padding]), mesh.batch)))
    return np.concatenate(jax.device_get(results))[: len(images)]


def read_weights(path: Path) -> tuple[dict[str, Any], Tree]:
    """A weights file's record and its arrays; see recipe.training.weights."""
    record, arrays = weights.read(path)
    return record, naming.variables(arrays)


class Predictor:
    """A network with fixed weights; see recipe.training.engine.LoadedPredictor."""

    def __init__(
        self,
        description: ModelDescription,
        params: Tree,
        batch_stats: Tree,
        inference: Inference,
        *,
        held_out: int = 0,
    ):
        self.precision = inference.precision
        self.runtime = runtime(inference.precision, inference.cpu_kernels)
        self.held_out = held_out
        self._mesh = DataMesh()
        self._batch_size = inference.batch_size
        with float64(self.precision == "f64"):
            graphdef, _, _ = abstract_model(description, self.precision, inference.cpu_kernels)
            variables = params, batch_stats
            self._variables: tuple[Tree, Tree] = jax.device_put(variables, self._mesh.state(variables))
            self._table = jax.device_put(device_table(description, self.precision), self._mesh.replicated)
        self._eval_step = make_eval_step(graphdef)

    @in_own_precision
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map N ≥ 1 uint8 images (N, H, W, 3) to logits (N, classes), float32 (of an f64 network float64)."""
        return batched(
            lambda batch: self._eval_step(*self._variables, batch, self._table),
            images,
            self._batch_size,
            self._mesh,
        )


def load(path: str, inference: Inference = Inference()) -> tuple[ModelDescription, Predictor]:  # noqa: B008
    """Load a checkpoint; architecture, classes and normalisation come from it.

    Args:
      path: a checkpoint, or a workdir, whose best one is taken; or a file of weights, or a folder with one.
      inference: precision, batch size and kernels.

    Returns:
      what the network is, and the network.

    Raises:
      UserError: if there is none, it is damaged, not finite, or of another form.
    """
    start_backend()
    keep_programs()
    found = checkpoints.find_weights(path, SUFFIX)
    record, saved = read_weights(found) if found.suffix == checkpoints.WEIGHTS else read(found)
    description = checkpoints.described(record, found)
    inference = checkpoints.settled(inference, record)
    with float64(inference.precision == "f64"):
        _, *templates = abstract_model(description, inference.precision, inference.cpu_kernels)
        try:
            params, batch_stats = (
                fit(saved[k], t) for k, t in zip(("params", "batch_stats"), templates, strict=True)
            )
        except (KeyError, UserError) as error:
            raise UserError(f"{found}: {error}") from error
    checkpoints.require_finite(not_finite({k: saved[k] for k in ("params", "batch_stats")}), found)
    held_out = checkpoints.held_out(record)
    return description, Predictor(description, params, batch_stats, inference, held_out=held_out)
