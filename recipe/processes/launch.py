"""Whether this process was started as one of several, by flags or by a cluster's environment."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from recipe.system.errors import UserError

AUTO = "auto"  # in the place of an address: JAX asks the cluster
# what each of these launchers tells a process; JAX reads the rest of it itself
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
OPEN_MPI = "OMPI_COMM_WORLD_SIZE"
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclasses.dataclass(frozen=True)
class Launch:
    """What the command line says of the processes: --coordinator, --processes and --process_id."""

    coordinator: str = ""  # host:port of process 0, or AUTO
    processes: int | None = None
    process_id: int | None = None

    @property
    def given(self) -> bool:
        """Whether it says anything."""
        return bool(self.coordinator) or self.processes is not None or self.process_id is not None


def several(launch: Launch, engine: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is one of several processes of a run.

    Raises:
      UserError: if they were started in a way that the engine does not know, or not all is said.
    """
    torchrun = all(environment.get(name) for name in TORCHRUN) and int(environment["WORLD_SIZE"]) > 1
    if engine == "torch":
        if launch.given:
            raise UserError(
                "--coordinator, --processes and --process_id are JAX's; PyTorch's processes are started by "
                "torchrun: torchrun --nproc-per-node=2 main.py --config.engine=torch"
            )
        if not torchrun and (by := _cluster(environment)):
            raise UserError(
                f"{by} has started several processes, but PyTorch's are started by torchrun, which it may "
                "start once on each host: srun torchrun --nnodes=… --rdzv-backend=c10d "
                "--rdzv-endpoint=HOST:PORT main.py --config.engine=torch"
            )
        return torchrun
    if torchrun:
        raise UserError(
            "torchrun starts PyTorch's processes: add --config.engine=torch; for JAX start main.py itself, "
            "with --coordinator, --processes and --process_id"
        )
    if launch.given and launch.coordinator != AUTO:
        _check(launch)
        return launch.processes != 1
    return launch.given or bool(_cluster(environment))


def _check(launch: Launch) -> None:
    if not launch.coordinator or launch.processes is None or launch.process_id is None:
        raise UserError(
            "several processes need all three: --coordinator=HOST:PORT of process 0, --processes=COUNT and "
            f"--process_id=0…COUNT-1 (or --coordinator={AUTO} where JAX knows the cluster)"
        )
    _, colon, port = launch.coordinator.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator must be HOST:PORT, not {launch.coordinator!r}")
    if launch.processes < 1 or not 0 <= launch.process_id < launch.processes:
        raise UserError(
            f"--process_id={launch.process_id} is none of {launch.processes} processes, which count from 0"
        )


def _cluster(environment: Mapping[str, str]) -> str:
    """The launcher that has started several processes; "" for none."""
    if all(name in environment for name in SLURM) and environment["SLURM_NTASKS"] not in ("", "1"):
        return "SLURM"
    return "Open MPI" if environment.get(OPEN_MPI, "1") not in ("", "1") else ""
