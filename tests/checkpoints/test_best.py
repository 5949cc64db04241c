"""The best checkpoint stays, is found by name, and goes with the steps that a rollback discards."""

from __future__ import annotations

import math

import pytest
from states import FIELDS, abstract, host_state, on_mesh

from surgmotion_jax.checkpoints.best import BEST_FILE, Best, read_best, write_best
from surgmotion_jax.checkpoints.errors import CheckpointMissing
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.checkpoints.weights import find_weights


def save(store, *steps, best=()):
    for step in steps:
        value = dict(best).get(step)
        chosen = None if value is None else Best(step, "probe/knn", value)
        assert store.save(step, on_mesh(host_state(step, size=8), 1), FIELDS, best=chosen)
    store.wait()


def test_the_best_step_is_kept_besides_the_newest(tmp_path):
    with CheckpointStore(tmp_path, keep=2) as store:
        save(store, 1, 2, 3, 4, best={2: 0.5})
        assert store.steps() == [2, 3, 4]
        assert store.best() == Best(2, "probe/knn", 0.5)
        save(store, 5, 6, 7, best={5: 0.6})
        assert store.steps() == [5, 6, 7]
        assert store.best() == Best(5, "probe/knn", 0.6)


def test_a_later_store_goes_on_keeping_it(tmp_path):
    with CheckpointStore(tmp_path, keep=1) as store:
        save(store, 1, 2, best={1: 0.5})
    with CheckpointStore(tmp_path, keep=1) as store:
        save(store, 3)
        assert store.steps() == [1, 3]


def test_a_save_that_fails_is_not_the_best(tmp_path, monkeypatch):
    warnings = []
    store = CheckpointStore(tmp_path, warn=warnings.append)
    save(store, 1, best={1: 0.5})

    def full(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "_clear_the_way", full)
    state = on_mesh(host_state(2, size=8), 1)
    assert not store.save(2, state, FIELDS, wait=True, best=Best(2, "probe/knn", 0.9))
    assert store.best() == Best(1, "probe/knn", 0.5)
    assert "No space left" in warnings[0]


def test_discarding_takes_later_steps_and_a_later_best(tmp_path):
    store = CheckpointStore(tmp_path, keep=9)
    save(store, 1, 2, 3, best={1: 0.4})
    store.discard_after(2)
    assert (store.steps(), store.best()) == ([1, 2], Best(1, "probe/knn", 0.4))
    save(store, 3, best={3: 0.5})
    store.discard_after(2)
    assert (store.steps(), store.best()) == ([1, 2], None)
    assert store.restore(abstract(on_mesh(host_state(2, size=8), 1))).step == 2


def test_discarding_spares_what_is_not_proved_ours(tmp_path):
    store = CheckpointStore(tmp_path)
    save(store, 1)
    (tmp_path / "7").mkdir()
    store.discard_after(1)
    assert (tmp_path / "7").exists()


def test_best_names_the_checkpoint_from_the_workdir_and_from_its_checkpoints(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=1)
    save(store, 1, 2, 3, best={1: 0.5})
    for path in (tmp_path / "best", tmp_path / "checkpoints" / "best"):
        assert find_weights(path) == tmp_path / "checkpoints" / "1"
    assert find_weights(tmp_path) == tmp_path / "checkpoints" / "3"


def test_best_of_a_run_without_one_says_how_to_have_one(tmp_path):
    save(CheckpointStore(tmp_path / "checkpoints"), 1)
    with pytest.raises(CheckpointMissing, match=r"marked as the best; train with .*keep_best=probe/knn"):
        find_weights(tmp_path / "best")


def test_a_file_that_names_no_best_is_refused(tmp_path):
    assert read_best(tmp_path) is None
    (tmp_path / BEST_FILE).write_text('{"step": "one"}')
    with pytest.raises(ValueError, match=r"best.json: found .*Delete it"):
        read_best(tmp_path)
    with pytest.raises(ValueError, match="probe/knn at step 3 is nan"):
        write_best(tmp_path, Best(3, "probe/knn", math.nan))
