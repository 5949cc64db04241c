"""Eight fake CPU devices for every test, set before JAX is imported."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from tests.tiers import RUN_BY, is_heavy, is_long

os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    # Eight devices on two busy cores wait long for one another; XLA aborts the process after 40 s by default.
    wanted = "--xla_force_host_platform_device_count=8 --xla_cpu_collective_call_terminate_timeout_seconds=300"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {wanted}".strip()
# Two programs in flight over more fake devices than cores can each hold threads that the other's collectives wait for.
os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "false"


LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what the tiers leave out."""
    for item in items:
        if is_heavy(item.path):
            item.add_marker("heavy")
        if is_long(item.nodeid):
            item.add_marker("long")


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Counts what markers and names leave out, by the tier that runs it: of several, the first in `RUN_BY`."""
    for item in items:
        tiers = [tier for tier in RUN_BY if item.get_closest_marker(tier)]
        item.config.stash[LEFT_OUT].update(tiers[:1])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands the counts from a process of pytest-xdist to the one that prints."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes the counts of a process of pytest-xdist; all processes have the same. One that crashed has none."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[LEFT_OUT] |= Counter(output.get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many tests were left out, and which command runs them."""
    for tier, flag in RUN_BY.items():
        if count := terminalreporter.config.stash[LEFT_OUT][tier]:
            command = f"bash launch/test.sh {flag}".rstrip()
            terminalreporter.write_line(f"left out: {count} tests marked {tier} ({command} runs them)")
