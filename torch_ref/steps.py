"""The training step and the evaluation step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipe.training.description import Augment
from torch_ref.augment import make_batch, standardise

Metrics = dict[str, Tensor]


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Compute convolutions in bfloat16 if the precision says so; parameters and statistics stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of logits (B, C) and int labels (B,), taken in at least float32.

    With smoothing ε the target is 1 − ε + ε/C for the true class and ε/C for the others.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def make_loss(
    model: nn.Module, label_smoothing: float, precision: str
) -> Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]:
    """Return loss(batch) -> (loss, logits), in the model's mode."""

    def loss(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        image = batch["image"].permute(0, 3, 1, 2)  # NHWC in memory, NCHW by name: channels_last
        with autocast(precision, image.device):
            logits = model(image)
        return cross_entropy(logits, batch["label"], label_smoothing), logits

    return loss


def make_train_step(
    model: nn.Module,
    optimizer: torch.optim.SGD,
    schedule: Callable[[int], float],
    loss: Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]],
) -> Callable[[int, dict[str, Tensor]], Metrics]:
    """Return train_step(step, batch) -> metrics, where batch is {"image", "label"}.

    The loss is `make_loss`'s, compiled or not. The metrics are {"loss": mean over the batch,
    "correct": count}, both before the update.
    """

    def train_step(step: int, batch: dict[str, Tensor]) -> Metrics:
        model.train()
        value, logits = loss(batch)
        optimizer.zero_grad()
        value.backward()
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.step()
        return {"loss": value.detach(), "correct": (logits.argmax(1) == batch["label"]).sum()}

    return train_step


def make_planned_step(
    train_step: Callable[[int, dict[str, Tensor]], Metrics], augment: Augment
) -> Callable[[int, Metrics, dict[str, Tensor], dict[str, Tensor], Tensor | None], Metrics]:
    """Return step(step, sums, data, plan, resize_matrix) -> sums.

    It takes its batch from the device-resident data by the epoch plan's row, and adds its metrics to
    the epoch's sums {"loss", "correct", "steps"}. `resize_matrix` is None where images keep their size.
    """

    def planned_step(
        step: int,
        sums: Metrics,
        data: dict[str, Tensor],
        plan: dict[str, Tensor],
        resize_matrix: Tensor | None,
    ) -> Metrics:
        row = {name: rows[step % len(rows)] for name, rows in plan.items()}
        metrics = train_step(step, make_batch(data, row, augment, resize_matrix))
        return {
            "loss": sums["loss"] + metrics["loss"],
            "correct": sums["correct"] + metrics["correct"],
            "steps": sums["steps"] + 1,
        }

    return planned_step


def make_eval_step(model: nn.Module, precision: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return eval_step(uint8 images (B, H, W, 3), table) -> logits (B, C)."""

    @torch.inference_mode()
    def eval_step(images: Tensor, table: Tensor) -> Tensor:
        model.eval()
        image = standardise(images, table).permute(0, 3, 1, 2)
        with autocast(precision, image.device):
            logits = model(image)
        return logits.to(table.dtype)

    return eval_step
