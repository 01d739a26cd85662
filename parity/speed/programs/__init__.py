"""What is timed, in processes of their own.

program       what a worker asks of a program
problem       the same data, plan, weights and config for everybody
jax_steps     JAX: train step, evaluation step, training loop; matrix product and copy of memory
jax_layers    JAX: single layers
torch_steps   PyTorch: the same tasks
torch_layers  PyTorch: single layers
geometry      the sizes of a network's layers, and what a step moves at least
referee       what the first gradients and logits must be
"""
