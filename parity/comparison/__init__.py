"""Whether any two networks compute the same: a PyTorch module and a Flax module of anybody's."""
