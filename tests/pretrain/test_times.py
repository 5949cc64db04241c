"""The parts of a step, by the names of its operations."""

from __future__ import annotations

import pytest

from surgmotion_jax.parallel.times import Time, program_time
from surgmotion_jax.parallel.topology import Core
from surgmotion_jax.pretrain.plan.times import PARTS, part_of
from tests.parallel.test_estimates import TEXT


def test_the_parts_of_a_step_add_up():
    core = Core(vmem_bytes=0, clock_hz=1e6, hbm_bytes_per_s=8e6)
    time = program_time(TEXT, core, 1e3, lambda one: 700.0, PARTS, part_of)
    assert sum(time.parts.values(), Time()).plain == pytest.approx(time.total.plain)
    assert sum(time.parts.values(), Time()).corrected == pytest.approx(time.total.corrected)
    assert time.parts["context, forward"].plain > 0


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
