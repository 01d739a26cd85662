"""The proof that the Flax and the PyTorch network compute the same."""
