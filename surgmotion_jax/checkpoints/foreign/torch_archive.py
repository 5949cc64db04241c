"""Reads the zip files of `torch.save` in NumPy: no PyTorch, no pickle executed, tensors memory-mapped.

Such a file is an uncompressed zip archive with one top folder: `data.pkl` holds the structure, `data/<key>` the bytes
of each storage. A tensor is a view of a storage: an offset, sizes and strides. All that the file declares is checked
against the real size of its members before an array is made, and no tensor is larger than the bytes it lies in.
The archive's check sums are not verified (PyTorch can be told not to write them).
"""

from __future__ import annotations

import dataclasses
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeGuard

import ml_dtypes
import numpy as np

from surgmotion_jax.checkpoints.errors import WeightFileRefused
from surgmotion_jax.inert_pickle import Global, Opaque, PickleRefused, read_pickle

MAGIC = b"PK\x03\x04"
MAX_DIMS = 16
MAX_PICKLE_BYTES = 8 * 2**20  # a training checkpoint of ViT-g, optimiser included, has a pickle of about 1 MiB

_UNREADABLE = (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError, OverflowError, struct.error)
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # the signature, and the lengths of the name and of the extra field
_STORAGE_DTYPES = {
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}
_BYTES = ("torch.storage.UntypedStorage", "torch.UntypedStorage")
_TENSOR_DTYPES = {
    "torch.uint16": np.dtype(np.uint16),
    "torch.uint32": np.dtype(np.uint32),
    "torch.uint64": np.dtype(np.uint64),
    "torch.float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "torch.float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
_PLAIN_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclasses.dataclass(frozen=True)
class _Storage:
    """The bytes of one storage; `dtype` is None where the tensors say what the bytes are."""

    key: str
    dtype: np.dtype | None
    bytes_N: np.ndarray


def read_archive(path: Path) -> object:
    """The saved value: nested dicts, lists and plain values, with read-only memory-mapped arrays for tensors.

    Strides are kept, so nothing is copied. Raises WeightFileRefused naming the file and what was found: an archive
    that is truncated, compressed or not of this kind; big-endian data; a pickle that names anything but dense real
    tensors; a tensor that does not lie inside its storage, or a storage that does not lie inside the file.
    """
    members = _members(path)
    mapped = np.memmap(path, np.uint8, "r")
    inside = {name: _locate(path, mapped, info) for name, info in members.items()}
    if "byteorder" in inside and inside["byteorder"][:16].tobytes() != b"little":
        raise WeightFileRefused(f"{path}: big-endian data; save it again on a little-endian machine")
    if "data.pkl" not in inside:
        found = ", ".join(sorted(inside)[:10])
        raise WeightFileRefused(f"{path}: a zip archive without data.pkl, so not of torch.save; it holds {found}")
    pickle_N = inside["data.pkl"]
    if pickle_N.size > MAX_PICKLE_BYTES:
        raise WeightFileRefused(f"{path}: data.pkl has {pickle_N.size} bytes, at most {MAX_PICKLE_BYTES} are read")
    try:
        return read_pickle(pickle_N.tobytes(), _CALLS, _NAMES, _storage_finder(inside))
    except PickleRefused as error:
        raise WeightFileRefused(
            f"{path}: refused, nothing of it was run: {error}; save a plain dict of tensors instead"
        ) from error


def _members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Name below the top folder -> entry of the archive's directory."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except _UNREADABLE as error:
        raise WeightFileRefused(
            f"{path}: the zip archive cannot be read ({error}); it is truncated or damaged, copy or download it again"
        ) from error
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename.partition("/")[2]
        if not name or ".." in name.split("/") or "\\" in entry.filename or name in members:
            raise WeightFileRefused(f"{path}: member {entry.filename[:100]!r}: its name is unsafe, or used twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
            raise WeightFileRefused(
                f"{path}: member {entry.filename[:100]} is compressed or encrypted, torch.save stores members plainly; "
                "save it again with torch.save"
            )
        members[name] = entry
    if len({entry.filename.partition("/")[0] for entry in entries}) > 1:
        raise WeightFileRefused(f"{path}: a zip archive of several top folders, so not of torch.save")
    return members


def _locate(path: Path, mapped: np.ndarray, entry: zipfile.ZipInfo) -> np.ndarray:
    """The mapped bytes of a member."""
    begin = entry.header_offset  # below 0 where bytes before it were lost
    header = mapped[max(begin, 0) : max(begin, 0) + _LOCAL_HEADER.size].tobytes()
    if begin >= 0 and len(header) == _LOCAL_HEADER.size and header[:4] == MAGIC:
        _, name, extra = _LOCAL_HEADER.unpack(header)
        start = begin + _LOCAL_HEADER.size + name + extra
        if start + entry.file_size <= mapped.size:
            return np.asarray(mapped[start : start + entry.file_size])
    raise WeightFileRefused(
        f"{path}: member {entry.filename[:100]}, {entry.file_size} bytes declared, does not lie inside the file of "
        f"{mapped.size} bytes; it is truncated or damaged, copy or download it again"
    )


def _storage_finder(inside: Mapping[str, np.ndarray]) -> Callable[[object], _Storage]:
    def find(identifier: object) -> _Storage:
        match identifier:
            case ("storage", Global(path=kind), str(key), str(), int(count)) if (
                kind in _STORAGE_DTYPES or kind in _BYTES
            ):
                dtype = _STORAGE_DTYPES.get(kind)
            case _:
                raise PickleRefused("a persistent identifier that is not a storage of PyTorch's")
        bytes_N = inside.get(f"data/{key}")
        size = count * (dtype.itemsize if dtype else 1)
        if bytes_N is None or not 0 <= size <= bytes_N.size:
            found = "is not there" if bytes_N is None else f"has {bytes_N.size} bytes"
            raise PickleRefused(f"storage {key[:40]} declares {size} bytes, its member data/{key[:40]} {found}")
        return _Storage(key, dtype, bytes_N[:size])

    return find


def _tensor(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> np.ndarray:
    """`torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, _Storage) or storage.dtype is None:
        raise PickleRefused("a tensor without a typed storage")
    return _view(storage, storage.dtype, offset, shape, strides, metadata)


def _tensor_of_dtype(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> np.ndarray:
    """`torch._utils._rebuild_tensor_v3`, for the dtypes that have no storage class of their own."""
    found = dtype.path if isinstance(dtype, Global) else dtype
    if not isinstance(storage, _Storage) or storage.dtype is not None or found not in _TENSOR_DTYPES:
        raise PickleRefused(f"a tensor of dtype {str(found)[:40]}; allowed are {', '.join(_TENSOR_DTYPES)}")
    return _view(storage, _TENSOR_DTYPES[found], offset, shape, strides, metadata)


def _view(
    storage: _Storage, dtype: np.dtype, offset: object, shape: object, strides: object, metadata: object
) -> np.ndarray:
    where = f"a tensor in storage {storage.key[:40]}"
    if metadata:
        raise PickleRefused(f"{where} with conjugate or negative bits ({str(metadata)[:60]})")
    if not (_is_size(offset) and _are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
        raise PickleRefused(f"{where} whose offset, shape or strides are not numbers from 0 up to 2^40")
    count, available = math.prod(shape), storage.bytes_N.size // dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count and (count > available or last >= available):
        raise PickleRefused(
            f"{where} with shape {shape}, strides {strides} and offset {offset}, which needs {max(count, last + 1)} "
            f"elements of {dtype.name}; the storage has {available}"
        )
    if count == 0:
        return np.broadcast_to(np.zeros((), dtype), shape)
    steps = [stride * dtype.itemsize for stride in strides]
    return np.ndarray(shape, dtype, storage.bytes_N, offset * dtype.itemsize, steps)


def _are_sizes(values: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(values, tuple) and len(values) <= MAX_DIMS and all(map(_is_size, values))


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= 2**40


def _parameter(tensor: object, *_: object) -> np.ndarray:
    if not isinstance(tensor, np.ndarray):
        raise PickleRefused("a parameter without a tensor")
    return tensor


def _ordered_dict(items: object = ()) -> dict[str, object]:
    if not isinstance(items, tuple | list) or items:
        raise PickleRefused("an OrderedDict made with items; torch.save adds them one by one")
    return {}


def _size(sizes: object = ()) -> tuple[object, ...]:
    return tuple(sizes) if isinstance(sizes, tuple | list) else ()


_CALLS: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": lambda *which: ":".join(str(part)[:20] for part in which),
    "numpy.dtype": lambda *_: Opaque("a NumPy dtype"),
    "numpy.core.multiarray.scalar": lambda *_: Opaque("a NumPy scalar"),
    "numpy._core.multiarray.scalar": lambda *_: Opaque("a NumPy scalar"),
    "_codecs.encode": lambda *_: Opaque("bytes"),  # how a NumPy scalar spells its bytes
}
_NAMES = frozenset((*_STORAGE_DTYPES, *_BYTES, *_TENSOR_DTYPES, *(f"torch.{name}" for name in _PLAIN_DTYPES)))
