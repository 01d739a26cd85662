"""CIFAR-10 and CIFAR-100: where they are found, and how their forms are read."""
