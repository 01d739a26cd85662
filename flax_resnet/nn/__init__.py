"""The layers that PyTorch brings and Flax has not, or not with PyTorch's semantics."""
