"""Pickles of data are read; what a pickle would run is never run."""

from __future__ import annotations

import collections
import os
import pickle
import struct

import numpy as np
import pytest

from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.safe_pickle import load_plain

DATA = {"v1": [{"frame_id": 3, "phase": 1, "name": "é", "part": (1.5, None, True), "big": 1 << 70, "raw": b"\xff"}]}


class Run:
    """On unpickling, makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def written(tmp_path, data: bytes):
    path = tmp_path / "labels.pickle"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(tmp_path, protocol):
    assert load_plain(written(tmp_path, pickle.dumps(DATA, protocol))) == DATA


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numpy_numbers_come_back_as_numbers(tmp_path, protocol):
    numbers = [np.int64(-3), np.float32(0.5), np.bool_(True), np.uint8(255), np.array([7], ">i4")[0]]
    found = load_plain(written(tmp_path, pickle.dumps(numbers, protocol)))
    assert found == [-3, 0.5, True, 255, 7]
    assert [type(value) for value in found] == [int, float, bool, int, int]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_something_is_refused_and_does_not_run(tmp_path, protocol):
    marker = tmp_path / "marker"
    data = pickle.dumps({"v1": [Run(marker)]}, protocol)
    pickle.loads(data)
    assert marker.is_dir(), "the attack of this test does not work"
    marker.rmdir()
    with pytest.raises(BenchmarkError, match=r"labels.pickle: found the pickle names \w+.mkdir, .*do not load this"):
        load_plain(written(tmp_path, data))
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"(S'true'\nios\nsystem\n.",  # INST
        b"\x80\x02\x82\x01.",  # EXT1
        b"Pwhatever\n.",  # PERSID
        b"\x80\x04\x8c\x05numpy\x94\x8c\x08savetxtX\x94\x93.",  # STACK_GLOBAL
        b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR.",
        b"cnumpy\nndarray\n.",
    ],
)
def test_every_other_way_of_running_something_is_refused(tmp_path, data):
    with pytest.raises(BenchmarkError, match="labels.pickle: found "):
        load_plain(written(tmp_path, data))


@pytest.mark.parametrize("target", ["numpy\ndtype", "numpy.core.multiarray\nscalar", "_codecs\nencode"])
def test_a_pickle_cannot_alter_the_functions_it_may_call(tmp_path, target):
    for state in (b"}S'__doc__'\nS'x'\ns", b"(N}S'_make'\nS'x'\nst"):
        with pytest.raises(BenchmarkError, match="found the pickle sets the state of"):
            load_plain(written(tmp_path, b"c" + target.encode() + b"\n" + state + b"b."))
    assert load_plain(written(tmp_path, pickle.dumps(np.int64(3)))) == 3


@pytest.mark.parametrize("value", [collections.OrderedDict(a=1), np.arange(3), {1, 2}, 3 + 4j])
def test_objects_that_are_not_plain_are_refused(tmp_path, value):
    with pytest.raises(BenchmarkError, match="found the pickle (names|sets|calls)|found the pickle instruction"):
        load_plain(written(tmp_path, pickle.dumps(value, 2)))


def test_claims_of_size_are_not_believed(tmp_path):
    # Python's own reader allocates its memo as far as the largest index.
    assert load_plain(written(tmp_path, b"\x80\x02" + b"K\x01r" + struct.pack("<I", 2**31 - 1) + b".")) == 1
    with pytest.raises(BenchmarkError, match="a malformed pickle"):
        load_plain(written(tmp_path, b"\x80\x04\x8e" + struct.pack("<Q", 2**60)))


def test_broken_missing_and_large_files(tmp_path):
    whole = pickle.dumps(DATA)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        with pytest.raises(BenchmarkError, match="found a malformed pickle"):
            load_plain(written(tmp_path, whole[:cut]))
    with pytest.raises(BenchmarkError, match="no such file"):
        load_plain(tmp_path / "none.pickle")
    with pytest.raises(BenchmarkError, match=f"{len(whole)} bytes; the layout asks for at most 10"):
        load_plain(written(tmp_path, whole), max_bytes=10)
