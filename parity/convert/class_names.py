"""Class names for checkpoints of other projects, whose files hold none."""

from __future__ import annotations

from torchvision.models import ResNet18_Weights

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
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
CIFAR10, CIFAR100 = tuple(_CIFAR10.split()), tuple(_CIFAR100.split())
IMAGENET = tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])

DATASETS = {10: ("cifar10", CIFAR10), 100: ("cifar100", CIFAR100), 1000: ("imagenet", IMAGENET)}


def guess(classes: int) -> tuple[str, tuple[str, ...]]:
    """(dataset, class names) by the number of classes; for other numbers ("unknown", ("0", "1", …))."""
    return DATASETS.get(classes, ("unknown", tuple(map(str, range(classes)))))
