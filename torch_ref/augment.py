"""From the plan's integers to a batch of floats, on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from recipe.training.description import Augment

Plan = dict[str, Tensor]  # recipe.plan.EpochPlan's fields


def crop_and_flip(images: Tensor, plan: Plan, pad: int, pad_mode: str) -> Tensor:
    """Gather a batch from the whole dataset, each image padded, cropped and mirrored by its plan.

    Args:
      images: uint8 (N, H, W, 3), all training images.
      plan: one step's row of the epoch plan, int64 (B,) each.
      pad: pixels of padding on each side.
      pad_mode: "zero" (black) or "reflect" (mirrored without repeating the edge).

    Returns:
      uint8 (B, H, W, 3).
    """
    size = images.shape[1]
    positions = torch.arange(size, device=images.device)
    rows = plan["crop_y"][:, None] - pad + positions
    columns = plan["crop_x"][:, None] - pad + positions
    columns = torch.where(plan["flip"][:, None] == 1, columns.flip(1), columns)
    index = plan["index"][:, None, None]
    if pad_mode == "reflect":
        return images[index, _reflect(rows, size)[:, :, None], _reflect(columns, size)[:, None, :]]
    batch = images[index, rows.clamp(0, size - 1)[:, :, None], columns.clamp(0, size - 1)[:, None, :]]
    inside = _inside(rows, size)[:, :, None] & _inside(columns, size)[:, None, :]
    return torch.where(inside[..., None], batch, torch.zeros_like(batch))


def standardise(images: Tensor, table: Tensor) -> Tensor:
    """Look uint8 pixels (…, 3) up in the table (256, 3) of recipe.normalisation."""
    return table[images.long(), torch.arange(3, device=images.device)]


def cut_out(batch: Tensor, plan: Plan, side: int) -> Tensor:
    """Set a square of `side` pixels around each planned centre to 0, the mean colour.

    The square covers centre − side//2 … centre − side//2 + side − 1 and is clipped at the border
    (DeVries and Taylor 2017).
    """
    positions = torch.arange(batch.shape[1], device=batch.device)
    rows = positions - (plan["cutout_y"][:, None] - side // 2)
    columns = positions - (plan["cutout_x"][:, None] - side // 2)
    square = _inside(rows, side)[:, :, None] & _inside(columns, side)[:, None, :]
    return torch.where(square[..., None], torch.zeros_like(batch), batch)


def resize(batch: Tensor, matrix: Tensor) -> Tensor:
    """Map images (B, H, H, 3) to (B, S, S, 3) with a matrix (S, H) of recipe.resize along both axes."""
    return torch.einsum("ih,bhwc,jw->bijc", matrix, batch, matrix)


def make_batch(
    data: dict[str, Tensor], plan: Plan, augment: Augment, resize_matrix: Tensor | None = None
) -> dict[str, Tensor]:
    """Make one training batch: {"image": standardised (B, H, W, 3) or (B, S, S, 3), "label": int64 (B,)}.

    Args:
      data: {"image": uint8 (N, H, W, 3), "label": int64 (N,), "table": float (256, 3)}.
      plan: one step's row of the epoch plan.
      augment: pad, flip and cutout of the run.
      resize_matrix: float (S, H), of recipe.resize; None leaves images as they are.
    """
    image = standardise(crop_and_flip(data["image"], plan, augment.pad, augment.pad_mode), data["table"])
    if augment.cutout:
        image = cut_out(image, plan, augment.cutout)
    if resize_matrix is not None:
        image = resize(image, resize_matrix)
    return {"image": image, "label": data["label"][plan["index"]]}


def _inside(position: Tensor, size: int) -> Tensor:
    return (position >= 0) & (position < size)


def _reflect(position: Tensor, size: int) -> Tensor:
    return size - 1 - (size - 1 - position.abs()).abs()
