"""What a device does in a training step, read from a trace of jax.profiler.

`record` runs the trainer under the profiler and keeps the trace and the text of the programs; the other files
read them, on this machine or another.
"""
