"""Several processes as one run: `torch.distributed` under torchrun.

Each process computes its share of every batch. DistributedDataParallel averages the gradients, and batch
statistics are those of the whole batch, so that the run is the same as with one process.
"""

from __future__ import annotations

import dataclasses
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from recipe.plan import EpochPlan
from recipe.processes.launch import Launch
from recipe.processes.world import World
from recipe.system.errors import UserError, first_line
from torch_ref.nn.batch_norm import GlobalBatchNorm

CONNECT_SECONDS = 60  # for all processes to find each other


class Store:
    """The key-value store that torchrun's processes meet in; see recipe.processes.world.Store.

    It has a connection of its own, since a collective that is being set up keeps its connection to itself.
    """

    def __init__(self, store: dist.Store):
        self._store = dist.PrefixStore("run", store.clone())

    def set(self, key: str, value: str) -> None:
        """Set or overwrite a value."""
        self._store.set(key, value)

    def get(self, key: str) -> str | None:
        """The value, or None where nobody has set it yet."""
        if not self._store.check([key]):
            return None
        found: bytes = self._store.get(key)
        return found.decode()


def join(launch: Launch) -> World:
    """Become one of a run's processes, as torchrun's environment says.

    Raises:
      UserError: if the others can't be reached within a minute, or there are fewer GPUs than processes.
    """
    del launch  # which is JAX's: see recipe.processes.launch
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus and local >= gpus:
        raise UserError(
            f"torchrun has started more processes than this machine has GPUs; set --nproc-per-node to {gpus} "
            "at most"
        )
    if gpus:
        torch.cuda.set_device(local)
    try:
        store, rank, count = next(dist.rendezvous("env://", timeout=timedelta(seconds=CONNECT_SECONDS)))
        dist.init_process_group("nccl" if gpus else "gloo", store=store, rank=rank, world_size=count)
    except Exception as error:  # of many types
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"can't join the other processes through {where} within {CONNECT_SECONDS} seconds: "
            f"{first_line(error)}"
        ) from error
    return World(rank, count, Store(store))


def own_share(plan: EpochPlan, world: World) -> EpochPlan:
    """The part of an epoch's plan that this process computes: of every batch its slice, in order of rank."""
    share = plan.index.shape[1] // world.count
    mine = slice(world.index * share, (world.index + 1) * share)
    return EpochPlan(**{name: rows[:, mine] for name, rows in dataclasses.asdict(plan).items()})


def with_global_statistics(model: nn.Module) -> nn.Module:
    """Let every batch norm take its statistics from the whole batch; parameters and names stay.

    On a GPU that is PyTorch's SyncBatchNorm, which refuses a CPU.
    """
    if next(model.parameters()).is_cuda:
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return synchronised
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, GlobalBatchNorm(child))
    return model


def averaging_gradients(model: nn.Module) -> nn.Module:
    """A model whose backward pass leaves the mean of all processes' gradients in the parameters."""
    # buffers are the same everywhere already: they follow from global statistics
    return nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False)


def all_sum(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, in the place of the tensor."""
    dist.all_reduce(tensor)
    return tensor


def rows_of_all(own: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The rows of all processes, one process behind the other, of which each gives `counts[its rank]`."""
    padded = own.new_zeros(max(counts), *own.shape[1:])  # gloo gathers tensors of one shape
    padded[: len(own)] = own
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)])


def object_of_process_0(value: Any) -> Any:
    """A value of process 0, in all processes."""
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]
