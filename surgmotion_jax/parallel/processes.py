"""Joining several processes into one computation. Must run before any other use of JAX devices."""

from __future__ import annotations

import jax

from surgmotion_jax.parallel.config import DistributedConfig


def join(config: DistributedConfig) -> None:
    """Initialises `jax.distributed` if the config asks for it.

    Raises ValueError when only some of coordinator, processes and process are given.
    """
    given = (bool(config.coordinator), config.processes > 0, config.process >= 0)
    if config.auto:
        jax.distributed.initialize()
    elif all(given):
        jax.distributed.initialize(config.coordinator, config.processes, config.process)
    elif any(given):
        raise ValueError(
            f"distributed.coordinator={config.coordinator!r}, processes={config.processes}, process={config.process}: "
            "give all three, or none, or --config.distributed.auto=True where the cluster announces them."
        )
