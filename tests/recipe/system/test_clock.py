"""The age of a process, by its own account and by another clock."""

from __future__ import annotations

import subprocess
import sys
import time

from recipe.system.clock import process_age


def test_a_process_knows_its_age():
    before = process_age()
    time.sleep(0.2)
    assert 0.2 <= process_age() - before < 5


def test_the_age_counts_from_the_start_and_not_from_the_import():
    program = "import time; time.sleep(0.5); from recipe.system import clock; print(clock.process_age())"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0.49 <= float(done.stdout) <= time.monotonic() - began + 0.02  # a tick is 0.01 s
