"""Which recipe `make train` trains."""

from __future__ import annotations

import importlib

import jax
import pytest

from tools import recipe_for_here


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_an_accelerator_gets_the_default_recipe(backend: str):
    config, why = recipe_for_here.recipe(backend)
    assert config == "configs/r18.py"
    assert backend in why


def test_a_cpu_gets_the_recipe_for_cpus_and_hears_how_to_get_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert recipe_for_here.main() == 0
    out, err = capsys.readouterr()
    assert out == "configs/r18.py:cpu\n"
    assert "main.py --config=configs/r18.py\n" in err


def test_there_are_such_recipes():
    r18 = importlib.import_module("configs.r18")
    for backend in ("cpu", "gpu"):
        path, _, variant = recipe_for_here.recipe(backend)[0].partition(":")
        assert path == "configs/r18.py"
        assert r18.get_config(variant).data.name == "cifar10"
