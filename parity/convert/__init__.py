"""Checkpoints: recognised, read, converted from one framework to the other, and proven equal."""
