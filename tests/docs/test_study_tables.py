"""The published tables of the study are what its records give."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from surgmotion_jax.commands import study_run

ROOT = Path(__file__).parents[2]


def test_the_tables_of_the_study_follow_from_its_records(tmp_path):
    published = ROOT / "docs" / "study"
    for name in ("cells", "pictures"):
        shutil.copytree(published / name, tmp_path / name)
    shutil.copy(published / "study.config.json", tmp_path)
    assert study_run.main(["--config=study/laptop", f"--workdir={tmp_path}", "--page-only"]) == 0
    made = (tmp_path / "study.md").read_text().replace(str(tmp_path), "docs/study")
    assert made == (published / "study.md").read_text()
    assert (tmp_path / "study.svg").read_text() == (published / "study.svg").read_text()
    page = (ROOT / "docs" / "study.md").read_text()
    scores = re.findall(r"^\| \w+ \| \d \| (-?[\d.]+ \([^)]*\))", made, re.MULTILINE)
    assert scores
    assert not [score for score in scores if score not in page], "the page says what the tables say"
