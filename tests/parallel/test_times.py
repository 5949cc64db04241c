"""A program's estimated time: kernels are in both sums, and MFU is operations over time at the peak."""

from __future__ import annotations

import pytest

from surgmotion_jax.parallel.times import program_time, time_on
from surgmotion_jax.parallel.topology import Core, describe
from tests.parallel.test_estimates import TEXT

CORE = Core(vmem_bytes=0, clock_hz=1e6, hbm_bytes_per_s=8e6)


def test_kernels_are_in_both_sums():
    time = program_time(TEXT, CORE, 1e3, lambda one: 700.0)
    # The product and the kernel four times, both additions.
    assert time.total.plain == pytest.approx((4 * 5000 + 4 * 700 + 300 + 90_000) / 1e6)
    assert time.total.corrected < time.total.plain
    assert time.kernels == pytest.approx(4 * 700 / 1e6)
    assert [one.op_name for one in time.dearest[:2]] == ["jit(step)/add", "jit(step)/jvp(Encoder)/mlp/dot_general"]
    assert time.mfu(1e6).plain == pytest.approx(1e3 / 1e6 / time.total.plain)


def test_a_kernel_without_a_formula_is_named():
    time = program_time(TEXT, CORE, 1.0, lambda one: None)
    assert time.unknown_kernels == ("attention_forward_64",)
    assert time.kernels == 0


def test_a_text_without_estimates_has_no_time():
    assert program_time(TEXT.replace("estimated_cycles", "other"), CORE, 1.0, lambda one: 1.0) is None


def test_only_what_was_compiled_for_a_tpu_has_a_time():
    assert time_on(describe("gpu:h100x8"), TEXT, 1.0) is None
    assert time_on(describe("v5e:2x2"), "", 1.0) is None
    assert time_on(describe("v5e:2x2"), TEXT, 1.0).total.plain > 0
