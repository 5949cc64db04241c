"""The mixture of the paper's named parts: those that are there, and what is said of those that are not."""

from __future__ import annotations

import pytest

from surgmotion_jax import config as door
from surgmotion_jax.data.mixture import shares
from surgmotion_jax.pretrain.config import PretrainConfig

NAME = "pretrain/surgical_mix"


@pytest.fixture
def folder(tmp_path):
    for name in ("cholec80", "m2cai16", "pitvis", "something_else"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_parts_that_are_there_are_sources_and_the_others_are_named(folder, capsys):
    sources = door.build(PretrainConfig, door.load_config(f"{NAME}:{folder}")).data.sources
    assert set(sources) == {"cholec80", "m2cai16", "pitvis"}
    told = capsys.readouterr().err
    assert "left out: avos, ophnet" in told
    assert "cholec80" not in told
    drawn = shares(dict.fromkeys(sources, 10), {name: source.specialty for name, source in sources.items()})
    assert drawn == pytest.approx({"cholec80": 0.25, "m2cai16": 0.25, "pitvis": 0.5})


def test_a_missing_part_is_refused_where_all_are_asked_for(folder, tmp_path):
    with pytest.raises(ValueError, match="holds no folder avos"):
        door.load_config(f"{NAME}:all={folder}")
    with pytest.raises(ValueError, match="holds no folder pitvis, avos"):
        door.load_config(f"{NAME}:{tmp_path / 'nowhere'}")
