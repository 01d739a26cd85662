"""What more chips cost, by arithmetic that is done here once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.aot import rows, scale

DOCS = Path(__file__).parent.parent.parent / "docs"
CHIP = scale.Chip(flops=1e12, memory=1e9, link=1e10, hop=1e-5)


def test_one_chip_pays_for_its_images_alone():
    cost = scale.cost(1, image_bytes=2e7, gradient_bytes=1e9, others=50, chip=CHIP)
    assert cost.image == 2e7 / 1e9  # memory is slower than 3.3e9 operations at 1e12
    assert cost.step(10) == 10 * cost.image
    assert cost.hides_from == 0


def test_sixteen_chips_by_hand():
    cost = scale.cost(16, image_bytes=2e7, gradient_bytes=1e9, others=50, chip=CHIP)
    assert cost.gradients == pytest.approx(0.2)  # there and back at 1e10
    assert cost.statistics == pytest.approx(50 * 12e-5)  # 3 + 3 hops across 4×4, and back
    compute = 64 / 16 * 0.02
    assert cost.step(64) == pytest.approx(compute + 0.006 + 0.2 - 2 / 3 * compute)


def test_the_gradients_are_hidden_from_the_stated_batch_on_and_not_before():
    cost = scale.cost(4, image_bytes=2e7, gradient_bytes=1.1e9, others=0, chip=CHIP)
    batch = cost.hides_from
    assert batch == 4 * 17  # 0.22 s, of which 16 images hide 0.2133
    assert cost.step(batch) == pytest.approx(batch / 4 * cost.image)
    assert cost.step(batch - 4) > (batch - 4) / 4 * cost.image * 1.001


def test_the_page_has_the_table_of_the_figures_that_are_kept():
    kept = list(rows.read(DOCS / "results" / "accelerators.json").values())
    assert scale.section(kept) in (DOCS / "accelerators.md").read_text(encoding="utf-8")
