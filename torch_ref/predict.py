"""Logits for any number of images, and networks loaded from checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipe.architectures import ModelDescription
from recipe.normalisation import standardisation_table
from recipe.system.errors import UserError
from recipe.training import checkpoints
from torch_ref.checkpoint import SUFFIX, read
from torch_ref.model import ResNet
from torch_ref.steps import make_eval_step
from torch_ref.train_state import DTYPES, fit, make_model


def set_up() -> torch.device:
    """Switch TF32 off, so that float32 means float32, and return the device to compute on."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def runtime(device: torch.device) -> str:
    """Library version and device, for the log."""
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    return f"PyTorch {torch.__version__} on {device.type} ({name})"


def device_table(description: ModelDescription, precision: str, device: torch.device) -> Tensor:
    """The standardisation table (256, 3) in the dtype that parameters have."""
    table = standardisation_table(description.mean, description.std)
    return torch.from_numpy(table).to(device, DTYPES[precision][1])


def batched(eval_batch: Callable[[Tensor], Tensor], images: np.ndarray, batch_size: int) -> np.ndarray:
    """Evaluate images (N, H, W, 3) in batches; the last one may be smaller."""
    batches = torch.from_numpy(images).split(batch_size)
    return torch.cat([eval_batch(batch) for batch in batches]).cpu().numpy()


class Predictor:
    """A network with fixed weights; see recipe.training.engine.LoadedPredictor."""

    def __init__(
        self,
        description: ModelDescription,
        model: ResNet,
        *,
        precision: str,
        batch_size: int,
        device: torch.device,
        held_out: int = 0,
    ):
        self.runtime = runtime(device)
        self.held_out = held_out
        self._device = device
        self._table = device_table(description, precision, device)
        self._batch_size = batch_size
        self._eval_step = make_eval_step(model, precision)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map N ≥ 1 uint8 images (N, H, W, 3) to logits (N, classes), float32 (of an f64 network float64)."""
        return batched(
            lambda batch: self._eval_step(batch.to(self._device), self._table), images, self._batch_size
        )


def load(path: str, config: Any) -> tuple[ModelDescription, Predictor]:
    """Load a checkpoint; architecture, classes and normalisation come from it.

    Args:
      path: a checkpoint, or a workdir, whose best one is taken.
      config: of which precision and eval_batch_size count.

    Returns:
      what the network is, and the network. TF32 is off for the whole process from then on.

    Raises:
      UserError: if there is none, it is damaged, or of another form.
    """
    device = set_up()
    found = checkpoints.find(path, SUFFIX)
    record, saved = read(found)
    description = checkpoints.described(record, found)
    model = make_model(description, config.precision, device)
    try:
        fit(saved["model"], model)
    except (KeyError, UserError) as error:
        raise UserError(f"{found}: {error}") from error
    return description, Predictor(
        description,
        model,
        precision=config.precision,
        batch_size=config.eval_batch_size,
        device=device,
        held_out=checkpoints.held_out(record),
    )
