"""What is waited for long is said."""

from __future__ import annotations

import time

from surgmotion_jax.runs.slow import told_while_waiting


def test_a_long_wait_is_told_until_it_ends():
    told: list[str] = []
    with told_while_waiting("the checkpoint", told.append, every_s=0.01):
        while len(told) < 2:
            time.sleep(0.005)
    count = len(told)
    time.sleep(0.05)
    assert len(told) == count
    assert told[0].startswith("waiting for the checkpoint since 0 s")


def test_a_short_wait_is_not():
    told: list[str] = []
    with told_while_waiting("the checkpoint", told.append):
        pass
    assert not told
