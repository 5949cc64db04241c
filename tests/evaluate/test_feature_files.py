"""Files of features: both formats hold the same, byte for byte each time, and damage is named."""

from __future__ import annotations

import json
import time
import zipfile

import numpy as np
import pytest

from surgmotion_jax.evaluate.features.files import (
    SUFFIXES,
    VideoFeatures,
    encode_metadata,
    feature_writer,
    read_features,
    to_npz,
)

METADATA = {"settings": {"fps": 4.0, "pool": "mean"}, "source": {"name": "Eingriff ä.mp4"}}


def some(windows: int = 5) -> VideoFeatures:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(windows, 2, 3)).astype(np.float32)
    valid = np.ones((windows, 2), bool)
    valid[-1, 1] = False
    times = rng.random((windows, 2))
    return VideoFeatures(features, {11: features + 1, 5: features * 2}, times[:, 0], times[:, 1], times, valid, {})


def write(path, form):
    arrays = some().to_arrays()
    with feature_writer(path, form, METADATA) as writer:
        for rows in (slice(0, 2), slice(2, 5)):
            writer.add({name: array[rows] for name, array in arrays.items()})
    return path


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_file_holds_what_was_written_and_nothing_else_is_left(tmp_path, form):
    path = write(tmp_path / "deep" / f"case{SUFFIXES[form]}", form)
    found, wanted = read_features(path), some()
    for name in ("features", "start_s", "end_s", "time_s", "valid"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        assert getattr(found, name).dtype == getattr(wanted, name).dtype
    assert list(found.layers) == [5, 11]
    np.testing.assert_array_equal(found.layers[11], wanted.layers[11])
    assert found.metadata == {"schema_version": 2, **METADATA}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("form", SUFFIXES)
def test_the_same_features_are_the_same_bytes_at_any_time(tmp_path, form, monkeypatch):
    one = write(tmp_path / f"one{SUFFIXES[form]}", form).read_bytes()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    assert write(tmp_path / f"two{SUFFIXES[form]}", form).read_bytes() == one


def test_an_npz_opens_with_numpy_alone(tmp_path):
    with np.load(write(tmp_path / "x.npz", "npz")) as archive:
        assert set(archive) == {"features", "layer_05", "layer_11", "start_s", "end_s", "time_s", "valid", "metadata"}
        assert json.loads(str(archive["metadata"]))["settings"]["fps"] == 4.0
    assert {m.date_time for m in zipfile.ZipFile(tmp_path / "x.npz").infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("form", SUFFIXES)
def test_an_exception_leaves_no_file(tmp_path, form):
    def interrupted():
        with feature_writer(tmp_path / f"x{SUFFIXES[form]}", form, METADATA) as writer:
            writer.add(some().to_arrays())
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", SUFFIXES)
def test_damage_is_named(tmp_path, form):
    path = write(tmp_path / f"x{SUFFIXES[form]}", form)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="x.* sound .*extract the features again"):
        read_features(path)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"a": np.zeros(3)}, "no metadata; this is not a file of features"),
        ({"metadata": np.array('{"schema_version": 9}')}, "schema_version 9, this version reads 2"),
        ({"metadata": np.array(encode_metadata({}))}, "no array features, start_s, end_s, time_s, valid"),
    ],
)
def test_another_npz_is_refused(tmp_path, arrays, match):
    (tmp_path / "x.npz").write_bytes(to_npz(arrays))
    with pytest.raises(ValueError, match=match):
        read_features(tmp_path / "x.npz")


def test_an_npz_that_would_swell_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", features=np.zeros(40_000_000, np.int8))
    with pytest.raises(ValueError, match=r"x\.npz: not a sound npz \(member 'features\.npy' would grow .* bomb"):
        read_features(tmp_path / "x.npz")


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="format is 'h5'"):
        feature_writer(tmp_path / "x", "h5", {})
    with pytest.raises(ValueError, match="written locally; use npz"):
        feature_writer("gs://bucket/x.array_record", "array_record", {})
