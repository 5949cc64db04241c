"""From nothing to a report by two commands: a rendered set, evaluated by its shipped config."""

from __future__ import annotations

import json
import math

import pytest

from surgmotion_jax.benchmarks.catalogue import get
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.commands import evaluate, simulate
from surgmotion_jax.evaluate.results import read_predictions
from surgmotion_jax.evaluate.tasks.families import task_of_results

QUICK = (
    "--checkpoint=random:vit_nano",
    "--config.data.size=32",
    "--config.sweep.epochs=1",
    "--config.sweep.batch=4",
    "--config.sweep.learning_rates=(1e-3,)",
    "--config.report.resamples=20",
)
DENSE, POOLED = ("--config.probe.width=4",), ("--head=linear", "--config.data.frames=4")


@pytest.mark.parametrize(
    ("name", "size", "flags"),
    [
        ("cholec80", ("--cases=4", "--minutes=0.1"), POOLED),
        pytest.param("surgicalactions160", ("--cases=64", "--minutes=0.02"), POOLED, marks=pytest.mark.slow),
        pytest.param("cholect50", ("--cases=4", "--minutes=0.1"), POOLED, marks=pytest.mark.slow),
        pytest.param("jigsaws", ("--cases=12", "--minutes=0.03"), POOLED, marks=pytest.mark.slow),
        pytest.param("polyp_segmentation", ("--cases=6", "--minutes=0.05"), DENSE, marks=pytest.mark.slow),
        pytest.param("c3vd", ("--cases=4", "--minutes=0.05"), DENSE, marks=pytest.mark.slow),
    ],
)
def test_a_rendered_set_is_evaluated_to_the_end(tmp_path, capsys, name, size, flags):
    root, workdir = tmp_path / "set", tmp_path / "run"
    drawn = [f"--layout={name}", f"--out={root}", *size, "--fps=2", "--size=64", "--workers=0", "--no-preview"]
    assert simulate.main(drawn) == 0
    assert check(get(name), root, decode=False).problems == ()
    where = [f"--root={root}", f"--workdir={workdir}"]
    assert evaluate.main([f"--config=evaluate/{name}:small", *QUICK, *flags, *where]) == 0
    fields = json.loads((workdir / "results.json").read_text())
    assert fields["family"] == get(name).family
    assert not {*fields["cases"]["test"]} & {*fields["cases"]["train"], *fields["cases"]["val"]}
    assert_every_measure_is_there(fields, read_predictions(workdir))
    assert (workdir / "report.html").read_text().startswith("<!doctype html>")
    assert f"{get(name).title}, protocol {fields['protocol']}: head lr=" in capsys.readouterr().out


def assert_every_measure_is_there(fields, tables):
    """Each measure that the family declares is a finite number, or undefined for a reason."""
    chosen = fields["chosen"]
    declared = {(m.name, m.convention) for m in task_of_results(fields).measures(list(tables.values()))}
    found = {(row["metric"], row["convention"]): row["value"] for row in chosen["results"]}
    undefined = {(row["metric"], row["convention"]): row["why"] for row in chosen["undefined"]}
    assert list(tables) == fields["cases"]["test"]
    assert found
    assert found.keys() | undefined.keys() == declared
    assert not found.keys() & undefined.keys()
    assert all(math.isfinite(value) for value in found.values())
    assert all(len(why) > 10 for why in undefined.values())
