"""The processor's name and abilities, as Linux tells them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from recipe.system import processor

SECTION = """processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 207
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu avx2{more}
bugs\t\t:

"""


@pytest.fixture(autouse=True)
def asked_anew():
    processor.processor_flags.cache_clear()
    yield
    processor.processor_flags.cache_clear()


def test_the_first_cpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(SECTION.format(number=0, more=" amx_bf16") + SECTION.format(number=1, more=""))
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    assert processor.processor_name() == "Intel(R) Xeon(R) Processor 6 207"
    assert processor.processor_flags() == ("fpu", "avx2", "amx_bf16")


@pytest.mark.parametrize("text", [None, "processor\t: 0\nFeatures\t: fp asimd\n\n"])  # macOS; Linux on ARM
def test_where_linux_does_not_tell(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert processor.processor_name() == "arm64"
    assert processor.processor_flags() == ()


def test_machines_that_run_other_code_have_other_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cpuinfo, digests = tmp_path / "cpuinfo", []
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    for more in ("", " amx_bf16", ""):
        cpuinfo.write_text(SECTION.format(number=0, more=more))
        processor.processor_flags.cache_clear()
        digests.append(processor.processor_digest())
    assert digests[0] == digests[2] != digests[1]
