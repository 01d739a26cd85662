"""What the files beside another project's weights say: config.json of timm or transformers, and
preprocessor_config.json of transformers.

Other files of these names, such as the config of a run, are passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipe.architectures import ARCHITECTURES
from recipe.system import json_values
from recipe.system.errors import UserError
from recipe.system.terminal import shown

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
TIMM = {"architecture", "pretrained_cfg"}
TRANSFORMERS = {"architectures", "model_type", "id2label"}
PROBLEMS = {  # transformers' problem_type → what outputs are
    "single_label_classification": "classes",
    "multi_label_classification": "labels",
    "regression": "numbers",
}
PLACEHOLDER = re.compile(r"LABEL_\d+")  # how transformers calls a class that nobody named


def read(folder: Path, arch: str, classes: int) -> dict[str, dict[str, Any]]:
    """What the files in a folder say about the weights beside them.

    Args:
      folder: where the weights are.
      arch: the architecture of the weights, a key of ARCHITECTURES.
      classes: how many logits they compute.

    Returns:
      file name → fields of a `ModelDescription`.

    Raises:
      UserError: if a file is not JSON, a value can't be what it is called, or it is about another network.
    """
    said = {}
    for name, fields_of in ((CONFIG, _config), (PREPROCESSOR, _preprocessor)):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json_values.read(path)
        except (ValueError, OSError) as error:
            raise UserError(
                f"{path}, which should describe the weights beside it, is not readable: {error}"
            ) from error
        try:
            fields = fields_of(content, arch, classes) if isinstance(content, dict) else {}
        except UserError as error:
            raise UserError(
                f"{path}: {error}; correct it, or keep the weights in a folder without it"
            ) from error
        if fields:
            said[name] = fields
    return said


def _config(content: dict[str, Any], arch: str, classes: int) -> dict[str, Any]:
    """The fields of a config.json; none if it is neither timm's nor transformers'."""
    if not content.keys() & (TIMM | TRANSFORMERS):
        return {}
    inner = content.get("pretrained_cfg")
    timm = {**content, **inner} if isinstance(inner, Mapping) else content
    _check_architecture(content.get("architecture"), arch)
    _check_function(content, arch)
    names = timm.get("label_names")
    if names is None and content.get("id2label") is not None:
        names = _labels(content["id2label"])
    for key in ("num_classes", "num_labels"):  # timm's pretrained_cfg may have the classes of another network
        _check_count(key, content.get(key, timm.get(key)), classes)
    fields: dict[str, Any] = {}
    if (problem := content.get("problem_type")) is not None:
        if problem not in PROBLEMS:
            raise UserError(f"problem_type must be one of {', '.join(PROBLEMS)}, not {shown(problem)}")
        fields["outputs"] = PROBLEMS[problem]
    if names is not None:
        fields |= _class_names(names, classes)
    if timm.get("input_size") is not None:
        fields["image_size"] = _square("input_size", timm["input_size"])
    return fields | _normalisation(timm, "mean", "std")


def _preprocessor(content: dict[str, Any], _arch: str, _classes: int) -> dict[str, Any]:
    """The fields of a preprocessor_config.json of transformers."""
    fields: dict[str, Any] = {}
    size = content.get("crop_size") if content.get("do_center_crop") else None
    size = size if size is not None else content.get("size")
    if size is not None:
        fields["image_size"] = _pixels(size)
    if content.get("do_normalize") is False:
        return fields | {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    factor = content.get("rescale_factor", 1 / 255)
    if (
        not _is_number(factor)
        or not math.isclose(factor, 1 / 255, rel_tol=1e-6)
        or content.get("do_rescale") is False
    ):
        raise UserError(f"pixels are scaled by {shown(factor)}, and not by 1/255 as they are here")
    return fields | _normalisation(content, "image_mean", "image_std")


def _check_architecture(theirs: Any, arch: str) -> None:
    """Raise a `UserError` if a network of another depth is named. Unknown names say nothing."""
    name = str(theirs).partition(".")[0]  # timm: resnet18.a1_in1k
    if name in ARCHITECTURES and name.removesuffix("b") != arch.removesuffix("b"):
        raise UserError(f"architecture is {shown(theirs)}, the weights are those of a {arch}")


def _check_function(content: Mapping[str, Any], arch: str) -> None:
    """Raise a `UserError` where transformers' ResNet computes another function than this project's."""
    if content.get("model_type") != "resnet":
        return
    if content.get("downsample_in_bottleneck") and ARCHITECTURES[arch].block == "bottleneck":
        raise UserError("downsample_in_bottleneck: the stride is in the first 1×1, here it is in the 3×3")
    if content.get("hidden_act", "relu") != "relu":
        raise UserError(f"hidden_act is {shown(content['hidden_act'])}, here it is a ReLU")


def _check_count(key: str, count: Any, classes: int) -> None:
    if count is not None and count != classes:
        raise UserError(f"{key} is {shown(count)}, the weights compute {classes} outputs")


def _labels(id2label: Any) -> Any:
    """The labels of transformers' {"0": label, …} in order; None where they are its placeholders."""
    if not isinstance(id2label, Mapping) or sorted(id2label) != sorted(map(str, range(len(id2label)))):
        raise UserError("id2label must have a name for each class: 0, 1, …")
    labels = [id2label[str(number)] for number in range(len(id2label))]
    return None if labels and all(PLACEHOLDER.fullmatch(str(label)) for label in labels) else labels


def _class_names(names: Any, classes: int) -> dict[str, tuple[str, ...]]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError("the names of the classes must be a list of texts")
    if len(names) != classes:
        raise UserError(f"it names {len(names)} classes, the weights compute {classes} outputs")
    return {"class_names": tuple(names)}


def _normalisation(content: Mapping[str, Any], mean: str, std: str) -> dict[str, tuple[float, ...]]:
    """The "mean" and "std" that are there, under their names in the file."""
    fields = {}
    for field, key in (("mean", mean), ("std", std)):
        values = content.get(key)
        if values is None:
            continue
        if not isinstance(values, list) or len(values) != 3 or not all(map(_is_number, values)):
            raise UserError(f"{key} must be three finite numbers, not {shown(values)}")
        if field == "std" and min(values) <= 0:
            raise UserError(f"{key} must be three positive numbers, not {shown(values)}")
        fields[field] = tuple(map(float, values))
    return fields


def _square(key: str, size: Any) -> int:
    """Pixels of a side, of timm's [channels, height, width]."""
    if not isinstance(size, list) or len(size) != 3 or size[0] != 3 or size[1] != size[2]:
        raise UserError(f"{key} must be [3, pixels, pixels], not {shown(size)}")
    return _positive(key, size[1])


def _pixels(size: Any) -> int:
    """Pixels of a side, of transformers' number, {"height", "width"} or {"shortest_edge"}."""
    if not isinstance(size, Mapping):
        return _positive("size", size)
    if "shortest_edge" in size:
        return _positive("size", size["shortest_edge"])
    if size.get("height") != size.get("width"):
        raise UserError(f"size must be a square, not {shown(dict(size))}")
    return _positive("size", size.get("height"))


def _positive(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{key} must be a positive number of pixels, not {shown(value)}")
    return value


def _is_number(value: Any) -> bool:
    return not json_values.number(value)
