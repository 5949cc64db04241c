"""The measured parts of a step: own times worked by hand, and a traced program whose parts are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from surgmotion_jax.pages.suite import Part, Suite, as_html, parts_table, step_table, times_table
from surgmotion_jax.pretrain.bench.parts import Event, measured_parts, own_times
from surgmotion_jax.pretrain.bench.timing import Quartiles

TIMES = Quartiles(0.001, 0.002, 0.004)
FOUND = Suite(
    device="1 x TPU v5e",
    versions={"jax": "0.10.2"},
    subject="vit_large",
    seconds=TIMES,
    clips_per_s=12.5,
    mfu=0.4321,
    estimate=0.0015,
    parts=(Part("prepare", 0.0005, 0.00025), Part("losses", 0.0015, None)),
    attention={"fused": TIMES},
    no_attention={"cudnn": "needs a GPU"},
    block="64 x 1568 tokens",
    input_clips_per_s=None,
    sweep={"loop": TIMES},
    heads="20 heads",
)


def test_an_operation_counts_without_those_inside_it():
    events = [
        Event(0, 100, "while"),
        Event(10, 30, "fusion"),
        Event(15, 5, "copy"),
        Event(40, 20, "dot"),
        Event(100, 7, "copy"),
    ]
    assert sorted(own_times(reversed(events))) == [("copy", 5), ("copy", 7), ("dot", 20), ("fusion", 25), ("while", 50)]
    assert sum(time for _, time in own_times(events)) == 107, "every moment counts once"


def test_a_traced_program_is_taken_apart_by_its_scopes(tmp_path):
    @jax.jit
    def step(x):
        with jax.named_scope("targets"):
            y = x
            for _ in range(8):
                y = y @ x
        with jax.named_scope("losses"):
            return y, jnp.sort(x[0])

    x = jnp.ones((400, 400)) / 400
    compiled = step.lower(x).compile()
    compiled(x)
    with jax.profiler.trace(str(tmp_path)):
        for _ in range(2):
            jax.block_until_ready(compiled(x))
    parts = measured_parts(tmp_path, compiled.as_text(), 2)
    assert parts["target encoder"] > parts["losses"] > 0, "eight products against one sorted row"
    assert parts["prepare"] == parts["recomputed"] == 0
    assert measured_parts(tmp_path / "nothing", compiled.as_text(), 2) == {}


def test_the_page_has_what_was_measured_beside_what_was_estimated():
    assert dict(step_table(FOUND)[1])["estimate of the compiler"] == "1.50 ms"
    assert dict(step_table(FOUND)[1])["MFU"] == "43.2 %"
    assert parts_table(FOUND)[1] == [("prepare", "0.50", "25.0 %", "0.25"), ("losses", "1.50", "75.0 %", "-")]
    assert times_table(FOUND.attention, FOUND.no_attention)[1] == [
        ("fused", "2.00 ms (1.00 to 4.00)"),
        ("cudnn", "needs a GPU"),
    ]
    html = as_html(FOUND)
    assert "Not measured: --data=PATH names no videos." in html
    assert html.index("The step") < html.index("Its parts") < html.index("Attention") < html.index("Heads")
