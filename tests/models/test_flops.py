"""Analytic operation counts equal XLA's where XLA counts everything: on models without loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import Grid, ModelConfig, PredictorSettings
from surgmotion_jax.models.flops import block_flops, trunk_flops

GRID = Grid(2, 8, 8)


def wide_model(depth: int) -> ModelConfig:
    """Wide enough for matrix products to outweigh norms, softmax and GELU, which the analytic count leaves out."""
    return ModelConfig(
        width=1024,
        heads=8,
        mlp=4096,
        depth=depth,
        predictor=PredictorSettings(width=1024, depth=1, heads=8, mask_tokens=1),
        positions="sincos",
        attention="xla",
        remat="none",
        dtype="float32",
    )


def counted(fn, *arguments) -> float:
    """XLA's count, which sees the body of a loop once."""
    return jax.jit(fn).lower(*arguments).cost_analysis()["flops"]


def shapes(make):
    return jax.eval_shape(lambda: make(jax.random.key(0)))


def encoder_count(depth: int) -> float:
    """Encoder of `depth` blocks, not scanned: the output of one block is what the next one's trunk begins with."""
    one = wide_model(1)
    params = shapes(backbone_of(one).init)
    patches = jax.ShapeDtypeStruct((1, GRID.tokens, one.patch_values), jnp.float32)

    def unrolled(params, patches):
        from surgmotion_jax.models.layout import SINGLE_DEVICE
        from surgmotion_jax.models.transformer import Trunk

        x = backbone_of(one).encode(params, patches, grid=GRID).tokens
        for _ in range(depth - 1):
            x, _ = Trunk(one.encoder, SINGLE_DEVICE).apply({"params": params["trunk"]}, x, None)
        return x

    return counted(unrolled, params, patches)


@pytest.mark.parametrize("depth", [1, 2])
def test_encoder_equals_the_count_of_an_unrolled_model(depth):
    assert backbone_of(wide_model(depth)).flops(GRID.tokens).forward == pytest.approx(encoder_count(depth), rel=0.02)


def test_a_scan_is_multiplied_out_here_but_not_by_xla():
    config = wide_model(2)
    params = shapes(backbone_of(config).init)
    patches = jax.ShapeDtypeStruct((1, GRID.tokens, config.patch_values), jnp.float32)
    scanned = counted(lambda p, x: backbone_of(config).encode(p, x, grid=GRID).tokens, params, patches)
    assert scanned < 0.6 * backbone_of(config).flops(GRID.tokens).forward


def test_predictor_equals_xlas_count():
    config, context, target = wide_model(1), 48, 80
    predictor = backbone_of(config).predictor
    params = shapes(predictor.init)
    features = jax.ShapeDtypeStruct((1, context, 1024), jnp.float32)
    ids = [jax.ShapeDtypeStruct((1, n), jnp.int32) for n in (context, target)]
    xla = counted(lambda p, x, k, m: predictor.predict(p, x, k, m, grid=GRID), params, features, *ids)
    assert predictor.flops(context, target).forward == pytest.approx(xla, rel=0.02)


def test_formulas():
    """By hand: ViT-L on 1,568 tokens is 24 (24 N C^2 + 4 N^2 C)."""
    c = ModelConfig(variant="vit_large").encoder
    assert block_flops(c, 10) == 24 * 10 * 1024**2 + 4 * 100 * 1024
    assert trunk_flops(c, 1568) == 24 * (24 * 1568 * 1024**2 + 4 * 1568**2 * 1024)
