"""The head that looks at nothing: every family has a value of chance, and no frame is decoded for it."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.evaluate.config import DataConfig, EvaluateConfig, ProbeSettings, ReportConfig
from surgmotion_jax.evaluate.features.windows_of_cases import WindowReader
from surgmotion_jax.evaluate.heads.constant import ConstantPredictor
from surgmotion_jax.evaluate.results import read_predictions
from surgmotion_jax.evaluate.run import evaluate
from surgmotion_jax.evaluate.source import Source
from tests.benchmarks.simulated import make
from tests.evaluate.encoders import small_encoder


def test_it_answers_with_the_mean_of_what_is_known():
    classes = {"label": np.array([0, 1, 1, 1]), "mask": np.ones(4, bool)}
    np.testing.assert_array_equal(ConstantPredictor(classes, 3)(np.zeros((2, 1)))[0], [[0.25, 0.75, 0]] * 2)
    scores = {"label": np.array([10.0, 20.0]), "mask": np.ones(2, bool)}
    np.testing.assert_array_equal(ConstantPredictor(scores, 1)(np.zeros((3, 1))), [[15, 15, 15]])
    depth = {"label": np.array([[[2.0, 0.0]], [[4.0, 6.0]]]), "mask": np.array([[[True, False]], [[True, True]]])}
    np.testing.assert_array_equal(ConstantPredictor(depth, 1)(np.zeros((1, 1)))[0, 0], [[3, 6]])


@pytest.mark.parametrize("name", ["cholec80", "cholect50", "jigsaws", "c3vd", "polyp_segmentation"])
def test_every_family_has_a_value_of_chance(tmp_path, monkeypatch, name):
    cases = {"jigsaws": 12, "polyp_segmentation": 12}.get(name, 6)
    root = make(name, tmp_path / "set", cases, 3.0, fps=2)
    data = DataConfig(name, frames=2 - (name in ("c3vd", "polyp_segmentation")), size=16)
    config = EvaluateConfig(data, ProbeSettings("constant"), report=ReportConfig(resamples=10, pictures=0))
    monkeypatch.delattr(WindowReader, "case_windows")  # what decodes windows
    fields = evaluate(config, Source(small_encoder()), str(root), tmp_path / "run")
    assert fields["chosen"]["name"] == "mean of the training truth"
    assert "the head looks at nothing: it answers with the mean of the training truth" in fields["notes"]
    key = (fields["choice"]["metric"], fields["choice"]["convention"])
    assert key in {(row["metric"], row["convention"]) for row in fields["chosen"]["results"]}
    if name == "cholec80":
        assert {len(set(table["predicted"].tolist())) for table in read_predictions(tmp_path / "run").values()} == {1}
