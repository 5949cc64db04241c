"""The TPU kernels, their operations run one by one on the CPU, against attention written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from surgmotion_jax.models.config import Grid
from surgmotion_jax.models.kernels.calls import attention, attention_gradient, vmem_bytes
from surgmotion_jax.models.kernels.rotation import lane_code
from surgmotion_jax.models.kernels.tiles import CHUNK, ROWS, UNROLLED, Tiles, padded
from surgmotion_jax.models.positions import apply_rotary, rotary

GRID = Grid(32, 14, 14)
VMEM = 2**26


def code_of(kind, clips, tokens, head_dim):
    """Rotary coefficients of tokens drawn at random, in one of the two conventions; None without."""
    ids = jax.random.randint(jax.random.key(1), (clips, tokens), 0, GRID.tokens)
    return None if kind == "none" else rotary(ids, GRID, head_dim, interleaved=kind == "interleaved")


def reference(qkv, code, head_dim):
    """Attention of [B,N,G*384], heads in order: [B,N,G*128]."""
    clips, tokens, width = qkv.shape
    parts = jnp.moveaxis(qkv.reshape(clips, tokens, width // 384, 3, 128), 3, 0)
    q, k, v = (x.reshape(clips, tokens, -1, head_dim) for x in parts)
    if code is not None:
        q, k = apply_rotary(q, code), apply_rotary(k, code)
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) * head_dim**-0.5, axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(clips, tokens, -1)


def errors(tokens, head_dim, kind, clips=2, groups=1, dtype=jnp.float32, table_clips=None):
    """Largest differences of output, gradient of qkv and its sum over tokens, each by the largest value there is."""
    qkv = jax.random.normal(jax.random.key(0), (clips, tokens, groups * 384))
    slope = jax.random.normal(jax.random.key(2), (clips, tokens, groups * 128))
    code = code_of(kind, table_clips or clips, tokens, head_dim)
    lanes = None if code is None else lane_code(code, head_dim)
    want, derive = jax.vjp(lambda x: reference(x, code, head_dim), qkv)
    (by_qkv,) = derive(slope)

    @jax.jit
    def run(qkv, slope):
        out, sums = attention(qkv, lanes, head_dim, VMEM, sums=True, interpret=True)
        return out, *attention_gradient(qkv, out, slope, sums, lanes, head_dim, VMEM, interpret=True)

    out, found, by_bias = run(qkv.astype(dtype), slope.astype(dtype))
    by_bias = by_bias[:, :, 0].reshape(clips, -1)
    pairs = ((want, out), (by_qkv, found), (by_qkv.sum(1), by_bias))
    return [float(jnp.abs(a - b).max() / jnp.abs(a).max()) for a, b in pairs]


@pytest.mark.parametrize(
    ("tokens", "head_dim", "kind"),
    [(1, 64, "interleaved"), (2, 32, "tiled"), (127, 128, "none"), (129, 64, "tiled"), (392, 32, "interleaved")],
)
def test_kernels_equal_the_reference(tokens, head_dim, kind):
    assert max(errors(tokens, head_dim, kind)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiled", "interleaved", "none"])
@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("tokens", [1, 2, 127, 128, 129, 392, 700, 1568])
def test_kernels_equal_the_reference_at_every_width(tokens, head_dim, kind):
    assert max(errors(tokens, head_dim, kind, groups=2 if tokens < 400 else 1)) < 1e-5


@pytest.mark.slow
def test_kernels_equal_the_reference_over_a_long_clip():
    assert max(errors(6272, 128, "tiled", clips=1)) < 1e-5


def test_one_position_code_serves_all_clips():
    assert max(errors(40, 64, "tiled", groups=2, table_clips=1)) < 1e-5


def test_bfloat16_is_off_by_its_own_rounding():
    found = errors(130, 64, "tiled", dtype=jnp.bfloat16)
    assert 1e-4 < max(found[:2]) < 2e-2


@pytest.mark.parametrize("tokens", [1, 127, 128, 129, 392, 512, 513, 700, 768, 1568, 6272, 8192])
def test_tiles_cover_every_token_once(tokens):
    tiles = Tiles(tokens, 64)
    assert 0 <= tiles.queries - tokens < 128
    assert tiles.queries % 128 == 0
    assert tiles.widest == (CHUNK if tokens > 2 * CHUNK else padded(tokens))
    widths = []

    def chunk(now, then, counts):
        widths.append((now.width, then.width if then else 0))
        return mark(counts, now.at)

    def blocks(parts, counts):
        for at in parts:
            counts = mark(counts, at)
        return counts

    zeros = jnp.zeros(tiles.queries, jnp.int32)
    assert (tiles.over_chunks(chunk, zeros) == 1).all()
    assert (tiles.over_blocks(256, blocks, zeros)[:tokens] == 1).all()
    assert widths[-1][1] == 0, "nothing comes after the last chunk"


def mark(counts, at):
    return jax.lax.dynamic_update_slice(counts, jax.lax.dynamic_slice(counts, (at.start,), (at.size,)) + 1, (at.start,))


def test_long_sequences_are_loops():
    """So that compiling them does not take minutes."""

    def operations(tokens):
        qkv = jnp.zeros((1, tokens, 384), jnp.bfloat16)
        return len(str(jax.make_jaxpr(lambda x: attention(x, None, 64, VMEM))(qkv)))

    assert operations(4 * UNROLLED * ROWS) < 1.2 * operations(2 * UNROLLED * ROWS)


def test_memory_of_a_core():
    """The shipped clips: 16 frames anywhere, 64 frames at 256 pixels where a core has 128 MiB, none at 384."""
    need = {n: vmem_bytes(n, 64, "bfloat16", rotary=True) / 2**20 for n in (392, 1568, 2048, 6272, 8192, 18432)}
    assert need[392] < need[1568] < 24 < need[6272] < need[8192] < 126 < need[18432]
    assert vmem_bytes(1568, 64, "bfloat16", rotary=False) < need[1568] * 2**20
