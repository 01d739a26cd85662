"""State dicts in other projects' files: the dicts around them, and the prefixes of their names."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 — by which safetensors' arrays can be bfloat16
import numpy as np
import safetensors

from recipe.state_dict import Arrays
from recipe.system import json_values, plain
from recipe.system.errors import UserError, choice
from recipe.training.checkpoints import unreadable

# names of blocks, by which a network is found; a damaged one has some of them, and counts as one all the same
BLOCK = re.compile(
    r"(|.*?\.)(layer\d+\.\d+\.[^.]+\.|conv\d+_x\.\d+\.(residual_function|shortcut)\.|resnet\.encoder\.stages\.\d+\.layers\.)"
)
_DTYPES = {  # of safetensors
    "F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64",
}  # fmt: skip
# beside a network's own layers, these compute none of its logits
_BESIDE = re.compile(
    r"n_averaged|num_updates|decay|global_step|queue(_ptr)?|(criterion|\w*loss\w*|\w*metrics?)(\..*)?"
    r"|(train|valid?|test)_\w+(\..*)?|normali[sz]er?\.new_(mean|std)"
)
DEPTH = 6  # of dicts in dicts; a pickle can hold itself


class Container(NamedTuple):
    """A state dict, and what was taken off it."""

    tensors: Arrays
    wrapper: str | list[str]  # the key, or keys, to the state dict; "" where the file is that itself
    prefix: str  # of every name in the file
    fields: dict[str, Any]  # the file's other entries, those that JSON can hold
    lost: list[str]  # names of the entries that JSON can't hold, such as an optimizer's state


def open_safetensors(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Return a safetensors file's tensors and its metadata.

    Raises:
      UserError: if it is damaged, or has a dtype that is not read here.
    """
    try:
        plain.check(path)
        with safetensors.safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118
                if (dtype := file.get_slice(name).get_dtype()) not in _DTYPES:
                    raise UserError(
                        f"{name} has the dtype {dtype}, which is not read here; convert it to float32 first"
                    )
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except UserError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def is_tensor(value: Any) -> bool:
    """Whether a value in a file is a tensor: an array of numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind not in "SU"


def unwrap(content: Any, weights: str | None = None) -> Container:
    """Find the network in what a file holds: below any keys, under any prefix, beside anything else.

    Args:
      content: what a PyTorch file holds, or a safetensors file's tensors; NumPy arrays for tensors.
      weights: the entry or prefix of the network to take, where there are several, such as "model_ema".

    Raises:
      UserError: if there is no state dict, or several networks and none is named.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"the file holds no state dict but a {type(content).__name__}")
    places = list(_networks(content)) or [((), "")]
    path, prefix = _chosen(places, weights)
    state_dict = content
    for key in path:
        state_dict = state_dict[key]
    tensors = {str(name): value for name, value in state_dict.items() if is_tensor(value)}
    if not tensors:
        raise UserError(
            f"the file holds no state dict: its entries are {', '.join(map(str, content)) or 'none'}"
        )
    inner = tuple(p for where, p in places if where == path and p != prefix and p.startswith(prefix))
    ours = {
        name[len(prefix) :]: value
        for name, value in tensors.items()
        if name.startswith(prefix)
        and not name.startswith(inner)
        and not _BESIDE.fullmatch(name[len(prefix) :])
    }
    others = {str(name): value for name, value in content.items() if not path or name != path[0]}
    others = {name: value for name, value in others.items() if path or not is_tensor(value)}
    fields = {name: value for name, value in others.items() if _is_json(name, value)}
    beside = [
        name for name in tensors if name.removeprefix(prefix) not in ours or not name.startswith(prefix)
    ]
    lost = [name for name in others if name not in fields] + _grouped(beside)
    if path:
        entries = [str(name) for name, value in state_dict.items() if not is_tensor(value)]
        lost += [f"{'.'.join(path)}.{name}" for name in entries]
    return Container(ours, list(path) if len(path) > 1 else "".join(path), prefix, fields, lost)


def wrap(
    tensors: Mapping[str, Any], wrapper: str | list[str], prefix: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The inverse of `unwrap`, for what it could keep."""
    wrapped: dict[str, Any] = {prefix + name: tensor for name, tensor in tensors.items()}
    for key in reversed([wrapper] if wrapper and isinstance(wrapper, str) else wrapper):
        wrapped = {key: wrapped}
    return {**wrapped, **fields}


def _networks(
    content: Mapping[Any, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The keys to every state dict, and the prefix of every network in it."""
    names = [str(name) for name, value in content.items() if is_tensor(value)]
    for prefix in dict.fromkeys(match[1] for name in names if (match := BLOCK.match(name))):
        outer = prefix.removesuffix("backbone.")
        yield path, outer if outer != prefix and f"{outer}head.fc.weight" in names else prefix
    for name, value in content.items():
        if isinstance(value, Mapping) and isinstance(name, str) and len(path) < DEPTH:
            yield from _networks(value, (*path, name))


def _chosen(places: list[tuple[tuple[str, ...], str]], weights: str | None) -> tuple[tuple[str, ...], str]:
    """The only place, or the one that `weights` names."""
    full = {".".join((*path, prefix)).rstrip("."): (path, prefix) for path, prefix in places}
    if len(full) < len(places):
        raise UserError("the file holds several networks of one name: save the one that you want alone")
    names = {_shortest(name, full): place for name, place in full.items()}
    if weights:
        wanted = f".{weights.strip('.')}."
        found = [place for name, place in full.items() if wanted in f".{name}."]
        exact = [place for name, place in full.items() if name == weights.strip(".")]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if names.keys() == {""}:
            raise UserError(f"it holds one network, not under {weights}: leave out --weights")
        choice("weights", weights, names)
    if len(names) > 1:
        ways = " or ".join(f"--weights={shlex.quote(name)}" for name in names if name)
        alone = ", or save the one without a prefix alone" if "" in names else ""
        raise UserError(f"the file holds {len(names)} networks: say which with {ways}{alone}")
    return next(iter(names.values()))


def _shortest(name: str, names: Iterable[str]) -> str:
    """The shortest part of a dotted name that is in no other one of `names`; else all of it."""
    parts = name.split(".")
    others = [f".{other}." for other in names if other != name]
    candidates = (
        ".".join(parts[start : start + length])
        for length in range(1, len(parts))
        for start in range(len(parts) - length + 1)
    )
    return next((part for part in candidates if not any(f".{part}." in other for other in others)), name)


def _grouped(names: list[str]) -> list[str]:
    """Names as they are, or many of one beginning as one: "encoder_k. (122 tensors)"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return [g[0] if len(g) == 1 else f"{key}. ({len(g)} tensors)" for key, g in groups.items()]


def _is_json(name: Any, value: Any) -> bool:
    try:
        return isinstance(name, str) and json_values.parse(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False
