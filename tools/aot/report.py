"""docs/accelerators.md, from figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recipe.output import grid
from tools.aot import scale
from tools.aot.rows import Row

CONVOLUTIONS = ("convolutions", "of them f32")  # the last columns
MINIMUM = 18.6  # MB per image: activations in bf16, each fused launch reading and writing once


INTRODUCTION = """# Accelerators

What XLA makes of this project's training and evaluation steps for accelerators that were not there:
`make aot` compiles the trainer's own programs ahead of time (planned step with crop, flip, batch statistics
and optimizer; the state donated) and reads the optimized program. **Nothing here has run on an accelerator**:
these are counts, not times. XLA could not try cuDNN's algorithms out, so a program compiled on an H100
may choose others, and their scratch memory is not in these numbers.

"""

COUNTING = f"""
How it is counted (`tools/aot/hlo.py`; `tests/tools/test_aot.py` has small modules with known answers):

- **Launches** are the instructions of the program that do work on the device; parameters, tuples and bitcasts
  are none. A call of cuDNN is one, though it may be several kernels. Of TPU programs, whose instructions
  are no launches, neither launches nor bytes are reported.
- **MB per image** (10⁶ bytes): every launch reads its operands and writes its results once and whole; of
  what it only slices or gathers, as much as it takes; of what it updates in place, the update. No cache
  is assumed, nor scratch memory. It includes the optimizer, whose 45 MB of parameters take the more per
  image, the smaller a batch is. The least possible for the activations in bf16 is about {MINIMUM} MB.
- **Memory** is arguments, results and temporary arrays of one device, donated ones once; the dataset
  (154 MB) is one of the arguments.
- **Transposes** are those that move a four-dimensional array to another order in memory, kernels included.
- **Collectives**, with the bytes that one chip brings into them.
- **f32 convolutions** have a float32 operand.
"""

REASONS = """
## What the numbers come from

- Batch norm's gradient in closed form, and its two sums per channel in one reduction
  (`flax_resnet/nn/normalise.py`). In bf16 networks also the variance in one pass, and scale and offset per
  channel before they meet the activations: XLA then makes a ReLU's mask again instead of storing it.
- A block's last ReLU takes its gradient from its result (`flax_resnet/nn/activations.py`), which the next
  convolution keeps anyway.
- On a GPU the kernels live in the order OHWI, which cuDNN wants (`flax_resnet/devices.py`): no transposition
  of any kernel, and an update in place.
- The two sums are one sum of complex numbers. XLA:GPU decides whether to join a reduction with the launch
  that makes its operand by how long it thinks that both take. In a reduction of two arrays (dy and dy·x̂) it
  counts what both are made of twice, and of arrays that are larger than the cache of 50 MB the second time
  costs as much as the first: at batch 512 the gradients that meet at a block of 32×32 pixels were written in
  a launch of their own, and read again (20.46 MB per image and 290 launches then). On a TPU both forms
  become the same program.
- The ReLU inside a block is `jax.nn.relu`, whose gradient needs a batch norm's result and so nothing that is
  not read anyway; with the block's last ReLU in its place it would be 21.06 MB.
- XLA flags: none is set. Tried, with the train step at batch 512 in bf16: `xla_gpu_enable_command_buffer`
  (nothing, and everything; whether launches become CUDA graphs shows only when a program runs),
  `xla_gpu_force_conv_nhwc`, `xla_gpu_cudnn_gemm_fusion_level=3`, `xla_gpu_enable_latency_hiding_scheduler`,
  `xla_gpu_experimental_enable_fusion_autotuner`, `xla_gpu_experimental_enable_fusion_block_level_rewriter`,
  `xla_gpu_unsupported_enable_triton_multi_output_fusion`, `xla_gpu_experimental_enable_tiling_propagation`,
  and `xla_allow_excess_precision=false`: the same 286 launches and 19.95 MB.
  `xla_gpu_copy_insertion_use_region_analysis`: two copies of a number less, which isn't worth an experimental
  flag. `xla_gpu_enable_triton_gemm=false`: 287 and 19.97 MB.
  `xla_gpu_experimental_enable_triton_heroless_priority_fusion`: 593 and 31.75 MB.
- On a TPU the transposes left are of the dataset, of the crop's indices and of the images, none around
  another convolution; the linear layer's products are convolutions there too. On four chips the kernels'
  gradients are added up in one all-reduce, in bf16 (the convolutions' own results); the other collectives
  are batch norm's sums and the metrics.
"""

PROFILE = """
## On a device: a profile

    python -m tools.profile --output runs/profile --batch 512 --precision bf16

trains some steps under `jax.profiler`, as training dispatches them, reads the trace and writes `profile.md`
and `profile.json`: the device's time, launches and bytes per step by kind of work (convolutions forward and
gradient, reductions, batch norm and elementwise, optimizer, data augmentation, copies), the instructions that
take longest, gaps between kernels, and beside them the counts of this page where it has the same step.

    python -m tools.profile --output runs/profile-loop --loop --steps 100

profiles an epoch of the training loop, and says whether the host waits for the device between its
dispatches: a wait is a host sync if the device's queue runs dry meanwhile. Each place that waits is named.

- What a kernel is for is told by the instruction that launched it and by the program's text; "other" is what
  can't be told, and a guess by a library's name for a kernel is called one. The trace and the program's text
  stay in the folder: `--read` makes the page of them again, on any machine.
- Of several steps in one program, the number is an argument of the program. By XLA's source its loop then
  asks the device after each step whether to go on, while the host waits: the profile shows whether that is
  so, and what it costs (`--steps-per-dispatch 1` runs without a loop).
- While it is traced XLA replays no CUDA graphs, unless `--graphs` is given: without it kinds are told best,
  with it gaps are those of training.
- Tried on a CPU, and on hand-made traces in the form of a GPU's (`tests/tools/test_profile_trace.py`), not on
  a GPU.
"""


def render(rows: Sequence[Row], missing: Sequence[str], versions: Mapping[str, str]) -> str:
    """The whole page; `missing` names the programs that were not compiled."""
    command = "Made by `make aot` with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".\n"
    if missing:
        command += "\nNot compiled for this page: " + "; ".join(missing) + ".\n"
    counts = _gpu(rows) + _tpu(rows) + COUNTING + scale.section(rows)
    return INTRODUCTION + command + counts + REASONS + PROFILE


def _gpu(rows: Sequence[Row]) -> str:
    heads = "step", "batch", "precision", "launches", "MB per image", "memory, GB", "transposes"
    table = [
        (
            row.step,
            row.batch_size,
            row.precision,
            row.figures.launches,
            f"{row.figures.bytes_per_image / 1e6:.2f}",
            f"{row.figures.memory / 1e9:.2f}",
            row.figures.transposes,
            row.figures.convolutions,
            row.figures.f32_convolutions,
        )
        for row in rows
        if row.platform == "cuda"
    ]
    return "\n## H100 (SXM, 80 GB)\n\n" + grid.markdown((*heads, *CONVOLUTIONS), table) + "\n"


def _tpu(rows: Sequence[Row]) -> str:
    heads = "target", "step", "batch", "precision", "memory, GB", "collectives", "transposes"
    table = [
        (
            row.target,
            row.step,
            row.batch_size,
            row.precision,
            f"{row.figures.memory / 1e9:.2f}",
            ", ".join(
                f"{n} {name} ({size / 1e6:.2f} MB)" for name, (n, size) in row.figures.collectives.items()
            )
            or "none",
            row.figures.transposes,
            row.figures.convolutions,
            row.figures.f32_convolutions,
        )
        for row in rows
        if row.platform == "tpu"
    ]
    note = "The batch is that of all chips; the rest is per chip.\n\n"
    return "\n## TPU v5e (16 GB a chip)\n\n" + note + grid.markdown((*heads, *CONVOLUTIONS), table) + "\n"
