"""Known mistakes of several processes: each is made by PyTorch in one process."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from parity.budgets.reference import distance, ratio
from parity.cause import MATCH, Cause
from parity.verify.training_runs import EPOCH, Setting, flat
from recipe.resize import bilinear
from recipe.state_dict import Arrays
from torch_ref.augment import make_batch
from torch_ref.predict import device_table
from torch_ref.steps import make_loss

MOMENTUM = 0.1  # of batch norm


@dataclasses.dataclass(frozen=True)
class Mistake:
    """What processes do wrong with a step."""

    family: str
    words: str
    own_statistics: bool = False  # each normalises with its own share's
    times: float = 1.0  # what gradients are multiplied by
    same_share: bool = False  # all compute process 0's share
    uneven: bool = False  # process 0 has an example more, and the last one fewer; shares count alike
    sums_of_one: float = 0.0  # the sums are this many times process 0's; 0: those of all


def mistakes(count: int) -> tuple[Mistake, ...]:
    """The known ones of `count` processes."""
    return (
        Mistake("batch norm", "each process takes its share's statistics", own_statistics=True),
        Mistake("gradient", "the gradients of the processes are summed, not averaged", times=count),
        Mistake("gradient", "the gradients are averaged twice", times=1 / count),
        Mistake("pipeline", "all processes compute the share of process 0", same_share=True),
        Mistake("pipeline", "the shares differ in size, but count alike in the mean", uneven=True),
        Mistake("state", "the sums are those of process 0's share alone", sums_of_one=1.0),
        Mistake("state", "the sums are process 0's, taken for those of all", sums_of_one=count),
    )


def cause(setting: Setting, together: Arrays, alone: Arrays, count: int) -> Cause:
    """The mistake that gives the processes' numbers, of the first step or, where that is right, the sums."""
    steps = [name for name in alone if name.startswith("step 1: ")]
    sums = [name for name in alone if name.startswith("epoch 1: ")]
    right = _agree(together, alone, steps)
    names = sums if right else steps
    if right and not _agree(together, alone, [name for name in alone if name.startswith("step ")]):
        return Cause("state", "the first step is right, later ones are not")
    for mistake in mistakes(count):
        if bool(mistake.sums_of_one) == right and _agree(together, _make(setting, mistake, count), names):
            return Cause(mistake.family, mistake.words)
    return Cause("unknown", "no known mistake of several processes gives these numbers")


def _agree(ours: Arrays, theirs: Arrays, names: list[str]) -> bool:
    return all(
        ratio(distance(ours[name], theirs[name], "f64"), float(np.abs(theirs[name]).max())) <= MATCH
        for name in names
    )


def _make(setting: Setting, mistake: Mistake, count: int) -> Arrays:
    """What an epoch gives with a mistake: the state behind the first step, and the sums."""
    run = setting.start("torch")
    trainer: Any = run.trainer
    model, optimizer = trainer.model, trainer.optimizer
    loss = make_loss(model, setting.run.label_smoothing, "f64")
    plan, image_size = setting.batches(0)
    data = {
        "image": torch.from_numpy(setting.data.train_images),
        "label": torch.from_numpy(setting.data.train_labels).long(),
        "table": device_table(setting.run.model, "f64", torch.device("cpu")),
    }
    matrix = None
    if image_size is not None:
        matrix = torch.from_numpy(bilinear(data["image"].shape[1], image_size)).double()
    found: dict[str, np.ndarray] = {}
    losses, correct = 0.0, 0
    for step in range(EPOCH):
        row = {name: torch.from_numpy(rows[step]).long() for name, rows in dataclasses.asdict(plan).items()}
        batch = make_batch(data, row, setting.run.augment, matrix)
        model.train()
        means, logits = _forward(model, loss, batch, mistake, count)
        optimizer.zero_grad()
        (torch.stack(means).mean() * mistake.times).backward()
        for group in optimizer.param_groups:
            group["lr"] = trainer.learning_rate(step)
        optimizer.step()
        share = len(batch["label"]) // count
        right = int((logits[:share].argmax(1) == batch["label"][:share]).sum())
        losses, correct = losses + float(means[0].detach()) / count, correct + right
        if step == 0:
            found |= {f"step 1: {name}": array for name, array in flat(run.state).items()}
    times = mistake.sums_of_one
    sums = {"loss": losses * times, "correct": correct * times, "steps": EPOCH}
    return found | {f"epoch 1: {name}": np.asarray(value, np.float64) for name, value in sums.items()}


def _forward(
    model: torch.nn.Module, loss: Any, batch: dict[str, torch.Tensor], mistake: Mistake, count: int
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Every process's mean loss over its share, and the logits of all examples."""
    size = len(batch["label"])
    share = size // count
    bounds = [i * share for i in range(count)] + [size]
    if mistake.uneven:
        bounds[1:-1] = [bound + 1 for bound in bounds[1:-1]]
    if mistake.same_share:
        batch = {name: torch.cat([values[:share]] * count) for name, values in batch.items()}
    parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    if not mistake.own_statistics:
        _, logits = loss(batch)
        return [F.cross_entropy(logits[part], batch["label"][part]) for part in parts], logits
    # process 0 first: the statistics that stay are its own
    first, *others = ({name: values[part] for name, values in batch.items()} for part in parts)
    results = [loss(first)]
    norms = [norm for norm in model.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.0
    results += [loss(other) for other in others]
    for norm in norms:
        norm.momentum = MOMENTUM
    return [value for value, _ in results], torch.cat([logits for _, logits in results])
