"""The few strings that processes tell each other outside of any computation, through JAX's coordination service."""

from __future__ import annotations

import time
from typing import Protocol

import jax
from jax._src import distributed  # JAX's own libraries reach the key-value store in no other way


class Board(Protocol):
    """Keys and values that every process sees; what the tests replace by a dictionary."""

    def put(self, key: str, value: bytes, replace: bool = False) -> bool:
        """Sets a key. Without `replace` the first value stands; returns whether this one did."""

    def look(self, key: str) -> bytes | None:
        """The value, or None while there is none."""


class CoordinationBoard:
    """The key-value store of `jax.distributed`. Raises JaxRuntimeError when process 0, which holds it, is gone."""

    def __init__(self) -> None:
        client = distributed.global_state.client
        assert client is not None, "jax.distributed is not initialised"
        self._client = client

    def put(self, key: str, value: bytes, replace: bool = False) -> bool:
        try:
            self._client.key_value_set_bytes(f"surgmotion/{key}", value, allow_overwrite=replace)
        except jax.errors.JaxRuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
            return False
        return True

    def look(self, key: str) -> bytes | None:
        try:
            return self._client.key_value_try_get_bytes(f"surgmotion/{key}")
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                raise
            return None


def await_key(board: Board, key: str) -> bytes:
    """Waits for a key. In short looks: a blocking call would hold up Ctrl-C, and the watch ends a wait in vain."""
    pause = 0.01
    while (value := board.look(key)) is None:
        time.sleep(pause)
        pause = min(2 * pause, 0.5)
    return value
