"""Flags that XLA would end the process for."""

from __future__ import annotations

import pytest

from recipe.system import xla_flags
from recipe.system.errors import UserError


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--xla_nonsense=1", "Unknown flag in XLA_FLAGS: --xla_nonsense=1"),
        ("--xla_cpu_multi_thread_eigen=false --xla_nonsense", "Unknown flag in XLA_FLAGS: --xla_nonsense"),
        ("--xla_force_host_platform_device_count=two", "Couldn't interpret value two for flag"),
    ],
)
def test_flags_that_xla_does_not_take_are_an_error(flags: str, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(UserError) as error:
        xla_flags.check()
    assert reason in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("flags", ["", "  ", "--xla_force_host_platform_device_count=4"])
def test_flags_that_xla_takes_are_none(flags: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    xla_flags.check()
