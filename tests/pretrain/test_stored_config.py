"""The config of a workdir carries the number of its schema, and another one is refused by name."""

from __future__ import annotations

import json

import pytest

from surgmotion_jax.differences import difference
from surgmotion_jax.pretrain.config import as_dict
from surgmotion_jax.pretrain.setup.stored_config import read_stored, stored
from tests.pretrain.fixtures import small_config


def test_what_is_stored_is_read_back_without_its_number(tmp_path):
    config = small_config(**{"optim.kind": "muon"})
    file = tmp_path / "config.json"
    file.write_text(json.dumps(stored(config)))
    assert json.loads(file.read_text())["schema_version"] == 1
    assert difference(read_stored(file), as_dict(config)) == []


@pytest.mark.parametrize(
    ("content", "found"), [({"steps": 3, "schema_version": 7}, 7), ({"steps": 3}, None), ([], None)], ids=str
)
def test_another_schema_is_refused_with_the_file_and_what_to_do(content, found, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(content))
    words = rf"config.json: schema_version {found}, this version reads 1; use the version of the package that wrote it"
    with pytest.raises(ValueError, match=words):
        read_stored(file)
