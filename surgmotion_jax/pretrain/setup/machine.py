"""The machine under a run: what a reader of the report needs to know of it, and its memory in use."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import time

import jax

from surgmotion_jax.checkpoints.manifest import installed_versions


def memory_gb() -> float:
    """Peak memory so far: of the first device where it says, else of this process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def environment(command: str) -> dict[str, str]:
    """What a reader of the report needs to know of the machine."""
    return {
        "command": command,
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processes": str(jax.process_count()),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{shutil.disk_usage('.').free / 1e9:.0f} GB free disk",
        **installed_versions(),
    }
