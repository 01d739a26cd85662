"""Reports as real runs make them, without running anything."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from parity.cause import Cause
from parity.result import Check, Finding, Report
from parity.verify.levels.registry import LEVELS

ENVIRONMENT = {
    "python": "3.13.0", "jax": "0.10.2", "flax": "0.12.9", "torch": "2.11.0+cpu", "numpy": "2.4.1",
    "device": "cpu, 2 threads", "matmul precision": "highest", "TF32": "off", "oneDNN": "on",
    "seed": "0", "k": "8",
}  # fmt: skip
TITLES = {number: level.title for number, level in LEVELS.items()}
UNITS = {"f64": 2e-16, "f32": 1e-7, "bf16": 4e-3}
NOT_ELEMENTS = {"f64": "of the largest element", "f32": "of the largest element", "bf16": "of the norm"}


def layer_names(blocks: int = 2) -> list[str]:
    """Layers of a network with four stages."""
    names = ["conv1", "bn1"]
    for stage in range(1, 5):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            names += [f"{prefix}.{part}" for part in ("conv1", "bn1", "conv2", "bn2")]
            if block == 0 and stage > 1:
                names += [f"{prefix}.shortcut.conv", f"{prefix}.shortcut.bn"]
    return [*names, "linear"]


def within(rng: np.random.Generator, where: str, allowed: float) -> Finding:
    """An error well below its budget; one in twenty is exactly zero."""
    error = 0.0 if rng.random() < 0.05 else allowed * 10 ** rng.normal(-1.2, 0.35)
    return Finding(where, float(min(error, 0.8 * allowed)), float(allowed))


def per_layer(seed: int, level: int, name: str, precision: str, wheres: list[str]) -> Check:
    """A check with a finding per layer, whose budget grows with depth."""
    rng = np.random.default_rng(seed)
    budgets = 8 * UNITS[precision] * np.geomspace(1, 30, len(wheres))
    findings = tuple(within(rng, where, budget) for where, budget in zip(wheres, budgets, strict=True))
    return Check(level, name, precision, NOT_ELEMENTS[precision], findings)


def drift(seed: int, level: int, name: str, precision: str, steps: int) -> Check:
    """A trajectory: in float64 the error grows, in the others it starts anew at each step."""
    rng = np.random.default_rng(seed)
    growth = np.geomspace(1, 1e3, steps) if precision == "f64" else np.ones(steps)
    errors = UNITS[precision] * growth * np.exp(rng.normal(0, 0.3, steps))
    errors[0] = 0.0
    allowed = [1e-9] * steps if precision == "f64" else [20 * UNITS[precision]] * steps
    findings = [
        Finding(f"step {i}", float(e), a) for i, (e, a) in enumerate(zip(errors, allowed, strict=True), 1)
    ]
    return Check(level, name, precision, "‖a−b‖∞/‖a‖∞, the largest of all tensors", tuple(findings))


def exact(level: int, name: str, unit: str, wheres: list[str]) -> Check:
    """A check without tolerance."""
    return Check(level, name, "exact", unit, tuple(Finding(where, 0.0, 0.0) for where in wheres))


def passing(blocks: int = 2, steps: int = 30) -> Report:
    """All nine levels within budget."""
    names = layer_names(blocks)
    norms = [name for name in names if "bn" in name]
    statistics = [f"{name}.{part}" for name in norms for part in ("mean", "var")]
    gradients = [f"{name}.weight" for name in reversed(names)]
    checks = [
        exact(1, "names, shapes and counts", "names or shapes that differ", gradients),
        exact(1, "layer tables", "rows that differ", names),
        per_layer(1, 2, "each layer on the same input, 8×32×32×3", "f64", names),
        per_layer(2, 2, "end to end, 8×32×32×3", "f64", names),
        per_layer(3, 2, "end to end, 8×32×32×3", "f32", names),
        per_layer(4, 2, "end to end, 8×32×32×3", "bf16", names),
        per_layer(5, 2, "end to end, 3×40×24×3, statistics from 0.01 to 100", "f64", names),
        per_layer(6, 3, "batch statistics", "f64", statistics),
        per_layer(7, 3, "running statistics after three batches", "f64", statistics),
        per_layer(8, 3, "running statistics after three batches", "f32", statistics),
        per_layer(9, 4, "loss and gradients, smoothing 0.1", "f64", ["loss", *gradients]),
        per_layer(10, 4, "loss and gradients, smoothing 0.1", "f32", ["loss", *gradients]),
        per_layer(11, 5, "parameters after a Nesterov step with decay", "f64", gradients),
        per_layer(12, 5, "momentum after a Nesterov step with decay", "f64", gradients),
        exact(6, "batches after crop and flip", "bytes that differ", [f"batch {i}" for i in range(1, 13)]),
        exact(6, "standardised batches", "floats that differ", [f"batch {i}" for i in range(1, 13)]),
        drift(13, 7, f"free run of {steps} steps, drop at two thirds", "f64", steps),
        drift(14, 7, "synchronised before each step", "f32", steps),
        drift(15, 7, "synchronised before each step", "bf16", steps),
        exact(8, "predictions on 1,000 test images", "predictions that differ", ["test images"]),
        Check(8, "loss on 1,000 test images", "f32", "relative", (Finding("loss", 3.1e-8, 4.4e-7),)),
        drift(16, 9, "PyTorch to Flax at step 10, back at step 20", "f64", steps),
    ]  # fmt: skip
    return Report("resnet18, cifar stem, width 64, 10 classes", ENVIRONMENT, tuple(checks), 83.4, TITLES)


def spoil(check: Check, start: int, factor: float, cause: Cause | None) -> Check:
    """Every finding from `start` on is `factor` times over its budget."""
    findings = tuple(
        dataclasses.replace(f, error=factor * f.allowed if f.allowed else factor) if i >= start else f
        for i, f in enumerate(check.findings)
    )
    return dataclasses.replace(check, findings=findings, cause=cause)


def replace(report: Report, checks: dict[int, Check]) -> Report:
    """The report with some checks, by their place, exchanged."""
    return dataclasses.replace(
        report, checks=tuple(checks.get(i, check) for i, check in enumerate(report.checks))
    )


def failing(blocks: int = 2) -> Report:
    """A biased running variance: it shows at level 3 and in all that comes after it."""
    report = passing(blocks)
    cause = Cause("bn-variance", "running variance differs by 1.0039 = n/(n−1): Bessel's factor")
    spoiled = {
        7: spoil(report.checks[7], 3, 4e9, cause),
        8: spoil(report.checks[8], 3, 41.0, cause),
        15: spoil(report.checks[15], 11, 17.0, None),
        16: spoil(report.checks[16], 4, 3.6e6, cause),
        17: spoil(report.checks[17], 0, 60.0, cause),
    }
    return replace(report, spoiled)


def not_finite(blocks: int = 2) -> Report:
    """One engine overflows to NaN in the third stage; a budget of infinity allows nothing either."""
    report = passing(blocks)
    end_to_end, free_run = report.checks[4], report.checks[16]
    middle = len(end_to_end.findings) // 2
    broken = [
        dataclasses.replace(f, error=math.nan if i >= middle else f.error)
        for i, f in enumerate(end_to_end.findings)
    ]
    broken[2] = dataclasses.replace(broken[2], error=math.inf)
    broken[4] = dataclasses.replace(broken[4], allowed=math.inf, error=1e-7)
    diverged = [
        dataclasses.replace(f, error=math.nan if i >= 20 else f.error)
        for i, f in enumerate(free_run.findings)
    ]
    cause = Cause("not-finite", "Flax alone has NaN")
    return replace(
        report,
        {
            4: dataclasses.replace(end_to_end, findings=tuple(broken), cause=cause),
            16: dataclasses.replace(free_run, findings=tuple(diverged), cause=cause),
        },
    )


def big() -> Report:
    """60 layers under ten checks, of which one fails in one layer."""
    names = layer_names(3)[:60]
    precisions = ("f64", "f32", "bf16")
    checks = [
        per_layer(i, 2, f"end to end, input {i + 1} of 10", precisions[i % 3], names) for i in range(10)
    ]
    findings = list(checks[4].findings)
    findings[33] = dataclasses.replace(findings[33], error=7 * findings[33].allowed)
    checks[4] = dataclasses.replace(
        checks[4], findings=tuple(findings), cause=Cause("padding", "it is shifted")
    )
    return Report(
        "resnet50, imagenet stem, width 64, 1000 classes", ENVIRONMENT, tuple(checks), 912.0, TITLES
    )


def mutants() -> list[dict[str, Any]]:
    """Planted bugs: most caught and understood, one misread, one missed."""
    rows = [
        ("BN momentum is PyTorch's in Flax", "flax_resnet/model.py", "running statistics after three batches",
         "bn1.mean", "bn-momentum", "bn-momentum", 4.2),
        ("SAME padding at stride 2", "flax_resnet/model.py", "each layer on the same input, 8×32×32×3",
         "layer2.0.conv1", "padding", "padding", 3.1),
        ("decay after momentum", "torch_ref/optimizer.py", "parameters after a Nesterov step with decay",
         "linear.weight", "weight-decay", "weight-decay", 5.7),
        ("crop is one pixel off", "flax_resnet/augment.py", "batches after crop and flip", "batch 1",
         "input-pipeline", "crop", 1.4),
        ("epoch's seed is off by one", "recipe/plan.py", "", "", "", "plan", 61.0),
    ]  # fmt: skip
    keys = ("name", "file", "caught_by", "where", "family", "expected_family", "seconds")
    return [dict(zip(keys, row, strict=True)) for row in rows]
