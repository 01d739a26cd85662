"""How a process learns that it is one of several."""

from __future__ import annotations

import pytest

from recipe.processes.launch import Launch, several
from recipe.system.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}  # fmt: skip
TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}
FLAGS = Launch("host:1234", 2, 1)


@pytest.mark.parametrize(
    ("launch", "engine", "environment", "expected"),
    [
        (Launch(), "jax", {}, False),
        (Launch(), "torch", {}, False),
        (FLAGS, "jax", {}, True),
        (Launch("auto"), "jax", {}, True),
        (Launch("host:1234", 1, 0), "jax", {}, False),
        (Launch(), "jax", SLURM, True),
        (Launch(), "jax", SLURM | {"SLURM_NTASKS": "1"}, False),
        (Launch(), "jax", {k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}, False),  # salloc
        (Launch(), "jax", {"OMPI_COMM_WORLD_SIZE": "4"}, True),
        (Launch(), "torch", TORCHRUN, True),
        (Launch(), "torch", TORCHRUN | {"WORLD_SIZE": "1"}, False),
        (Launch(), "torch", TORCHRUN | SLURM, True),
    ],
)
def test_several_processes_are_known_by_flags_or_by_the_cluster(
    launch: Launch, engine: str, environment: dict[str, str], expected: bool
):
    assert several(launch, engine, environment) is expected


@pytest.mark.parametrize(
    ("launch", "engine", "environment", "words"),
    [
        (Launch("host:1234"), "jax", {}, "need all three"),
        (Launch(processes=2), "jax", {}, "need all three"),
        (Launch("host", 2, 0), "jax", {}, "HOST:PORT"),
        (Launch("host:99999", 2, 0), "jax", {}, "HOST:PORT"),
        (Launch("host:1", 2, 2), "jax", {}, "none of 2 processes"),
        (FLAGS, "torch", {}, "torchrun"),
        (Launch(), "jax", TORCHRUN, "--config.engine=torch"),
        (Launch(), "torch", SLURM, "srun torchrun"),
    ],
)
def test_what_does_not_fit_the_engine_is_one_line(
    launch: Launch, engine: str, environment: dict[str, str], words: str
):
    with pytest.raises(UserError, match=words) as caught:
        several(launch, engine, environment)
    assert "\n" not in str(caught.value)
