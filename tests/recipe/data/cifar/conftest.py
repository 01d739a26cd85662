"""Where the tests of CIFAR look, and what they find there."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipe.data.cifar import prepare
from tests.recipe.data.cifar.mini import MINI, Mini, use_mini


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


@pytest.fixture
def mini(monkeypatch: pytest.MonkeyPatch) -> Mini:
    return use_mini("cifar10", monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """TFDS folders (…/cifar10/3.0.2) of the mini datasets, in array_record format."""
    root = tmp_path_factory.mktemp("prepared")
    for name, mini in MINI.items():
        archive = mini.cifar.archives[0]
        (root / archive.file).write_bytes(mini.files[archive.file])
        prepare.prepare(name, archive, root / archive.file, root)
    return {name: root / name / "3.0.2" for name in MINI}
