"""A probe on frames and labels of one's own: each case left out once, several labels a frame or one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.evaluate.compare.columns import read_columns
from surgmotion_jax.evaluate.compare.comparison import compare
from surgmotion_jax.evaluate.folds import evaluate_protocol
from surgmotion_jax.evaluate.results import read_predictions
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.pages.evaluation import write_page
from tests.evaluate.encoders import small_encoder
from tests.evaluate.evaluations import SMALL, changed, read

CASES, FRAMES = ("anna", "berta", "carl"), 8
NEAREST = changed(
    SMALL,
    data={"benchmark": "own_frames", "protocol": "loco"},
    probe={"head": "knn", "neighbours": (1, 3)},
)


@pytest.fixture(scope="module")
def source():
    return Source(small_encoder())


def own(root, header, label):
    """Frames whose upper and lower halves are bright or dark, and what `label` says of the two halves."""
    lines = [f"case,frame,{header}"]
    rng = np.random.default_rng(0)
    for case in CASES:
        (root / "frames" / case).mkdir(parents=True)
        for n in range(FRAMES):
            up, low = n % 2, n // 2 % 2
            picture = np.repeat([up, low], 8)[:, None, None] * 180 + rng.integers(0, 40, (16, 16, 3))
            Image.fromarray(picture.astype(np.uint8)).save(root / "frames" / case / f"{n}.png")
            lines.append(f"{case},{n}.png,{label(up, low)}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def scores(fields):
    return {row["metric"]: row["value"] for row in fields["chosen"]["results"]}


@pytest.fixture(scope="module")
def several(source, tmp_path_factory):
    """An evaluation of two classes that may be there together."""
    folder = tmp_path_factory.mktemp("several")
    root = own(folder / "set", "above,below", lambda up, low: f"{up},{low}")
    return evaluate_protocol(NEAREST, source, str(root), folder / "run"), folder / "run"


def test_what_pictures_show_is_found_in_cases_that_were_left_out(several):
    fields, workdir = several
    assert fields["family"] == "presence"
    found = scores(fields)
    assert found["mAP_chance"] == 0.5
    assert found["mAP"] > 0.9
    assert found["AP_above"] > 0.9
    tables = read_predictions(workdir)
    assert list(tables) == list(CASES)
    assert all(len(table["time"]) == FRAMES for table in tables.values())
    assert {fold: read(workdir / fold / "results.json")["cases"]["test"] for fold in fields["folds"]} == {
        f"loco_{case}": [case] for case in CASES
    }


def test_it_has_a_page_and_stands_in_a_table(several):
    _, workdir = several
    write_page(workdir)
    assert "AP_below" in (workdir / "report.html").read_text()
    (table,) = compare(read_columns([str(workdir)]))
    assert table.title.startswith("Own frames, protocol loco, 3 cases")


def test_one_class_a_frame_is_scored_as_phases_are(source, tmp_path):
    root = own(tmp_path / "set", "label", lambda up, low: ("dark", "low", "high", "bright")[2 * up + low])
    fields = evaluate_protocol(NEAREST, source, str(root), tmp_path / "run")
    assert fields["family"] == "workflow"
    assert fields["classes"] == {"label": ["bright", "dark", "high", "low"]}
    assert scores(fields)["accuracy"] > 0.8
    again = evaluate_protocol(NEAREST, source, str(root), tmp_path / "run")
    assert again["chosen"] == fields["chosen"]
