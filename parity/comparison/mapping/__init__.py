"""Which tensor of PyTorch a tensor of Flax is made of, and which modules and values are each other's twins."""
