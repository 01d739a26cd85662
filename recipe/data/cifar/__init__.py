"""CIFAR-10 and CIFAR-100: found, downloaded, and read from archives and prepared folders."""
