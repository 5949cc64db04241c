"""Files of weights as people have them: PyTorch's zip files and safetensors, whole or in shards.

The kind is decided by the content. Nothing in a file is executed, and tensors are read when asked for: opening a file
of many gigabytes costs little memory, and reading a tensor touches its own pages only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeGuard

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import WeightFileRefused
from surgmotion_jax.checkpoints.foreign import torch_archive
from surgmotion_jax.checkpoints.foreign.safetensors_file import SafeTensor, read_safetensors

Format = Literal["torch", "safetensors"]

INDEX_FILE = "model.safetensors.index.json"
_IN_A_DIRECTORY = (INDEX_FILE, "model.safetensors", "pytorch_model.bin")

_MAX_DEPTH = 16
_MAX_VALUES = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file, by its name in its section."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray] = dataclasses.field(repr=False)  # at most a copy of this tensor is made

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What a file holds.

    `sections` are the tables of tensors by their dotted path in the file: "" for tensors at the top, "encoder" for
    those under that key, "classifiers.0" for those of a list's first entry. `extras` are all other values as short
    text, optimiser state (tables with numbers for keys) as one sentence. `files` are the files read.
    """

    path: Path
    format: Format
    sections: Mapping[str, Mapping[str, StoredTensor]]
    extras: Mapping[str, str]
    files: tuple[Path, ...]

    @functools.cached_property
    def sha256(self) -> str:
        """Of the file; of a sharded one, that of the lines that `sha256sum` prints for its files, sorted by name."""
        digests = {file.name: storage.sha256_of(file) for file in self.files}
        if len(digests) == 1:
            return next(iter(digests.values()))
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def open_weights(path: storage.PathLike) -> WeightFile:
    """Opens a PyTorch zip file, a safetensors file, an index of shards, or a directory with one of these.

    Raises WeightFileRefused naming the file and what was found if it is missing, of another kind, damaged, unsafe or
    without tensors.
    """
    if not storage.is_local(path):
        raise WeightFileRefused(f"{path}: weights are memory-mapped, which needs a local file; copy it here first")
    file = Path(path).expanduser()
    if file.is_dir():
        file = _in_directory(file)
    if not file.is_file():
        raise WeightFileRefused(f"{file}: no such file; check the path")
    with open(file, "rb") as opened:
        first = opened.read(64)
    if first.startswith(torch_archive.MAGIC):
        return _sorted_out(file, torch_archive.read_archive(file))
    if first[8:9] == b"{":
        return _safetensors(file, [file])
    if first.lstrip()[:1] == b"{":
        return _safetensors(file, _shards(file))
    raise WeightFileRefused(f"{file}: {_what_else(first)}")


def _in_directory(directory: Path) -> Path:
    for name in _IN_A_DIRECTORY:
        if (directory / name).is_file():
            return directory / name
    found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:10]) or "nothing"
    raise WeightFileRefused(f"{directory}: none of {', '.join(_IN_A_DIRECTORY)} in this directory; it holds {found}")


def _what_else(first: bytes) -> str:
    """Why a file that begins like this is not read, and what to do."""
    if first.startswith(b"\x80"):
        return (
            "a bare pickle, as PyTorch wrote before version 1.6; if you trust it, save it again with a newer PyTorch: "
            "torch.save(torch.load(OLD, map_location='cpu', weights_only=True), NEW)"
        )
    if first.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer instead of the file; fetch it with git lfs pull"
    return (
        f"neither a zip file of torch.save nor safetensors (its first bytes are {first[:16]!r}); "
        "it may be truncated, or an error page saved under this name"
    )


def _shards(index: Path) -> list[Path]:
    """The index and the shards that it lists, which must lie beside it."""
    if index.stat().st_size > 64 * 2**20:
        raise WeightFileRefused(f"{index}: an index of more than 64 MiB")
    table = storage.read_json(index)
    places = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(places, dict) or not places:
        raise WeightFileRefused(f"{index}: no weight_map, so this is no index of safetensors shards")
    names = {str(name) for name in places.values()}
    for name in sorted(names):
        if Path(name).name != name or not (index.parent / name).is_file():
            raise WeightFileRefused(f"{index}: the shard {name[:100]!r} is not a file beside it")
    return [index, *(index.parent / name for name in sorted(names))]


def _safetensors(path: Path, files: list[Path]) -> WeightFile:
    tensors: dict[str, SafeTensor] = {}
    extras: dict[str, str] = {}
    where: dict[str, str] = {}
    for file in files[1:] or files:
        found, metadata = read_safetensors(file)
        twice = sorted(found.keys() & tensors.keys())
        if twice:
            raise WeightFileRefused(f"{file}: tensor {twice[0]!r} is in {where[twice[0]]} too")
        tensors |= found
        where |= dict.fromkeys(found, file.name)
        extras |= metadata
    if len(files) > 1 and where != (places := storage.read_json(path)["weight_map"]):
        wrong = sorted(name for name in where.keys() | places.keys() if where.get(name) != places.get(name))
        raise WeightFileRefused(
            f"{path}: tensor {wrong[0]!r} is listed in {places.get(wrong[0])} and found in {where.get(wrong[0])}"
        )
    if not tensors:
        raise WeightFileRefused(f"{path}: it holds no tensor")
    section = {name: StoredTensor(name, tensor.shape, tensor.dtype, tensor.read) for name, tensor in tensors.items()}
    return WeightFile(path, "safetensors", {"": section}, extras, tuple(files))


def _sorted_out(path: Path, value: object) -> WeightFile:
    sorter = _Sorter(path)
    if isinstance(value, np.ndarray) or not sorter.visit((), value) or not sorter.sections:
        what = "a single tensor" if isinstance(value, np.ndarray) else f"no table of tensors, only {_short(value)}"
        raise WeightFileRefused(f"{path}: it holds {what}; a table from name to tensor is needed")
    return WeightFile(path, "torch", sorter.sections, sorter.extras, (path,))


class _Sorter:
    """Sets tables of tensors apart from everything else, in a value that may be hostile: nested without end, say."""

    def __init__(self, file: Path) -> None:
        self.sections: dict[str, dict[str, StoredTensor]] = {}
        self.extras: dict[str, str] = {}
        self._file = file
        self._visited = 0

    def visit(self, path: tuple[str, ...], value: object) -> bool:
        """Files away a value and what is in it; False if that holds no tensor."""
        self._visited += 1
        if len(path) > _MAX_DEPTH or self._visited > _MAX_VALUES:
            raise WeightFileRefused(
                f"{self._file}: values nested deeper than {_MAX_DEPTH}, or more than {_MAX_VALUES} of them, at "
                f"{_dotted(path)[:100]}; this is no file of weights"
            )
        if isinstance(value, np.ndarray):
            self._add(path, value)
            return True
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            self.extras[_dotted(path)] = f"{len(value)} entries whose keys are no text, as in optimiser state; not read"
            return True
        before = len(self.extras)
        parts = value.items() if isinstance(value, dict) else enumerate(value) if _is_list(value) else ()
        if any([self.visit((*path, str(key)), part) for key, part in parts]):  # a list, so that all are visited
            return True
        for name in list(self.extras)[before:]:  # without a tensor in it, the whole is one value
            del self.extras[name]
        self.extras[_dotted(path)] = _short(value)
        return False

    def _add(self, path: tuple[str, ...], array: np.ndarray) -> None:
        section = self.sections.setdefault(_dotted(path[:-1]), {})
        if path[-1] in section:
            raise WeightFileRefused(f"{self._file}: two tensors are called {_dotted(path)[:100]}")
        section[path[-1]] = StoredTensor(path[-1], array.shape, array.dtype, lambda: array)


def _is_list(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(value, list | tuple)


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _short(value: object) -> str:
    """A value as text of at most some 200 characters."""
    if isinstance(value, str):
        return value[:200]
    shortener = reprlib.Repr()
    shortener.maxlevel, shortener.maxother = 3, 60
    return shortener.repr(value)[:200]
