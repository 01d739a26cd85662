"""Files built in any way give the network that was put into them, or one line: never another network."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.convert.files import read
from parity.convert.layouts import LAYOUTS
from parity.convert.state_dicts import wanted_shapes
from parity.tensors import to_numpy
from recipe.state_dict import COUNTER
from recipe.system.errors import UserError
from tests.parity.helpers import describe, random_arrays

SHAPES = wanted_shapes(describe())
KEYS = st.lists(st.sampled_from(["model", "state_dict", "net", "module", "ema", "a b", "ünï"]), max_size=3)
PREFIX = st.lists(st.sampled_from(["module", "_orig_mod", "encoder", "backbone", "ema", "x y"]), max_size=3)
FOREIGN: dict[str, Any] = {
    "epoch": 3, "args": {"lr": 0.1}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "best": None,
    "loss": torch.tensor(0.5), "n_averaged": torch.tensor(4), "queue": torch.zeros(2, 3), "names": ["a", "b"],
    "half": torch.zeros(2, dtype=torch.float16), "head.weight": torch.zeros(3, 2),
}  # fmt: skip
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


class Made(NamedTuple):
    """A network as it is put into a file."""

    keys: list[str]
    prefix: list[str]
    dtype: torch.dtype
    counters: str  # whole | none | float


made = st.builds(
    Made, KEYS, PREFIX, st.sampled_from(DTYPES), st.sampled_from(["whole", "whole", "none", "float"])
)


def place(one: Made) -> tuple[str, ...]:
    """Where it is in a file."""
    return (*one.keys, "/", *one.prefix)


def tensors(one: Made, seed: int) -> dict[str, torch.Tensor]:
    """By akamaster's names; values that every dtype has."""
    named = {}
    for name, array in random_arrays(SHAPES, np.float16, seed).items():
        if name.endswith(COUNTER) and one.counters == "none":
            continue
        tensor = torch.from_numpy(array.copy())
        if name.endswith(COUNTER):
            tensor = tensor / 2 if one.counters == "float" else tensor
        else:
            tensor = tensor.to(one.dtype)
        named["".join(f"{part}." for part in one.prefix) + LAYOUTS["akamaster"].theirs(name)] = tensor
    return named


def put(content: dict[str, Any], one: Made, seed: int) -> None:
    """Add a network to what a file holds."""
    for key in one.keys:
        content = content.setdefault(key, {})
    content.update(tensors(one, seed))


def check(found: Any, one: Made, seed: int) -> None:
    """It has the network's values, all of them and no others."""
    expected = {
        name.removeprefix("".join(f"{part}." for part in one.prefix)): tensor
        for name, tensor in tensors(one, seed).items()
        if not (one.counters == "float" and name.endswith(COUNTER))
    }
    assert found.model.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found.model[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert found.model[name].tobytes() == to_numpy(tensor).tobytes()


def check_file(path: Path, form: str, networks: list[Made], foreign: set[str]) -> None:
    """Write a file of networks and other entries, and read each of them."""
    content: dict[str, Any] = {}
    if form == "safetensors":
        in_one = {tuple(one.prefix): one._replace(keys=[]) for one in networks}  # it has no dicts in dicts
        networks = list(in_one.values())
    for seed, one in enumerate(networks):
        put(content, one, seed)
    entries = {name: FOREIGN[name] for name in foreign}
    if form == "safetensors":
        entries = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
        safetensors.torch.save_file(content | entries, path)
    else:
        torch.save(content | entries, path, _use_new_zipfile_serialization=form == "torch")
    found = outcome(path)
    if isinstance(found, str):
        for name in re.findall(r"--weights=('[^']*'|[^\s,]+)", found):
            taken = outcome(path, *shlex.split(name))
            if not isinstance(taken, str):
                check_one_of(taken, networks)
    else:
        check_one_of(found, networks)
        assert len(networks) == 1  # else one was taken silently


def outcome(path: Path, weights: str | None = None) -> Any:
    """What is read, or the error's one line."""
    try:
        return read(path, weights=weights)
    except UserError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    return message


def check_one_of(found: Any, networks: list[Made]) -> None:
    """It is one of the networks, and that of the place that it says."""
    source = found.record["source"]
    keys = [source["wrapper"]] if isinstance(source["wrapper"], str) else source["wrapper"]
    place = ([key for key in keys if key], source["prefix"])
    seeds = [
        seed
        for seed, one in enumerate(networks)
        if (one.keys, "".join(f"{part}." for part in one.prefix)) == place
    ]
    assert seeds
    check(found, networks[seeds[-1]], seeds[-1])


SUFFIX = {"torch": "pth", "legacy": "tar", "safetensors": "safetensors"}
FORMS = st.sampled_from(list(SUFFIX))
FILES = {
    "form": FORMS, "networks": st.lists(made, min_size=1, max_size=2, unique_by=place),
    "foreign": st.sets(st.sampled_from([*FOREIGN])),
}  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(**FILES)
def test_a_network_is_found_whatever_is_around_it(
    form: str, networks: list[Made], foreign: set[str], tmp_path_factory: pytest.TempPathFactory
):
    check_file(tmp_path_factory.getbasetemp() / f"strange.{SUFFIX[form]}", form, networks, foreign)


@pytest.mark.heavy
@settings(max_examples=1_000, deadline=None)
@given(**FILES)
def test_a_network_is_found_whatever_is_around_it_for_long(
    form: str, networks: list[Made], foreign: set[str], tmp_path_factory: pytest.TempPathFactory
):
    check_file(tmp_path_factory.getbasetemp() / f"strange_long.{SUFFIX[form]}", form, networks, foreign)
