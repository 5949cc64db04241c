"""Reads and writes safetensors files, one tensor at a time.

The format is eight bytes with the header's length, a JSON header from name to dtype, shape and offsets, and the bytes.
The `safetensors` package reads it; it writes only what is in memory all at once, so the few lines that writing takes
are here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
import safetensors

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import WeightFileRefused
from surgmotion_jax.storage import Json

MAX_DIMS = 16

_LENGTH = struct.Struct("<Q")
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
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


@dataclasses.dataclass(frozen=True, eq=False)
class SafeTensor:
    """A tensor in an open safetensors file; its bytes are read when asked for."""

    file: safetensors.safe_open = dataclasses.field(repr=False)
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self) -> np.ndarray:
        """The tensor, copied into memory."""
        return np.asarray(self.file.get_tensor(self.name))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        del copy  # reading makes a new array
        return self.read().astype(dtype or self.dtype, copy=False)


def read_safetensors(path: Path) -> tuple[dict[str, SafeTensor], dict[str, str]]:
    """Name -> tensor that is not read yet, in the order in which they lie in the file, and the file's metadata.

    Raises WeightFileRefused naming the file and what was found: a header that is too long, not JSON or does not
    describe the bytes of the file exactly; a dtype that is not read.
    """
    try:
        file = safetensors.safe_open(path, framework="numpy")
        slices = {name: file.get_slice(name) for name in file.offset_keys()}
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise WeightFileRefused(
            f"{path}: {str(error)[:300]}; the file is truncated, damaged or no safetensors file; copy or "
            "download it again"
        ) from error
    tensors = {}
    for name, found in slices.items():
        kind = found.get_dtype()
        if kind not in _DTYPES:
            raise WeightFileRefused(f"{path}: tensor {name[:100]!r}: dtype {kind!r}, allowed are {', '.join(_DTYPES)}")
        tensors[name] = SafeTensor(file, name, tuple(found.get_shape()), _DTYPES[kind])
    return tensors, file.metadata() or {}


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
