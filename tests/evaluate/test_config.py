"""Every field that cannot be used is refused by name; every shipped config builds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from surgmotion_jax import config as door
from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.config import (
    CacheConfig,
    DataConfig,
    EvaluateConfig,
    ProbeSettings,
    ReportConfig,
    SweepConfig,
)
from surgmotion_jax.evaluate.heads_of_tasks import check_head, head_for
from surgmotion_jax.evaluate.targets import segmentation
from tests.evaluate.evaluations import SMALL, changed


@pytest.mark.parametrize(
    ("cls", "field", "value", "match"),
    [
        (DataConfig, "recipe", "theirs", "data.recipe is 'theirs'"),
        (DataConfig, "resize", "warp", "data.resize is 'warp'"),
        (DataConfig, "frames", 0, "data.frames is 0"),
        (DataConfig, "size", 0, "data.size is 0"),
        (DataConfig, "fraction", 0.0, "data.fraction is 0.0"),
        (DataConfig, "fraction", 1.5, "data.fraction is 1.5"),
        (DataConfig, "fps", -1.0, "data.fps is -1.0"),
        (DataConfig, "train_windows", -1, "data.train_windows is -1"),
        (ProbeSettings, "head", "mlp", "probe.head is 'mlp'"),
        (ProbeSettings, "temporal", "lstm", "probe.temporal is 'lstm'"),
        (ProbeSettings, "depth", 0, "probe.depth is 0"),
        (ProbeSettings, "stride", 0, "probe.stride is 0"),
        (ProbeSettings, "neighbours", (0,), "probe.neighbours is"),
        (SweepConfig, "learning_rates", (), "learning_rates is"),
        (SweepConfig, "weight_decays", (-1.0,), "weight_decays is"),
        (SweepConfig, "class_weights", "some", "sweep.class_weights is 'some'"),
        (SweepConfig, "strategy", "fast", "sweep.strategy is 'fast'"),
        (SweepConfig, "batch", 0, "sweep.batch is 0"),
        (SweepConfig, "memory_gb", 0.0, "sweep.memory_gb is 0.0"),
        (CacheConfig, "kind", "all", "cache.kind is 'all'"),
        (CacheConfig, "dtype", "int8", "cache.dtype is 'int8'"),
        (ReportConfig, "method", "t", "report.method is 't'"),
        (ReportConfig, "level", 1.0, "report.level is 1.0"),
    ],
)
def test_a_field_that_cannot_be_is_named(cls, field, value, match):
    with pytest.raises(ValueError, match=match):
        cls(**{field: value})


def test_a_pooled_cache_serves_only_heads_on_pooled_features():
    with pytest.raises(ValueError, match="cache.kind is pooled, but a head of kind attentive reads all tokens"):
        EvaluateConfig(cache=CacheConfig(kind="pooled"))
    assert changed(SMALL, cache={"kind": "pooled"}).probe.head == "linear"


def test_what_changes_no_number_is_not_compared():
    other = changed(SMALL, cache={"ahead": 5}, sweep={"save_every": 7, "memory_gb": 1.0})
    assert other.result_fields == SMALL.result_fields
    assert changed(SMALL, sweep={"epochs": 3}).result_fields != SMALL.result_fields


def test_every_benchmark_has_a_config_of_its_name_that_fits_its_family():
    names = [name for name in door.config_names() if name.startswith("evaluate/")]
    assert {name.partition("/")[2] for name in names} == set(catalogue.names())
    for name in names:
        for argument in ("", ":small"):
            config = door.build(EvaluateConfig, door.load_config(name + argument))
            assert config.data.benchmark == name.partition("/")[2]
            check_head(catalogue.get(config.data.benchmark).family, config.probe.head)
            if argument:
                assert (config.data.size, config.data.train_windows, len(config.sweep.grid.points)) == (64, 600, 4)
                assert config.data.frames <= 16
    with pytest.raises(ValueError, match="argument of an evaluation config"):
        door.load_config("evaluate/cholec80:tiny")


def test_a_head_of_another_family_is_refused():
    with pytest.raises(ValueError, match=r"probe.head is dense, but the benchmark's family is workflow"):
        check_head("workflow", "dense")


@pytest.mark.parametrize(("stride", "doublings"), [(1, 4), (2, 3), (4, 2), (64, 1)])
def test_a_dense_head_with_a_stride_ends_before_the_pixels_and_is_enlarged(stride, doublings):
    config = EvaluateConfig(DataConfig(size=64), ProbeSettings("dense", width=4, stride=stride))
    head = head_for(config, segmentation(), (2, 1, 4, 4, 12))  # layers, step, 4 x 4 patches of 16 pixels, width
    params = jax.eval_shape(head.init, jax.random.key(0))
    assert sum(name.startswith("conv_norm") for name in params) == doublings
    features = jax.ShapeDtypeStruct((2, 3, 1, 4, 4, 12), jnp.float32)
    assert jax.eval_shape(head.apply, params, features, None).shape == (3, 64, 64)
