"""Class names for checkpoints of other projects, whose files hold none."""

from __future__ import annotations

import ast
import functools
from importlib.util import find_spec
from pathlib import Path

from recipe.data.cifar.facts import CIFAR

_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
    can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter
    palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
    rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
    sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""
CIFAR10, CIFAR100 = CIFAR["cifar10"].class_names, tuple(_CIFAR100.split())


@functools.cache
def imagenet() -> tuple[str, ...]:
    """The names in torchvision's list, from its file: its import takes seconds, and PyTorch's memory."""
    package = find_spec("torchvision")
    assert package is not None
    assert package.origin is not None
    content = (Path(package.origin).parent / "models" / "_meta.py").read_text(encoding="utf-8")
    for statement in ast.parse(content).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="_IMAGENET_CATEGORIES")], value=value):
                return tuple(ast.literal_eval(value))
    raise AssertionError("the pinned torchvision has this list")


DATASETS = {10: "cifar10", 100: "cifar100", 1000: "imagenet"}  # by the number of classes


def of(dataset: str) -> tuple[str, ...] | None:
    """The class names of a known dataset; None for another one."""
    if dataset == "imagenet":
        return imagenet()
    return {"cifar10": CIFAR10, "cifar100": CIFAR100}.get(dataset)


def guess(classes: int) -> tuple[str, tuple[str, ...]]:
    """(dataset, class names) by the number of classes; for other numbers ("unknown", ("0", "1", …))."""
    dataset = DATASETS.get(classes, "unknown")
    return dataset, of(dataset) or tuple(map(str, range(classes)))
