"""A config stored by an earlier version is compared as what it meant."""

from __future__ import annotations

import json

from surgmotion_jax.config import difference
from surgmotion_jax.pretrain.config import as_dict
from surgmotion_jax.pretrain.setup.stored_config import with_later_fields
from tests.pretrain.fixtures import small_config


def without(stored, *names):
    for name in names:
        *sections, last = name.split(".")
        place = stored
        for section in sections:
            place = place[section]
        del place[last]
    return stored


def stored_now():
    return json.loads(json.dumps(as_dict(small_config())))


def test_fields_that_came_later_do_not_differ():
    earlier = without(stored_now(), "optim.moments_dtype", "optim.offload", "model.predictor.mlp", "model.v21")
    now = as_dict(small_config())
    assert len(difference(earlier, now)) > 3, "as they lie on disk they differ"
    assert difference(with_later_fields(earlier), now) == []


def test_a_later_field_that_is_set_does_differ():
    earlier = without(stored_now(), "optim.moments_dtype")
    now = as_dict(small_config(**{"optim.moments_dtype": "bfloat16"}))
    assert difference(with_later_fields(earlier), now) == ["optim.moments_dtype: 'float32' -> 'bfloat16'"]


def test_named_entries_are_left_alone():
    stored = json.loads(json.dumps(as_dict(small_config(**{"mask.kind": "multiblock"}))))
    stored["mask"]["sets"] = {"mine": stored["mask"]["sets"]["short"]}
    completed = with_later_fields(stored)
    assert list(completed["mask"]["sets"]) == ["mine"]
    assert list(completed["data"]["sources"]) == ["none"]


def test_what_is_stored_is_not_changed():
    stored = without(stored_now(), "optim.offload")
    with_later_fields(stored)
    assert "offload" not in stored["optim"]
