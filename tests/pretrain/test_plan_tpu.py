"""Steps that libtpu compiles for TPUs that are not there: sharded as the rules say, unpadded, as fast as before."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from tests import needs
from tests.pretrain.plan_baseline import figures, planned, read_baseline

BASELINE = read_baseline()
SLOWER = 1.03


def planned_on_tpu(*flags: str) -> dict[str, Any]:
    """What `plan` writes of a small model."""
    return planned(["--config=pretrain/tiny", "--config.model.dtype=bfloat16", *flags])


def assert_sound(findings: dict[str, Any]) -> None:
    names = ("unexpected_arguments", "whole_gathers", "before_model")
    assert not [findings[name] for name in names if findings[name]]
    assert findings["exchanges"]
    assert all(e["share"] <= 1 for e in findings["exchanges"]), findings["exchanges"]


@pytest.mark.slow
@needs.LIBTPU
@pytest.mark.parametrize(("topology", "fsdp"), [("v5e:2x2", 4), ("v5p:2x2x1", 2)])
def test_a_real_step_compiles_for_a_tpu_slice(topology, fsdp):
    mesh = ("--config.parallel.data=-1", f"--config.parallel.fsdp={fsdp}")
    more = ("--config.model.attention=splash", "--config.model.remat=full")
    found = planned_on_tpu(f"--topology={topology}", *mesh, *more)
    assert found["mesh"] == {"data": 4 // fsdp, "fsdp": fsdp, "tensor": 1}
    assert found["peak_share"] < 0.85
    assert_sound(found["findings"])


@pytest.mark.slow
@needs.LIBTPU
def test_no_row_is_mostly_padding_with_the_fused_kernel():
    """Heads of 64 and of 32 as in the large models; with splash the same text has such rows."""
    model = (
        "--config.model.variant=vit_small",
        "--config.model.predictor.width=128",
        "--config.model.predictor.heads=4",
    )
    mesh = ("--config.parallel.data=1", "--config.parallel.fsdp=4", "--config.model.remat=attention")
    for attention, expected in (("fused", False), ("splash", True)):
        flags = ("--topology=v5e:2x2", *model, *mesh, f"--config.model.attention={attention}")
        findings = planned_on_tpu(*flags)["findings"]
        assert_sound(findings)
        assert bool(findings["narrow"]) == expected, findings["narrow"]


@pytest.mark.slow
@needs.LIBTPU
@pytest.mark.parametrize("name", BASELINE)
def test_a_shipped_config_is_as_fast_by_estimate_as_it_was(name):
    """`python -m tests.pretrain.plan_baseline NAME` writes new figures where a change is meant."""
    kept = BASELINE[name]
    here = importlib.metadata.version("libtpu")
    if kept["versions"]["libtpu"] != here:
        pytest.skip(f"figures are those of libtpu {kept['versions']['libtpu']}, installed is {here}")
    found = figures(planned(kept["flags"]))
    assert found["milliseconds"] <= SLOWER * kept["milliseconds"], (found, kept)
    assert found["milliseconds_corrected"] <= SLOWER * kept["milliseconds_corrected"], (found, kept)
    assert found["peak_gib"] <= SLOWER * kept["peak_gib"] + 0.05, (found, kept)
