"""One block of the encoder alone, forward and backward, with each attention that the devices have."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from surgmotion_jax.models.attention import check_attention, settled
from surgmotion_jax.models.config import ATTENTIONS, Grid, TransformerConfig
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.models.positions import position_code
from surgmotion_jax.models.transformer import Trunk
from surgmotion_jax.pretrain.bench.timing import StepTime


@dataclass
class BlockClock:
    """Calling it runs the block once, forward and backward."""

    run: Callable[[Any, jax.Array], Any]
    params: Any
    x_BxNxC: jax.Array

    def __call__(self) -> StepTime:
        started = time.perf_counter()
        jax.block_until_ready(self.run(self.params, self.x_BxNxC))
        return StepTime(0.0, 0.0, time.perf_counter() - started)


def block_clocks(c: TransformerConfig, grid: Grid, rows: int) -> tuple[dict[str, BlockClock], dict[str, str]]:
    """A clock for each attention, and why others have none; all tokens of the grid, on the first device."""
    clocks: dict[str, BlockClock] = {}
    missing: dict[str, str] = {}
    one = dataclasses.replace(c, depth=1, remat="none")
    ids_BxN = jnp.broadcast_to(jnp.arange(grid.tokens), (rows, grid.tokens))
    code = position_code(c.positions, ids_BxN, grid, c.head_dim)
    x_BxNxC = jax.random.normal(jax.random.key(0), (rows, grid.tokens, c.width), c.dtype)
    for attention in ATTENTIONS:
        chosen = dataclasses.replace(one, attention=attention)
        try:
            check_attention(attention, jax.default_backend(), c.dtype)
        except ValueError as error:
            missing[attention] = str(error).partition(";")[0]  # without what to do about it
            continue
        if settled(chosen, grid.tokens, SINGLE_DEVICE) != chosen:
            missing[attention] = f"does not take {grid.tokens} tokens in {c.heads} heads of {c.head_dim}"
            continue
        clocks[attention] = _clock(Trunk(chosen, SINGLE_DEVICE), x_BxNxC, code)
    return clocks, missing


def _clock(trunk: Trunk, x_BxNxC: jax.Array, code: Any) -> BlockClock:
    def loss(params: Any, x_BxNxC: jax.Array) -> jax.Array:
        y_BxNxC, _ = trunk.apply({"params": params}, x_BxNxC, code)
        return jnp.square(y_BxNxC.astype(jnp.float32)).mean()

    params = jax.jit(trunk.init)(jax.random.key(1), x_BxNxC, code)["params"]
    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return BlockClock(run.lower(params, x_BxNxC).compile(), params, x_BxNxC)
