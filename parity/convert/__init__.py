"""Checkpoints: what they are, and their way from one framework to the other."""
