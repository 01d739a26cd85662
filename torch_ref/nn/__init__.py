"""Layers that PyTorch has for GPUs alone."""
