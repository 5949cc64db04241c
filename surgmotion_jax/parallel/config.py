"""Configuration of devices and processes."""

from __future__ import annotations

from dataclasses import dataclass

CLUSTERS = ("tpu_vm", "gke", "slurm", "openmpi")


@dataclass(frozen=True)
class ParallelConfig:
    """The device mesh (data, fsdp, tensor); one of the three may be -1: whatever devices are left."""

    data: int = -1  # copies of the model, each with its share of the batch
    fsdp: int = 1  # devices that share parameters and optimiser state, and split the batch further
    tensor: int = 1  # devices that split heads and hidden units
    mesh: str = "given"  # given: the three sizes above; auto: chosen from devices, slices, memory, model and batch

    def __post_init__(self) -> None:
        if self.mesh not in ("given", "auto"):
            raise ValueError(f"parallel.mesh is {self.mesh!r}; it must be one of given, auto.")


@dataclass(frozen=True)
class DistributedConfig:
    """Several processes that train as one. Give the three numbers, or let the cluster announce them."""

    cluster: str = "auto"  # whom to ask: auto, none, or only one of tpu_vm, gke, slurm, openmpi
    coordinator: str = ""  # host:port of process 0; empty: as announced
    processes: int = 0  # number of processes; 0: as announced
    process: int = -1  # number of this one; -1: as announced
    join_timeout_s: int = 300  # how long to wait for all processes to start
    lost_after_s: int = 30  # silence after which a process counts as lost, and all others end

    def __post_init__(self) -> None:
        if self.cluster not in ("auto", "none", *CLUSTERS):
            raise ValueError(
                f"distributed.cluster is {self.cluster!r}; it must be one of auto, none, {', '.join(CLUSTERS)}."
            )
        if self.coordinator and not self.coordinator.rpartition(":")[2].isdecimal():
            raise ValueError(f"distributed.coordinator is {self.coordinator!r}; it must be HOST:PORT of process 0.")
        for name in ("join_timeout_s", "lost_after_s"):
            if getattr(self, name) < 5:
                raise ValueError(f"distributed.{name} is {getattr(self, name)}; it must be at least 5.")
