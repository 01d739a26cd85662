"""From the plan's integers to a batch of floats, inside the compiled step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recipe.training.description import Augment

Plan = dict[str, jax.Array]  # recipe.plan.EpochPlan's fields


def crop_and_flip(images: jax.Array, plan: Plan, pad: int, pad_mode: str) -> jax.Array:
    """Gather a batch from the whole dataset, each image padded, cropped and mirrored by its plan.

    Args:
      images: uint8 (N, H, W, 3), all training images.
      plan: one step's row of the epoch plan, int32 (B,) each.
      pad: pixels of padding on each side.
      pad_mode: "zero" (black) or "reflect" (mirrored without repeating the edge).

    Returns:
      uint8 (B, H, W, 3).
    """
    size = images.shape[1]
    rows = plan["crop_y"][:, None] - pad + jnp.arange(size)
    columns = plan["crop_x"][:, None] - pad + jnp.arange(size)
    columns = jnp.where(plan["flip"][:, None] == 1, columns[:, ::-1], columns)
    index = plan["index"][:, None, None]
    if pad_mode == "reflect":
        return images[index, _reflect(rows, size)[:, :, None], _reflect(columns, size)[:, None, :]]
    batch = images[index, rows.clip(0, size - 1)[:, :, None], columns.clip(0, size - 1)[:, None, :]]
    inside = _inside(rows, size)[:, :, None] & _inside(columns, size)[:, None, :]
    return jnp.where(inside[..., None], batch, jnp.uint8(0))


def standardise(images: jax.Array, table: jax.Array) -> jax.Array:
    """Look uint8 pixels (…, 3) up in the table (256, 3) of recipe.normalisation."""
    return table[images.astype(jnp.int32), jnp.arange(3)]


def cut_out(batch: jax.Array, plan: Plan, side: int) -> jax.Array:
    """Set a square of `side` pixels around each planned centre to 0, the mean colour.

    The square covers centre − side//2 … centre − side//2 + side − 1 and is clipped at the border
    (DeVries and Taylor 2017).
    """
    positions = jnp.arange(batch.shape[1])
    rows = positions - (plan["cutout_y"][:, None] - side // 2)
    columns = positions - (plan["cutout_x"][:, None] - side // 2)
    square = _inside(rows, side)[:, :, None] & _inside(columns, side)[:, None, :]
    return jnp.where(square[..., None], jnp.zeros((), batch.dtype), batch)


def resize(batch: jax.Array, matrix: jax.Array) -> jax.Array:
    """Map images (B, H, H, 3) to (B, S, S, 3) with a matrix (S, H) of recipe.resize along both axes."""
    return jnp.einsum("ih,bhwc,jw->bijc", matrix, batch, matrix, precision=jax.lax.Precision.HIGHEST)


def make_batch(
    data: dict[str, jax.Array], plan: Plan, augment: Augment, resize_matrix: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Make one training batch: {"image": standardised (B, H, W, 3) or (B, S, S, 3), "label": int32 (B,)}.

    Args:
      data: {"image": uint8 (N, H, W, 3), "label": int32 (N,), "table": float (256, 3)}.
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


def _inside(position: jax.Array, size: int) -> jax.Array:
    return (position >= 0) & (position < size)


def _reflect(position: jax.Array, size: int) -> jax.Array:
    return size - 1 - jnp.abs(size - 1 - jnp.abs(position))
