"""The formula of a kernel's cycles against schedules that the TPU compiler dumped, and what it does not know."""

from __future__ import annotations

import pytest

from surgmotion_jax.models.kernels.cycles import SCHEDULED, kernel_cycles
from surgmotion_jax.models.kernels.tiles import HEAD_DIMS

# Bundles of the final schedule, loops multiplied out, of one group of heads of one clip.
DUMPED = [
    ("TPU v5e", "attention_forward_64", 392, 2_064),
    ("TPU v5e", "attention_forward_64", 1568, 20_666),
    ("TPU v5e", "attention_backward_64", 1568, 44_142),
    ("TPU v5e", "attention_backward_32", 1024, 29_150),
    ("TPU v5p", "attention_forward_32", 1568, 31_950),
    ("TPU v6e", "attention_forward_32", 1024, 11_993),
    ("TPU v6e", "attention_backward_128", 392, 2_487),
]


def output(kernel: str, tokens: int, clips: int = 1, groups: int = 1) -> str:
    width = (128 if "forward" in kernel else 384) * groups
    return f"(bf16[{clips},{tokens},{width}]{{2,1,0:T(8,128)(2,1)}}, f32[{clips},{groups},2,512]{{3,2,1,0:T(2,128)}})"


@pytest.mark.parametrize(("chip", "kernel", "tokens", "cycles"), DUMPED)
def test_the_formula_is_near_the_schedules(chip, kernel, tokens, cycles):
    assert kernel_cycles(f"{kernel}.7", output(kernel, tokens), chip) == pytest.approx(cycles, rel=0.07)


def test_groups_and_clips_follow_one_another():
    one, many = (kernel_cycles("attention_backward_64", output("backward", 392, *n), "TPU v5e") for n in ((), (3, 5)))
    assert many == pytest.approx(15 * one)


def test_a_chip_of_two_cores_works_on_two_clips_at_a_time():
    """The schedules of 8 clips and 2 groups turn 18 times on a v5e and 10 times on a v5p, twice to fill and empty."""
    one, two, three, eight = (
        kernel_cycles("attention_forward_64", output("forward", 392, clips, 2), "TPU v5p") for clips in (1, 2, 3, 8)
    )
    assert (two, three, eight) == pytest.approx((2 * one, 4 * one, 8 * one)), "groups of a single clip are shared"


def test_every_generation_has_every_head_and_direction():
    assert {len(table) for table in SCHEDULED.values()} == {2 * len(HEAD_DIMS)}


def test_other_kernels_and_chips_have_no_formula():
    shape = output("forward", 392)
    assert kernel_cycles("splash_mha_fwd", shape, "TPU v5e") is None
    assert kernel_cycles("attention_forward_64", shape, "TPU v4") is None
    assert kernel_cycles("attention_forward_64", shape.replace("bf16", "f32"), "TPU v5e") is None


def test_several_heads_at_once_are_so_many_more_clips():
    one, together = (
        kernel_cycles("attention_forward_64", f"bf16[{sizes},392,256]{{2,1,0}}", "TPU v5e") for sizes in ("3", "5,3")
    )
    assert together == pytest.approx(5 * one)
