"""What `speed` times of JAX has its arrays where training and prediction have them, on a GPU as well.

A mesh that takes the CPU for a GPU asks for OHWI kernels here too, and XLA:CPU heeds it. Each program runs in
a process of its own, since it switches float64 for the whole process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parity.speed import contenders
from parity.speed.jobs import Job, Layer
from parity.speed.worker import Worker

ROOT = Path(__file__).parents[3]
AS_ON_A_GPU = """
import jax, numpy as np
from flax_resnet.devices import DataMesh
from parity.speed.jobs import Contender, Job, Layer
from parity.speed.worker import make_program
made = DataMesh.__init__
def make(self, devices=None):
    made(self, devices)
    self._is_gpu = True
DataMesh.__init__ = make
mesh = DataMesh()
def check(tree):
    kernels = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim == 4]
    assert kernels
    for kernel in kernels:
        assert kernel.format.layout.major_to_minor == (3, 0, 1, 2), kernel.format
layers = Layer("convolution", 8, 4, 6, 3, name="conv"), Layer("batch norm", 8, 4, 4, then="relu", name="norm")
def program(task, count=1):
    contender = Contender("jax", "JAX", config=(("cpu_kernels", "xla"), ("steps_per_dispatch", count)))
    return make_program(Job(contender, task, "resnet20", 4, "f32", 4, 2, layers=layers), task)
"""
PROGRAMS = {
    "train": """
for count in 1, 2:
    train = program("train", count)
    check(train.state)
    train.first()
    check(train.state)  # the results' layouts are the arguments': the next step need not change them
    assert all(array.sharding == mesh.batch for array in train.batch.values())
""",
    "eval": """
evaluation = program("eval")
check(evaluation.arguments[:2])
*_, images, table = evaluation.arguments
assert (images.sharding, table.sharding) == (mesh.batch, mesh.replicated)
evaluation.first()
""",
    "loop": """
loop = program("loop")
loop.bare(2)
check(loop.trainer.state)
assert loop.plan["index"].sharding == mesh.plan
""",
    "layers": """
from parity.speed.programs import jax_layers
single = program("layers")
conv = jax_layers.Layers(np.float32, np.float32, jax_layers.nnx.Rngs(0), False).conv(4, 6, 3, 1)
x, dy = np.ones((2, 8, 8, 4), np.float32), np.ones((2, 8, 8, 6), np.float32)
functions = jax_layers.convolution(*jax_layers.nnx.split(conv), x, dy, mesh)
for function, arguments in functions.values():
    check(arguments[0])
function, arguments = functions["weight gradient"]
check(function(*arguments))
single.first()
""",
    "predict": """
from flax_resnet.predict import Predictor
from parity.speed.programs.problem import Problem
from recipe.training.description import Inference
evaluation = program("eval")
state, job = evaluation.initial_state(), evaluation.job
arrays = jax.device_get((state.params, state.batch_stats))
predictor = Predictor(
    Problem(job).run.model, *arrays, Inference("f32", job.batch_size, "xla")
)
check(predictor._variables)
logits = predictor.logits(evaluation.problem.eval_images)
assert np.array_equal(logits, evaluation.first()["logits"])  # the same program
""",
}


@pytest.mark.parametrize("part", PROGRAMS)
def test_kernels_are_in_the_order_that_a_gpu_wants(part: str):
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_A_GPU + PROGRAMS[part]],
        cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("device", contenders.JAX_SETTINGS)
def test_layers_can_be_timed_on_their_own_whatever_the_device(device: str):
    """JAX on a GPU has no setting to choose; its job has to run all the same."""
    layers = (Layer("convolution", 8, 4, 6, 3, name="conv"), Layer("batch norm", 8, 4, 4, name="norm"))
    players = contenders.for_layers(device)
    assert [player.side for player in players].count("torch") == 1
    for player in (player for player in players if player.side == "jax"):
        worker = Worker(Job(player, "train", "resnet20", 4, "f32", 2, layers=layers), "layers")
        try:
            tracks = worker.first()["tracks"]
            assert tracks == [layer.track(operation) for layer in layers for operation in layer.operations]
        finally:
            worker.kill()
