"""Eight fake CPU devices for every test, set before JAX is imported."""

from __future__ import annotations

import os

import pytest

from tests.tiers import is_heavy, is_long

os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    # Eight devices on two busy cores wait long for one another; XLA aborts the process after 40 s by default.
    wanted = "--xla_force_host_platform_device_count=8 --xla_cpu_collective_call_terminate_timeout_seconds=300"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {wanted}".strip()
# Two programs in flight over more fake devices than cores can each hold threads that the other's collectives wait for.
os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "false"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what the tiers leave out."""
    for item in items:
        if is_heavy(item.path):
            item.add_marker("heavy")
        if is_long(item.nodeid):
            item.add_marker("long")
