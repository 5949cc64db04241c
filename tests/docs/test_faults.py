"""The table of faults names tests that exist."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_the_table_names_exists():
    named = NAMED.findall((ROOT / "docs/faults.md").read_text())
    assert len(named) > 20
    assert not [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
