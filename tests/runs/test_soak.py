"""A run that everything happens to ends as one that is left alone: a short version of `python -m tests.runs.soak`."""

from __future__ import annotations

import pytest

from tests.runs.soak import KINDS, soak


@pytest.mark.slow
def test_a_disturbed_run_ends_with_the_same_bits(tmp_path):
    report = soak(tmp_path / "soak", seconds=0)
    assert report["happened"] == dict.fromkeys(KINDS, 1), report
    assert report["equal"], report
