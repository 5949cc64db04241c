"""What most evaluations here learn from; a file that needs another set has a fixture of that name."""

from __future__ import annotations

import pytest

from surgmotion_jax.evaluate.source import Source
from tests.evaluate.encoders import small_encoder
from tests.evaluate.evaluations import cholec80


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return cholec80(tmp_path_factory.mktemp("set") / "set")


@pytest.fixture(scope="module")
def source():
    return Source(small_encoder())
