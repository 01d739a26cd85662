"""Which checkpoint a path means."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipe.system.errors import UserError
from recipe.training import checkpoints


@pytest.mark.parametrize("suffix", ["", ".pt"])
@pytest.mark.parametrize(
    "names",
    [
        [
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ],
        ["model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors"],
        ["pytorch_model.bin", "config.json"],
        ["last.ckpt"],
    ],
)
def test_a_folder_of_another_project_gets_the_command_that_converts_it(
    names: list[str], suffix: str, tmp_path: Path
):
    folder = tmp_path / "resnet 18"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    with pytest.raises(UserError) as caught:
        checkpoints.find_weights(str(folder), suffix)
    target = f"{folder}_converted{suffix}"
    assert f"python -m parity convert '{folder}' '{target}', and name {target}" in str(caught.value)


def test_the_one_file_of_weights_in_a_folder_is_meant(tmp_path: Path):
    file = tmp_path / "model.safetensors"
    for name in (file.name, "pytorch_model.bin", "config.json"):
        (tmp_path / name).touch()
    assert checkpoints.find_weights(str(tmp_path), "") == file
