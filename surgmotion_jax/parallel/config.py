"""Configuration of devices and processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ParallelConfig:
    """The device mesh (data, fsdp, tensor); one of the three may be -1: whatever devices are left."""

    data: int = -1  # copies of the model, each with its share of the batch
    fsdp: int = 1  # devices that share parameters and optimiser state, and split the batch further
    tensor: int = 1  # devices that split heads and hidden units


@dataclass(frozen=True)
class DistributedConfig:
    """Several processes. All empty: one process, or what the TPU or cluster environment announces with auto."""

    auto: bool = False  # let JAX find coordinator and process numbers in the environment
    coordinator: str = ""  # host:port of process 0
    processes: int = 0  # number of processes
    process: int = -1  # number of this one
