"""Stores: only what is whole and as its manifest says is read, and everything else is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from surgmotion_jax.data.records.manifest import MANIFEST, SHARDS, read_manifest
from surgmotion_jax.data.records.shard import Shard, write_shard
from surgmotion_jax.data.records.store import Store, problems
from tests.corpus.stores import write_store

FILES = [bytes([65 + n]) * (200 + n) for n in range(12)]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "store", {"a": FILES, "b": FILES[:3]}, (16, 20))


@pytest.fixture
def store(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "store"))


def edit(store: Path, change) -> None:
    """Lets the manifest say something else."""
    tree = json.loads((store / MANIFEST).read_text())
    change(tree)
    (store / MANIFEST).write_text(json.dumps(tree))


def first_shard(store: Path) -> Path:
    return store / SHARDS / "x-00000.arrayrecord"


def test_records_come_back(store):
    opened = Store(str(store))
    case = opened.case("x", "a")
    assert [len(opened.record(case, place).frames) for place in case.places] == [5, 5, 2]
    assert [f for place in case.places for f in opened.record(case, place).frames] == FILES
    assert (case.frames, case.seconds) == (12, 3.0)
    assert not list(problems(str(store)))


def test_the_same_store_is_the_same_bytes(original, tmp_path):
    again = write_store(tmp_path / "again", {"a": FILES, "b": FILES[:3]}, (16, 20))
    names = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert len(names) == 3
    assert all((again / name).read_bytes() == (original / name).read_bytes() for name in names)


def test_a_store_without_a_manifest_is_none(store):
    (store / MANIFEST).unlink()
    with pytest.raises(ValueError, match="holds no manifest.json"):
        Store(str(store))
    (store / "work").mkdir()
    with pytest.raises(ValueError, match="being written"):
        Store(str(store))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tree: tree.update(schema_version=9), "schema_version is 9, this version reads 1"),
        (lambda tree: tree.update(kind="other"), "no manifest of a corpus"),
        (lambda tree: tree["shards"][0].update(name="../x.arrayrecord"), "leads out of the folder"),
        (lambda tree: tree["shards"][0].update(name="/etc/passwd"), "leads out of the folder"),
        (lambda tree: tree["shards"][1].update(name="x-00000.arrayrecord"), "listed more than once"),
        (lambda tree: tree["shards"][0].update(records=2), "claims record 2"),
        (lambda tree: tree["shards"][0].update(records=4), "holds 4 records, 3 are listed"),
        (lambda tree: tree["shards"][0].update(bytes=10), "its manifest says 10 bytes"),
        (lambda tree: tree["shards"][0].pop("sha256"), "not as it was written"),
        (lambda tree: tree["cases"][0].update(case="b"), "more than once"),
        (lambda tree: tree["cases"][0].update(dataset="y"), "not among"),
        (lambda tree: tree["cases"][0].update(stretches=[[0, 99]]), "within 0 to 12"),
        (lambda tree: tree["cases"][0].update(places=[]), "must be some"),
        (lambda tree: tree["cases"][0].update(height=0), "must be above 0"),
        (lambda tree: tree["cases"][0]["places"][0].__setitem__(0, 7), "claims record 0 of shard 7"),
        (lambda tree: tree["cases"][1]["places"][0].__setitem__(0, 0), "another's"),
    ],
)
def test_a_manifest_that_lies_is_refused(store, change, told):
    edit(store, change)
    with pytest.raises(ValueError, match=told):
        Store(str(store))


def test_a_manifest_that_is_no_json_is_refused(store):
    (store / MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        Store(str(store))


def test_a_truncated_shard_is_refused_at_opening(store):
    data = first_shard(store).read_bytes()
    first_shard(store).write_bytes(data[:-100])
    with pytest.raises(ValueError, match="x-00000.arrayrecord: the shard has"):
        Store(str(store))
    edit(store, lambda tree: tree["shards"][0].update(bytes=len(data) - 100))
    opened = Store(str(store))
    with pytest.raises(ValueError, match="x-00000.arrayrecord"):
        opened.record(opened.case("x", "a"), opened.case("x", "a").places[-1])


def test_a_missing_shard_is_refused(store):
    first_shard(store).unlink()
    with pytest.raises(ValueError, match="is not there"):
        Store(str(store))


def test_a_flipped_bit_costs_its_record_and_is_named(store):
    data = bytearray(first_shard(store).read_bytes())
    place = bytes(data).find(FILES[6][:50])  # in the second record of the first case
    data[place] ^= 1
    first_shard(store).write_bytes(bytes(data))
    opened = Store(str(store))
    case = opened.case("x", "a")
    with pytest.raises(ValueError, match=r"x-00000.arrayrecord, record 1"):
        opened.record(case, case.places[1])
    for place in (case.places[0], case.places[2]):
        assert opened.record(case, place).frames
    assert len(list(problems(str(store)))) == 2  # the digest of the shard, and the record


def test_a_record_of_another_case_is_told(store):
    def change(tree):
        places = [case["places"] for case in tree["cases"]]
        places[0][0][:2], places[1][0][:2] = places[1][0][:2], places[0][0][:2]

    edit(store, change)
    opened = Store(str(store))
    with pytest.raises(ValueError, match="holds 3 frames of x/b from tick 0, its manifest says 5 frames of x/a"):
        opened.record(opened.case("x", "a"), opened.case("x", "a").places[0])


def test_a_digest_that_lies_is_found_by_looking(store):
    edit(store, lambda tree: tree["shards"][1].update(sha256="0" * 64))
    (found,) = problems(str(store))
    assert "x-00001.arrayrecord: its SHA-256" in found


def test_a_shard_is_written_whole_or_not_at_all(tmp_path):
    def broken():
        yield b"one"
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "x.arrayrecord", broken())
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_not_there_is_told(store):
    with pytest.raises(ValueError, match="no record 3; it holds 3"):
        Shard(first_shard(store)).read(3)


def test_a_remote_store_is_refused():
    with pytest.raises(ValueError, match="mount the bucket"):
        Store("gs://bucket/store")


def test_the_manifest_is_read_as_it_was_written(store):
    manifest = read_manifest(store)
    assert [case.case for case in manifest.cases] == ["a", "b"]
    assert manifest.set_of("x").licence == "CC BY 4.0"
