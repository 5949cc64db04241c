"""A loss term that the package does not know: settings, function and entry are all that it needs."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import pytest

from surgmotion_jax.pretrain import ablation, rows
from surgmotion_jax.pretrain.losses.table import TERMS
from surgmotion_jax.pretrain.losses.term import Measured, Term, TermConfig
from surgmotion_jax.pretrain.setup.summary import describe_loss
from tests.pretrain.fixtures import NANO, small_config, train


@dataclass(frozen=True)
class SizeConfig(TermConfig):
    scale: float = 2.0  # what the mean size is multiplied by


def measure(inputs, settings):
    size = jnp.abs(inputs.predicted_BxMxD).mean()
    return Measured(settings.scale * size, {"largest": jnp.abs(inputs.predicted_BxMxD).max()})


def test_a_new_term_has_flags_metrics_label_row_and_column(monkeypatch):
    monkeypatch.setitem(TERMS, "size", Term("size of predictions", "L1", SizeConfig, measure))
    config = small_config(**NANO, **{"loss.size.weight": 50.0, "loss.size.scale": 3.0, "optim.lr": 1e-5})
    first, second = train(config)
    weights = {name: settings.weight for name, settings in config.loss.items() if f"loss/{name}" in first}
    assert list(weights) == ["motion", "diversity", "affinity", "size"]
    assert first["loss/total"] == pytest.approx(sum(w * first[f"loss/{n}"] for n, w in weights.items()), rel=1e-6)
    assert first["gauge/largest"] > first["loss/size"] / 3 > 0
    assert second["loss/size"] < first["loss/size"], "the step follows its gradient"
    assert "50 size of predictions" in describe_loss(config)
    row = rows.config_of(rows.all_rows()["size"], config)
    assert [name for name, settings in row.loss.items() if settings != settings.off()] == ["size"]
    end = {"kind": "event", "step": 10, "text": "finished", "metrics": {}}
    lines = [{"kind": kind, "step": 10, "metrics": second} for kind in ("train", "heldout")]
    table = ablation.as_text([ablation.outcome("size", row, [*lines, end])], [])
    assert f"size of predictions in training, L1  {second['loss/size']:.4f}" in table
