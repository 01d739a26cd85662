"""Which tensors of PyTorch a tensor of Flax is made of, and which modules are each other's twins."""
