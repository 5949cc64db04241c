"""A step's estimated time: its parts add up to the whole, and MFU is operations over time at the peak."""

from __future__ import annotations

import pytest

from surgmotion_jax.parallel.times import Time
from surgmotion_jax.parallel.topology import Core
from surgmotion_jax.pretrain.plan.times import PARTS, part_of, step_time
from tests.parallel.test_estimates import TEXT

CORE = Core(vmem_bytes=0, clock_hz=1e6, hbm_bytes_per_s=8e6)


def test_parts_add_up_and_kernels_are_in_both_sums():
    time = step_time(TEXT, CORE, flops=1e3, kernel_cycles=lambda one: 700.0)
    # The product and the kernel four times, both additions.
    assert time.total.plain == pytest.approx((4 * 5000 + 4 * 700 + 300 + 90_000) / 1e6)
    assert sum(time.parts.values(), Time()).plain == pytest.approx(time.total.plain)
    assert sum(time.parts.values(), Time()).corrected == pytest.approx(time.total.corrected)
    assert time.total.corrected < time.total.plain
    assert time.kernels == pytest.approx(4 * 700 / 1e6)
    assert [one.op_name for one in time.dearest[:2]] == ["jit(step)/add", "jit(step)/jvp(Encoder)/mlp/dot_general"]
    assert time.mfu(1e6).plain == pytest.approx(1e3 / 1e6 / time.total.plain)


def test_a_kernel_without_a_formula_is_named():
    time = step_time(TEXT, CORE, flops=1.0, kernel_cycles=lambda one: None)
    assert time.unknown_kernels == ("attention_forward_64",)
    assert time.kernels == 0


def test_a_text_without_estimates_has_no_time():
    assert step_time(TEXT.replace("estimated_cycles", "other"), CORE, 1.0, lambda one: 1.0) is None


@pytest.mark.parametrize(
    ("op_name", "part"),
    [
        ("jit(train_step)/prepare/shard_map/dot", "prepare"),
        ("jit(train_step)/jvp(targets)/Encoder/trunk/while/body/mlp", "target encoder"),
        ("jit(train_step)/jvp(Encoder)/trunk/while", "context, forward"),
        ("jit(train_step)/jvp(Predictor)/trunk/while", "predictor, forward"),
        ("jit(train_step)/transpose(jvp(Encoder))/trunk/while/body/rematted_computation/mlp", "recomputed"),
        ("jit(train_step)/transpose(jvp(Encoder))/trunk/while/body/mlp", "context, backward"),
        ("jit(train_step)/transpose(jvp(PixelDecoder))/trunk/while/body/mlp", "predictor, backward"),
        ("jit(train_step)/transpose(jvp(losses))/mul", "losses"),
        ("jit(train_step)/mul", "optimiser and the rest"),
        ("", "optimiser and the rest"),
    ],
)
def test_an_operation_belongs_to_the_part_that_its_scopes_name(op_name, part):
    assert part_of(op_name) == part
    assert part in PARTS
