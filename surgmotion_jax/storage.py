"""Filesystem seam: every file that a run writes or reads back passes through here.

Paths are `etils.epath` paths, so `gs://bucket/run` works wherever a local directory does, given the extra
packages that epath needs for it. Bottom of the import order: this module imports nothing of the project.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import uuid
from typing import Any, TypeAlias

from etils import epath

PathLike: TypeAlias = str | os.PathLike[str]


class NotWritable(ValueError):
    """A directory that a run must write to cannot be written; the message says why and what to change."""


def as_path(path: PathLike) -> epath.Path:
    """The path object for a local path (`~` expanded) or a URL such as `gs://bucket/dir`."""
    return epath.Path(path).expanduser()


def is_local(path: PathLike) -> bool:
    """Whether the path lies on this machine's filesystem (a mounted network disk counts as local)."""
    return "://" not in os.fspath(path)


def write_bytes_atomic(path: PathLike, data: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part; makes parent folders.

    Raises OSError when the filesystem refuses; the old file is then unchanged.
    """
    target = as_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not is_local(target):
        target.write_bytes(data)  # object stores publish an object only once it is whole
        return
    temporary = pathlib.Path(target.parent) / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut can leave the new name on an empty file
        os.replace(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomic(path: PathLike, text: str) -> None:
    """`write_bytes_atomic` of UTF-8 text."""
    write_bytes_atomic(path, text.encode())


def append_line(path: PathLike, line: str) -> None:
    """Appends one line (a newline is added); the line must hold none itself.

    Object stores cannot append: there the file is read and rewritten, so call it rarely on such paths.
    """
    if "\n" in line:
        raise ValueError(f"{os.fspath(path)}: a line to append holds a newline: {line[:60]!r}; append each alone")
    target = as_path(path)
    if not is_local(target):
        before = target.read_text() if target.exists() else ""
        target.write_text(f"{before}{line}\n")
        return
    with open(target, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_json(path: PathLike) -> Any:
    """Parses a JSON file. Raises ValueError naming file, line and column; FileNotFoundError if absent."""
    try:
        return json.loads(as_path(path).read_text())
    except json.JSONDecodeError as error:
        where = f"{os.fspath(path)}:{error.lineno}:{error.colno}"
        raise ValueError(f"{where}: not valid JSON ({error.msg}); restore the file from where it came") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def sha256_of(path: PathLike) -> str:
    """Hex digest of a file's content, read piece by piece: it may be larger than memory."""
    with as_path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ensure_writable(directory: PathLike) -> epath.Path:
    """Makes the directory, proves by a short-lived file that it can be written, and returns its path.

    Raises NotWritable naming the path, the system's reason and what to do.
    """
    path = as_path(directory)
    probe = path / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_text("probe")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotWritable(
            f"{path}: cannot be written ({reason}); choose another directory, "
            "or make this one writable, with free space"
        ) from error
    return path
