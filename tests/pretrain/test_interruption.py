"""Ctrl-C asks for a stop; again it ends the program, unless it is the first one that somebody passed on."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from surgmotion_jax.pretrain.monitor import interruption


def test_a_second_ctrl_c_ends_at_once_and_one_that_was_passed_on_does_not(monkeypatch):
    clock = SimpleNamespace(now=10.0)
    monkeypatch.setattr(interruption, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with interruption.Interruption() as asked:
        assert not asked.requested(0)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert asked.requested(0)
        assert asked.signal == signal.SIGINT
        clock.now += 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
