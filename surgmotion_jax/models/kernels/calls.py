"""The kernels as functions of arrays, and the memory of a core that they take.

Queries, keys and values lie side by side by groups of heads: [B,N,G*384] is G times the 128 lanes of a group's
queries, keys and values. Every block is as large as what it is cut from, or whole registers wide: nothing is padded in
the device's memory.

Letters: B clips, N tokens, G groups of heads, Q queries with their padding, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from surgmotion_jax.models.kernels import backward, forward
from surgmotion_jax.models.kernels.backward import Backward
from surgmotion_jax.models.kernels.forward import Forward
from surgmotion_jax.models.kernels.rotation import LaneCode
from surgmotion_jax.models.kernels.tiles import LANES, Tiles, padded

FORWARD, BACKWARD = "attention_forward", "attention_backward"  # names in compiled programs, the head dimension after
GROUP = 3 * LANES  # values of a token that a group's queries, keys and values take
SPARE = 4 * 2**20  # bytes of a core's memory for what the compiler keeps between the buffers below


def attention(
    qkv_BxNxF: jax.Array,
    code: LaneCode | None,
    head_dim: int,
    vmem: int,
    *,
    sums: bool = False,
    interpret: bool = False,
) -> tuple[jax.Array, ...]:
    """Attention within every clip, [B,N,G*128] with heads in order, F = G * 384. `code` rows are B or 1.

    With `sums` also the log-sum-exps to base 2 that `attention_gradient` takes, float32 [B,G,128/D,Q]. `vmem` are the
    bytes of a core's memory. `interpret` runs the kernel's operations one by one, on any device.
    """
    clips, tokens, width = qkv_BxNxF.shape
    tiles, groups = Tiles(tokens, head_dim), width // GROUP
    shapes = [jax.ShapeDtypeStruct((clips, tokens, groups * LANES), qkv_BxNxF.dtype)]
    blocks = [_tokens(tokens, LANES)]
    if sums:
        shapes.append(jax.ShapeDtypeStruct((clips, groups, tiles.heads, tiles.queries), jnp.float32))
        blocks.append(_sums(tiles))
    return tuple(
        pl.pallas_call(
            Forward(tiles, code is not None, sums),
            grid=(clips, groups),
            in_specs=[_tokens(tokens, GROUP), *_code(code, tokens)],
            out_specs=blocks,
            out_shape=shapes,
            scratch_shapes=forward.Scratch.shapes(tiles, qkv_BxNxF.dtype),
            compiler_params=_parameters(vmem, clips),
            interpret=interpret,
            name=f"{FORWARD}_{head_dim}",
        )(qkv_BxNxF, *(code or ()))
    )


def attention_gradient(
    qkv_BxNxF: jax.Array,
    out_BxNxE: jax.Array,
    slope_BxNxE: jax.Array,
    sums: jax.Array,
    code: LaneCode | None,
    head_dim: int,
    vmem: int,
    *,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Derivative of qkv, like it, and its sum over tokens, float32 [B,G,1,384]. `slope` is that of the output."""
    clips, tokens, width = qkv_BxNxF.shape
    tiles, groups = Tiles(tokens, head_dim), width // GROUP
    small = _tokens(tokens, LANES)
    by_qkv, by_bias = pl.pallas_call(
        Backward(tiles, code is not None),
        grid=(clips, groups),
        in_specs=[_tokens(tokens, GROUP), small, small, _sums(tiles), *_code(code, tokens)],
        out_specs=[_tokens(tokens, GROUP), pl.BlockSpec((1, 1, 1, GROUP), lambda clip, group: (clip, group, 0, 0))],
        out_shape=[
            jax.ShapeDtypeStruct(qkv_BxNxF.shape, qkv_BxNxF.dtype),
            jax.ShapeDtypeStruct((clips, groups, 1, GROUP), jnp.float32),
        ],
        scratch_shapes=backward.Scratch.shapes(tiles, qkv_BxNxF.dtype),
        compiler_params=_parameters(vmem, clips),
        interpret=interpret,
        name=f"{BACKWARD}_{head_dim}",
    )(qkv_BxNxF, out_BxNxE, slope_BxNxE, sums, *(code or ()))
    return by_qkv, by_bias


def vmem_bytes(tokens: int, head_dim: int, dtype: str, *, rotary: bool) -> int:
    """Bytes of a core's memory that the backward kernel, the larger one or nearly so, takes for `tokens` tokens.

    Blocks are held twice, so that the next one is fetched while the present one is worked on.
    """
    tiles, item = Tiles(tokens, head_dim), jnp.dtype(dtype).itemsize
    rows, code = -(-tokens // 8) * 8, 2 * LANES * 4 if rotary else 0
    sums = 2 * 8 * tiles.queries * 4
    both = []
    for scratch, values in ((forward.Scratch, GROUP + LANES), (backward.Scratch, 2 * GROUP + 2 * LANES)):
        shapes = scratch.shapes(tiles, jnp.dtype(dtype))
        held = sum(_vmem_of(ref.shape, jnp.dtype(ref.dtype).itemsize) for ref in shapes)
        both.append(held + 2 * rows * (values * item + code) + sums)
    return max(both) + SPARE


def _vmem_of(shape: Sequence[int], item: int) -> int:
    """Bytes of a buffer, its rows padded to 8 of 32 bits and its lanes to 128."""
    *outer, rows, lanes = shape
    packed = 32 // item
    count = 1
    for size in outer:
        count *= size
    return count * (-(-rows // packed) * packed) * padded(lanes) * item


def _tokens(tokens: int, width: int) -> pl.BlockSpec:
    return pl.BlockSpec((1, tokens, width), lambda clip, group: (clip, 0, group))


def _sums(tiles: Tiles) -> pl.BlockSpec:
    return pl.BlockSpec((1, 1, tiles.heads, tiles.queries), lambda clip, group: (clip, group, 0, 0))


def _code(code: LaneCode | None, tokens: int) -> list[pl.BlockSpec]:
    """Every clip's own rows, or the one row that all share."""
    if code is None:
        return []
    shared = code.own.shape[0] == 1
    return 2 * [pl.BlockSpec((1, tokens, LANES), lambda clip, group: (0 if shared else clip, 0, 0))]


def _parameters(vmem: int, clips: int) -> pltpu.CompilerParams:
    """Cores of a chip, where it has two, share the clips, or the groups of a single clip."""
    if clips == 1:
        return pltpu.CompilerParams(dimension_semantics=("arbitrary", "parallel"), vmem_limit_bytes=vmem)
    return pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=vmem)
