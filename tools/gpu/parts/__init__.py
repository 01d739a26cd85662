"""What is measured, a file per part, in the order in which a call does it."""

from __future__ import annotations

from tools.gpu.parts import profile, proof, smoke, speed, training

PARTS = {
    part.name: part
    for part in (
        smoke.PART, proof.PART, speed.PART, profile.PART, training.FAST, training.SEEDS, training.DEFAULT,
    )
}  # fmt: skip
