"""Every field that cannot be used is refused by name; every shipped config builds."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax import config as door
from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.config import (
    CacheConfig,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    ProbeSettings,
    ReportConfig,
    SweepConfig,
)
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.encoder.weights import Origin
from surgmotion_jax.evaluate.features.of_cohort import CohortFeatures
from surgmotion_jax.evaluate.heads.clock import quick
from surgmotion_jax.evaluate.heads.of_tasks import attention_on, check_head, head_for, with_attention
from surgmotion_jax.evaluate.heads.targets import depth, regression, segmentation
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.models.attention import IMPLEMENTATIONS
from surgmotion_jax.models.config import ATTENTIONS, ModelConfig
from surgmotion_jax.models.fused_attention import FUSED
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
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
        (ProbeSettings, "attention", "flash", "probe.attention is 'flash'"),
        (
            ProbeSettings,
            "attention",
            "cudnn",
            "probe.attention is 'cudnn', .* bfloat16 only, but probe.dtype is 'float32'",
        ),
        (ProbeSettings, "remat", "some", "probe.remat is 'some'"),
        (ProbeSettings, "dtype", "float16", "probe.dtype is 'float16'"),
        (FinetuneConfig, "blocks", "last:0", "finetune.blocks is 'last:0'; it must be none .* or last:N"),
        (FinetuneConfig, "layer_decay", 0.0, "finetune.layer_decay is 0.0"),
        (FinetuneConfig, "warmup", 1.5, "finetune.warmup is 1.5"),
        (FinetuneConfig, "clip", -1.0, "finetune.clip is -1.0"),
        (FinetuneConfig, "moments_dtype", "float16", "finetune.moments_dtype is 'float16'"),
        (FinetuneConfig, "remat", "some", "finetune.remat is 'some'"),
        (SweepConfig, "learning_rates", (), "learning_rates is"),
        (SweepConfig, "weight_decays", (-1.0,), "weight_decays is"),
        (SweepConfig, "class_weights", "some", "sweep.class_weights is 'some'"),
        (SweepConfig, "strategy", "fast", "sweep.strategy is 'fast'"),
        (SweepConfig, "batch", 0, "sweep.batch is 0"),
        (SweepConfig, "memory_gb", -1.0, "sweep.memory_gb is -1.0"),
        (SweepConfig, "memory_gb", float("inf"), "sweep.memory_gb is inf"),
        (CacheConfig, "kind", "all", "cache.kind is 'all'"),
        (CacheConfig, "dtype", "int8", "cache.dtype is 'int8'"),
        (ReportConfig, "method", "t", "report.method is 't'"),
        (ReportConfig, "level", 1.0, "report.level is 1.0"),
    ],
)
def test_a_field_that_cannot_be_is_named(cls, field, value, match):
    with pytest.raises(ValueError, match=match):
        cls(**{field: value})


def test_a_dense_head_reads_four_blocks_where_the_variant_has_the_depth():
    config, model = changed(SMALL, probe={"head": "dense"}), ModelConfig(variant="vit_nano", patch=8, dtype="float32")
    assert model.depth == 0  # the variant's, which is 4
    layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1]))
    encoder = FrozenEncoder(model, {}, Origin("small", ("target",), 0, ""), layout)
    features = CohortFeatures(config, Source(encoder), cohort=None, folder="", say=print)
    assert features.encoding.wanted.layers == (0, 1, 2, 3)
    assert features.encoding.shape == (4, 1, 2, 2, 192)


def test_a_pooled_cache_serves_only_heads_on_pooled_features():
    with pytest.raises(ValueError, match="cache.kind is pooled, but a head of kind attentive reads all tokens"):
        EvaluateConfig(cache=CacheConfig(kind="pooled"))
    for head in ("knn", "temporal"):
        with pytest.raises(ValueError, match=f"finetune.blocks is full, but probe.head is {head}, which is not"):
            EvaluateConfig(probe=ProbeSettings(head), finetune=FinetuneConfig("full"))
    with pytest.raises(ValueError, match="but cache.kind is pooled, and an encoder in training reads pixels"):
        EvaluateConfig(probe=ProbeSettings("linear"), cache=CacheConfig("pooled"), finetune=FinetuneConfig("full"))
    assert changed(SMALL, cache={"kind": "pooled"}).probe.head == "linear"


def test_what_changes_no_number_is_not_compared():
    other = changed(SMALL, cache={"ahead": 5}, sweep={"save_every": 7, "memory_gb": 1.0})
    assert other.result_fields == SMALL.result_fields
    assert changed(SMALL, sweep={"epochs": 3}).result_fields != SMALL.result_fields
    nearest = changed(SMALL, probe={"head": "knn"})
    assert changed(nearest, sweep={"class_weights": "none"}).result_fields == nearest.result_fields


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
            dense = catalogue.get(config.data.benchmark).family in ("segmentation", "depth")
            strategy, remat = (("loop" if dense else "vmap"), "none") if argument else ("auto", "full")
            assert (config.sweep.strategy, config.probe.remat, config.sweep.memory_gb) == (strategy, remat, 0)
    with pytest.raises(ValueError, match="argument of an evaluation config is 'tiny'; it must be one of , small"):
        door.load_config("evaluate/cholec80:tiny")
    with pytest.raises(ValueError, match="benchmark of an evaluation config is 'cholec8'.*Did you mean 'cholec80'?"):
        door.load_config("evaluate/cholec8")


@pytest.mark.parametrize("name", ["evaluate/cholec80", "configs/evaluate/cholec80.py", "evaluate:cholec80"])
@pytest.mark.parametrize("size", ["", ":small"])
def test_an_entry_of_the_table_is_named_as_if_it_were_a_file(name, size):
    assert door.find_config(name + size).endswith(f"configs/evaluate.py:cholec80{size}")
    assert door.load_config(name + size).data.benchmark == "cholec80"


def test_settings_are_read_without_jax():
    heavy = "print(sorted({'jax', 'flax', 'av', 'PIL'} & set(sys.modules)))"
    line = f"import sys, surgmotion_jax.evaluate.config; {heavy}"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_kernel_of_attention_can_be_asked_for():
    assert (*IMPLEMENTATIONS, FUSED) == ATTENTIONS


def test_a_head_of_another_family_is_refused():
    with pytest.raises(ValueError, match=r"probe.head is dense, but the benchmark's family is workflow"):
        check_head("workflow", "dense")


def test_the_heads_of_a_large_encoder_are_not_beyond_the_limit_of_a_full_size_config():
    """Twenty heads of depth 4 on tokens of 1,024: parameters and moments alone are 11.8 GB."""
    config = door.build(EvaluateConfig, door.load_config("evaluate/cholec80"))
    head = head_for(config, regression([1.0, 2.0]), (32 * 16 * 16, 1024))
    floats = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(head.init, jax.random.key(0))))
    needed = 4 * 3 * floats * len(config.sweep.grid.points)
    assert needed == pytest.approx(11.8e9, rel=0.01)
    assert needed < (1e9 * config.sweep.memory_gb or 80e9)


def test_a_kernel_that_these_devices_lack_is_refused():
    config = EvaluateConfig(probe=ProbeSettings(attention="cudnn", dtype="bfloat16"))
    with pytest.raises(ValueError, match=r"probe.attention is 'cudnn', which needs a GPU, but the devices are 'cpu'"):
        head_for(config, regression([1.0, 2.0]), (6, 12))
    assert attention_on("tpu", "splash", "float32", 64) == "splash"


@pytest.mark.parametrize(
    ("platform", "dtype", "head_dim", "found"),
    [
        ("tpu", "float32", 64, "fused"),
        ("gpu", "bfloat16", 64, "cudnn"),
        ("gpu", "bfloat16", 12, "xla"),  # cuDNN takes multiples of 8
        ("gpu", "float32", 64, "xla"),
        ("cpu", "bfloat16", 64, "xla"),
    ],
)
def test_auto_takes_the_attention_that_suits_the_devices(platform, dtype, head_dim, found):
    assert attention_on(platform, "auto", dtype, head_dim) == found
    config = EvaluateConfig(probe=ProbeSettings(heads=2, dtype=dtype))
    assert with_attention(config, platform, 2 * head_dim).probe.attention == found, "what a run writes down"


def test_heads_without_attention_are_recorded_as_before():
    config = EvaluateConfig(probe=ProbeSettings(head="linear"))
    assert with_attention(config, "tpu", 64).probe.attention == "xla"


@pytest.mark.parametrize("head", ["attentive", "dense", "temporal"])
def test_a_head_computes_in_the_type_that_is_asked_for(head):
    shape = (2, 1, 4, 4, 12) if head == "dense" else (6, 12)
    goal = segmentation() if head == "dense" else regression([1.0, 2.0])
    for dtype in ("float32", "bfloat16"):
        config = EvaluateConfig(DataConfig(size=64), ProbeSettings(head, depth=2, heads=3, width=4, dtype=dtype))
        assert head_for(config, goal, shape).config.dtype == dtype


def test_what_a_block_does_not_keep_is_computed_again_and_changes_no_gradient():
    tokens = jax.random.normal(jax.random.key(0), (2, 6, 12))
    found, steps = {}, {}
    for remat in ("none", "full"):
        config = EvaluateConfig(probe=ProbeSettings(depth=2, heads=3, remat=remat))
        head = quick(head_for(config, regression([1.0, 2.0]), (6, 12)))
        params = head.init(jax.random.key(1))
        gradient = jax.grad(lambda p, head=head: jnp.square(head.apply(p, tokens, None)).sum())
        found[remat], steps[remat] = jax.jit(gradient)(params), str(jax.make_jaxpr(gradient)(params))
    assert ["remat" in steps[name] or "checkpoint" in steps[name] for name in found] == [False, True]
    assert steps["full"].count("dot_general") > steps["none"].count("dot_general")
    for leaf, wanted in zip(jax.tree.leaves(found["full"]), jax.tree.leaves(found["none"]), strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=0, atol=1e-6 * max(1.0, float(jnp.abs(wanted).max())))


@pytest.mark.parametrize(("stride", "doublings"), [(1, 4), (2, 3), (4, 2), (64, 1)])
def test_a_dense_head_with_a_stride_ends_before_the_pixels_and_is_enlarged(stride, doublings):
    config = EvaluateConfig(DataConfig(size=64), ProbeSettings("dense", width=4, stride=stride))
    head = head_for(config, segmentation(), (2, 1, 4, 4, 12))  # layers, step, 4 x 4 patches of 16 pixels, width
    params = jax.eval_shape(head.init, jax.random.key(0))
    assert sum(name.startswith("conv_norm") for name in params) == doublings
    features = jax.ShapeDtypeStruct((2, 3, 1, 4, 4, 12), jnp.float32)
    assert jax.eval_shape(head.apply, params, features, None).shape == (3, 64, 64)


@pytest.mark.parametrize(("stride", "cells"), [(1, 16), (4, 4), (16, 1), (64, 1)])
def test_a_linear_head_of_patches_gives_as_many_numbers_as_its_stride_asks_for(stride, cells):
    config = EvaluateConfig(DataConfig(size=64), ProbeSettings("patch_linear", stride=stride))
    head = head_for(config, depth(30.0), (2, 1, 4, 4, 12), scale=30.0)
    assert jax.eval_shape(head.init, jax.random.key(0))["kernel"].shape == (2 * 12, cells**2)
    features = jax.ShapeDtypeStruct((2, 3, 1, 4, 4, 12), jnp.float32)
    assert jax.eval_shape(head.apply, jax.eval_shape(head.init, jax.random.key(0)), features, None).shape == (3, 64, 64)
