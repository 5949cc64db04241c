"""Safetensors: written and read a tensor at a time; damaged and hostile headers are refused by file."""

import json
import struct
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from surgmotion_jax.checkpoints.errors import WeightFileRefused
from surgmotion_jax.checkpoints.foreign.safetensors_file import read_safetensors, write_safetensors

DTYPES = [np.float64, np.int64, np.float32, np.uint16, np.float16, ml_dtypes.bfloat16, np.int8, np.bool_]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.safetensors"


def tensors():
    generator = np.random.default_rng(0)
    table = {np.dtype(kind).name: generator.integers(0, 2, (2, 3)).astype(kind) for kind in DTYPES}
    return table | {"turned": np.arange(6, dtype=np.int8).reshape(2, 3).T, "none": np.zeros((0, 2), np.int8)}


def test_round_trip(file):
    saved = tensors() | {"scalar": np.int8(3) * np.ones((), np.int8)}
    write_safetensors(file, {name: lambda array=array: array for name, array in saved.items()}, {"format": "pt"})
    read, metadata = read_safetensors(file)
    assert metadata == {"format": "pt"}
    assert list(read) == list(saved)
    for name, array in saved.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(read[name].read(), array)
        assert read[name].read().dtype == array.dtype


def test_many_long_names_find_room_in_the_header(file):
    saved = {f"{i}\u00e9\n" + "x" * 300: np.full((1,) * 16, i) for i in range(50)}
    write_safetensors(file, saved, {})
    read, _ = read_safetensors(file)
    assert {name: tensor.read().item() for name, tensor in read.items()} == {
        name: array.item() for name, array in saved.items()
    }


def test_one_tensor_is_held_at_a_time(file):
    size = 4 * 2**20

    def make():
        return np.ones(size // 4, np.float32)

    tracemalloc.start()
    write_safetensors(file, {str(i): make for i in range(10)}, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.stat().st_size > 10 * size
    assert size <= peak < 2.5 * size


def test_a_tensor_is_read_when_it_is_asked_for(file):
    size = 4 * 2**20
    write_safetensors(file, {str(i): np.ones(size // 4, np.float32) for i in range(10)}, {})
    tracemalloc.start()
    read, _ = read_safetensors(file)
    assert sum(tensor.read().sum() for tensor in read.values()) == 10 * size // 4
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * size


def test_a_failure_leaves_the_old_file_and_no_other(file):
    write_safetensors(file, {"a": np.ones(2)}, {})
    before = file.read_bytes()

    def fail():
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_safetensors(file, {"a": np.ones(3), "b": fail}, {})
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"a": np.ones(2, np.complex64)}, "tensor 'a': dtype complex64.*safetensors files hold"),
        ({"__metadata__": np.ones(2)}, "none of them named __metadata__"),
        ({"a": np.ones(3, np.int8), "b": np.ones(2)}, "'b': float64 would not be aligned; order by falling size"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(saved, message, file):
    with pytest.raises(ValueError, match=message):
        write_safetensors(file, saved, {})
    assert not list(file.parent.iterdir())


def test_a_path_that_is_not_local_is_refused():
    with pytest.raises(ValueError, match="gs://bucket/x: safetensors files are written to local disks"):
        write_safetensors("gs://bucket/x", {"a": np.ones(2)}, {})


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            {"w": entry(shape=(2_500_000_000,))},
            "invalid shape, data type, or offset for tensor",
        ),
        (
            {"w": entry(shape=(2_500_000_000,), offsets=(0, 10**10))},
            "file not fully covered",
        ),
        ({"w": entry(offsets=(8, 16))}, "invalid offset for tensor `w`"),
        ({"w": entry(), "v": entry()}, "invalid offset for tensor"),
        ({"w": entry(shape=(1,), offsets=(0, 4))}, "file not fully covered"),
        ({"w": entry(dtype="F64")}, "invalid shape, data type, or offset for tensor"),
        ({"w": entry(dtype="C64", shape=(1,))}, "'w': dtype 'C64', allowed are F64, F32"),
        ({"w": entry(shape=(-2,))}, "invalid JSON in header"),
        ({"w": entry(shape=(2.0,))}, "invalid JSON in header"),
        ({"w": entry(shape=(True, 2))}, "invalid JSON in header"),
        ({"w": entry(offsets=(8,))}, "invalid JSON in header"),
        ({"w": entry(shape=(0, 2**50), offsets=(0, 0))}, "file not fully covered"),
        ({"w": {"dtype": "F32"}}, "missing field `shape`"),
        ({"w": 3}, "invalid type: integer `3`"),
        ({"w": entry(), "__metadata__": {"a": 1}}, "expected a string"),
        ([1], "invalid JSON in header"),
        (b'{"w": {"dtype": "F32", "dtype": "F64"}}', "duplicate field `dtype`"),
        (b'{"w": ', "invalid JSON in header"),
        (b"\xff\xfe", "invalid UTF-8 in header"),
        (b"[" * 100_000, "invalid JSON in header"),
    ],
)
def test_a_header_is_checked_against_the_file(header, message, file):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(WeightFileRefused, match=f"model.safetensors: .*{message}"):
        read_safetensors(file)


@pytest.mark.parametrize("length", [0, 1, 100, 2**40, 2**64 - 1])
def test_an_absurd_header_length_is_refused_before_it_is_read(length, file):
    file.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(
        WeightFileRefused, match=r"model.safetensors: .*header.*; the file is truncated, damaged or no safetensors file"
    ):
        read_safetensors(file)


def test_every_truncation_is_refused(file):
    write_safetensors(file, {"w": np.ones((3, 4))}, {})
    whole = file.read_bytes()
    for length in range(0, len(whole), 9):
        file.write_bytes(whole[:length])
        with pytest.raises(WeightFileRefused, match="truncated"):
            read_safetensors(file)


@pytest.mark.oracle
def test_the_safetensors_package_reads_ours_and_we_read_its(file):
    import torch
    from safetensors.torch import load_file, save_file

    write_safetensors(file, tensors(), {"format": "pt"})
    theirs = load_file(file)
    for name, array in tensors().items():
        assert str(theirs[name].dtype).removeprefix("torch.") == array.dtype.name
        np.testing.assert_array_equal(theirs[name].double().numpy(), array.astype(np.float64))
    saved = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)}
    save_file(saved, file, {"format": "pt"})
    ours, metadata = read_safetensors(file)
    assert metadata == {"format": "pt"}
    for name, value in saved.items():
        np.testing.assert_array_equal(ours[name].read().astype(np.float32), value.float().numpy())
