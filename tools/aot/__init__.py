"""What XLA makes of the training and evaluation steps for accelerators that are not here.

Needs the environment that `make aot` builds; nothing in here loads PyTorch.
"""
