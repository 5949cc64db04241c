"""Reads and writes safetensors files: read memory-mapped, written one tensor at a time.

The format is eight bytes with the header's length, a JSON header from name to dtype, shape and offsets, and the bytes.
The `safetensors` package copies what it reads into NumPy, lacks bfloat16 there and writes only what is in memory all at
once, so the few lines that the format takes are here.
"""

from __future__ import annotations

import collections
import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import WeightFileRefused
from surgmotion_jax.storage import Json

MAX_HEADER_BYTES = 16 * 2**20  # a few hundred bytes a tensor; more is a mistake or an attack
MAX_DIMS = 16

_LENGTH = struct.Struct("<Q")
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> read-only memory-mapped array, and the file's metadata.

    Raises WeightFileRefused naming the file, the tensor and what was found: a header that is too long, not JSON or
    names a tensor twice; an unknown dtype; sizes that do not agree with the shape; bytes that overlap, leave a hole
    or lie beyond the file.
    """
    with open(path, "rb") as file:
        total = os.fstat(file.fileno()).st_size
        prefix = file.read(_LENGTH.size)
        length = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, total - _LENGTH.size):
            raise WeightFileRefused(
                f"{path}: a header of {length} bytes in a file of {total}; allowed are 2 to {MAX_HEADER_BYTES} bytes "
                "that lie inside the file, so it is truncated or no safetensors file"
            )
        header = _parse(path, file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightFileRefused(f"{path}: __metadata__ is not a table from text to text")
    start = _LENGTH.size + length
    entries = {name: _entry(f"{path}: tensor {name[:100]!r}", entry) for name, entry in header.items()}
    _check_layout(path, entries, total - start)
    mapped = np.memmap(path, np.uint8, "r")
    return {name: _array(mapped, start, *entry) for name, entry in entries.items()}, metadata


def _parse(path: Path, header: bytes) -> dict[str, Json]:
    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        table = dict(pairs)
        if len(table) != len(pairs):
            twice = collections.Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise WeightFileRefused(f"{path}: the header names {twice[:100]!r} twice")
        return table

    try:
        table = json.loads(header.decode(), object_pairs_hook=unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WeightFileRefused(f"{path}: the header is not JSON ({error}); copy or download the file again") from error
    if not isinstance(table, dict):
        raise WeightFileRefused(f"{path}: the header is a {type(table).__name__}, not a table of tensors")
    return table


_Entry = tuple[np.dtype, tuple[int, ...], int, int]


def _entry(where: str, entry: Json) -> _Entry:
    """dtype, shape, first byte and end of a tensor, once they agree with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise WeightFileRefused(f"{where}: {str(entry)[:100]}; expected exactly dtype, shape and data_offsets")
    name, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(name, str) or name not in _DTYPES:
        raise WeightFileRefused(f"{where}: dtype {str(name)[:40]!r}, allowed are {', '.join(_DTYPES)}")
    if not _are_sizes(shape, MAX_DIMS) or not _are_sizes(offsets, 2) or len(offsets) != 2:
        raise WeightFileRefused(f"{where}: shape {str(shape)[:100]}, offsets {str(offsets)[:100]} are not sizes")
    dtype, (begin, end) = _DTYPES[name], offsets
    if math.prod(shape) * dtype.itemsize != end - begin:
        needed = math.prod(shape) * dtype.itemsize
        raise WeightFileRefused(
            f"{where}: {name} of shape {shape} takes {needed} bytes, its offsets span {end - begin}"
        )
    return dtype, tuple(shape), begin, end


def _are_sizes(values: Json, most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(type(value) is int and 0 <= value <= 2**48 for value in values)
    )


def _check_layout(path: Path, entries: Mapping[str, _Entry], available: int) -> None:
    reached = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != reached:
            what = "overlaps the one before" if begin < reached else "leaves a hole before it"
            raise WeightFileRefused(
                f"{path}: tensor {name[:100]!r} starts at {begin} and {what}, which ends at {reached}"
            )
        reached = end
    if reached != available:
        raise WeightFileRefused(
            f"{path}: the header lists {reached} bytes of tensors, the file has {available}; "
            "it is truncated or damaged, copy or download it again"
        )


def _array(mapped: np.ndarray, start: int, dtype: np.dtype, shape: tuple[int, ...], begin: int, end: int) -> np.ndarray:
    if begin == end:
        return np.broadcast_to(np.zeros((), dtype), shape)
    return np.asarray(mapped[start + begin : start + end].view(dtype).reshape(shape))


Leaf = np.ndarray | Callable[[], np.ndarray]


def write_safetensors(path: storage.PathLike, tensors: Mapping[str, Leaf], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file that appears whole or not at all; an existing file is replaced.

    A tensor given as a function is made when its turn comes and dropped once written, so that one at a time is held.
    What the functions raise passes through; then nothing is left.

    Raises ValueError for a path that is not local, a dtype the format lacks, and a tensor that would not be aligned:
    order them by falling size of element.
    """
    if not storage.is_local(path):
        raise ValueError(f"{os.fspath(path)}: safetensors files are written to local disks; write it there and copy it")
    # The header comes first and its text is known last; JSON may end in spaces, so the most it can need is left free.
    text = len(json.dumps({"__metadata__": dict(metadata)})) + sum(len(json.dumps(name)) + 480 for name in tensors)
    room = -(-text // 8) * 8
    header: dict[str, Json] = {"__metadata__": dict(metadata)} if metadata else {}
    with storage.Draft(path) as temporary, open(temporary, "wb") as file:
        file.seek(_LENGTH.size + room)
        for name, tensor in tensors.items():
            begin = file.tell() - _LENGTH.size - room
            header[name] = _append(file, name, tensor() if callable(tensor) else tensor, begin)
        file.seek(0)
        file.write(_LENGTH.pack(room) + json.dumps(header).encode().ljust(room))
        file.flush()
        os.fsync(file.fileno())


def _append(file: BinaryIO, name: str, array: np.ndarray, begin: int) -> dict[str, Json]:
    """Writes a tensor's bytes at the end of the file; returns its entry in the header."""
    if name == "__metadata__" or array.dtype not in _NAMES or array.ndim > MAX_DIMS:
        raise ValueError(
            f"tensor {name!r}: dtype {array.dtype}, {array.ndim} dimensions; safetensors files hold tensors of at most "
            f"{MAX_DIMS} dimensions of {', '.join(_DTYPES)}, none of them named __metadata__"
        )
    if begin % array.dtype.itemsize:
        raise ValueError(f"tensor {name!r}: {array.dtype} would not be aligned; order by falling size of element")
    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return {
        "dtype": _NAMES[array.dtype],
        "shape": list(array.shape),
        "data_offsets": [begin, begin + array.nbytes],
    }
