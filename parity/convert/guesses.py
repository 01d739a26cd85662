"""What a file that describes no network may mean: its class names, dataset, mean and std by what is usual.

All of it is a guess, and the description says so (`ModelDescription.guessed`), until a flag or a file beside
the weights (`parity.convert.beside`) says what is so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from parity.convert import class_names
from recipe.architectures import GUESSABLE, ModelDescription
from recipe.data.cifar.facts import CIFAR
from recipe.system.errors import UserError

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of pixel/255

IMAGENET = (0.485, 0.456, 0.406)
MEANS = {"imagenet": IMAGENET, **{name: cifar.mean for name, cifar in CIFAR.items()}}
ANYWHERE = ((0.5, 0.5, 0.5), IMAGENET)  # means that projects use for any data
NEAR = 0.03  # what means of the same data differ by at most; CIFAR-10's and SVHN's differ by 0.05


def usual(normalisation: Mapping[str, Normalisation], classes: int, image_size: int) -> dict[str, Any]:
    """The fields of a `ModelDescription` that can be guessed, by the number of classes, all of them marked.

    Args:
      normalisation: a layout's usual one, by dataset; the first is also for datasets not listed.
      classes: how many logits there are.
      image_size: the layout's usual one, in pixels.
    """
    dataset, names = class_names.guess(classes)
    mean, std = _usual_in(normalisation, dataset)
    return {
        "class_names": names, "mean": mean, "std": std, "image_size": image_size, "dataset": dataset,
        "guessed": tuple(name for name in GUESSABLE if (name, dataset) != ("dataset", "unknown")),
    }  # fmt: skip


def corrected(
    description: ModelDescription, said: Mapping[str, Any], normalisation: Mapping[str, Normalisation]
) -> ModelDescription:
    """The description with what somebody said in place of guesses, and with what follows from that.

    Class names that are those of a known dataset say the dataset, and its name says the class names.

    Args:
      description: of a network.
      said: fields of it.
      normalisation: see `usual`.

    Raises:
      UserError: if the fields can't be a network's of that many classes.
    """
    classes, guessed = description.num_classes, description.guessed
    fields, sure = dict(said), set(said)
    if "class_names" in said:
        fields["class_names"] = tuple(said["class_names"])
        if "dataset" not in said and "dataset" in guessed:
            fields["dataset"] = _dataset_of(fields["class_names"])
            sure.add("dataset")
    elif "dataset" in said and "class_names" in guessed:
        spelled = {_plain(name): name for name in class_names.DATASETS.values()}
        dataset = spelled.get(_plain(said["dataset"]), said["dataset"])
        known = class_names.of(dataset)
        fields |= {"dataset": dataset, "class_names": known or tuple(map(str, range(classes)))}
        sure |= {"class_names"} if known else set()
    if (named := len(fields.get("class_names", description.class_names))) != classes:
        hint = "" if "class_names" in said else "; name those of the network with --class-names"
        raise UserError(f"there are {named} class names, but the network has {classes} classes{hint}")
    if "dataset" in fields:
        for name, value in zip(("mean", "std"), _usual_in(normalisation, fields["dataset"]), strict=True):
            if name in guessed:
                fields.setdefault(name, value)
    return dataclasses.replace(
        description, **fields, guessed=tuple(name for name in guessed if name not in sure)
    )


def doubt(description: ModelDescription, normalisation: Mapping[str, Normalisation]) -> str:
    """Why a guess is likely to be wrong; "" where nothing speaks against it."""
    guessed, dataset = description.guessed, description.dataset
    if {"mean", "std"} & set(guessed):
        if dataset in normalisation:
            return ""
        what = "its data is not known" if dataset == "unknown" else f"its data is taken for {dataset}"
        return f"mean and std are those of {next(iter(normalisation))}, for want of others, but {what}"
    if "dataset" in guessed and not _near(description.mean, [MEANS[dataset], *ANYWHERE]):
        return f"its data is taken for {dataset} by the number of classes, but the mean is not usual there"
    return ""


def _usual_in(normalisation: Mapping[str, Normalisation], dataset: str) -> Normalisation:
    return normalisation.get(dataset, next(iter(normalisation.values())))


def _dataset_of(names: Collection[str]) -> str:
    """The known dataset with these class names, however they are spelled; "unknown" if there is none."""
    dataset, known = class_names.guess(len(names))
    return dataset if [*map(_plain, names)] == [*map(_plain, known)] else "unknown"


def _near(mean: Collection[float], means: Collection[tuple[float, ...]]) -> bool:
    return any(all(abs(a - b) <= NEAR for a, b in zip(mean, other, strict=True)) for other in means)


def _plain(name: str) -> str:
    """A name without what spellings differ in: CIFAR-10, cifar_10."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
