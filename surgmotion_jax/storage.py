"""Filesystem seam: every file that a run writes or reads back passes through here.

Paths are `etils.epath` paths, so `gs://bucket/run` works wherever a local directory does, given the extra
packages that epath needs for it. Bottom of the import order: this module imports nothing of the project.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import pathlib
import shutil
import uuid
import zipfile
from functools import lru_cache
from typing import IO, Any, TypeAlias

import fsspec
from etils import epath

PathLike: TypeAlias = str | os.PathLike[str]
Json: TypeAlias = Any  # what `json` reads and writes: None, bool, int, float, str, and lists and dicts of these


_MOST_INFLATED, _ALWAYS_FINE = 200, 10_000_000
"""A member of an archive may hold this many times its compressed bytes, and anyhow this many bytes."""
_PIECE = 2**24  # bytes copied at a time


class NotWritable(ValueError):
    """A directory that a run must write to cannot be written; the message says why and what to change."""


def as_path(path: PathLike) -> epath.Path:
    """The path object for a local path (`~` expanded) or a URL such as `gs://bucket/dir`.

    Raises ValueError for a URL of a kind that this installation cannot reach, saying what to install.
    """
    scheme, is_url, _ = os.fspath(path).partition("://")
    if is_url:
        _check_reachable(scheme)
    return epath.Path(path).expanduser()


@lru_cache
def _check_reachable(scheme: str) -> None:
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{scheme}:// cannot be reached from here: {error}; or use a local path or mount") from error


def is_local(path: PathLike) -> bool:
    """Whether the path lies on this machine's filesystem (a mounted network disk counts as local)."""
    return "://" not in os.fspath(path)


class Draft:
    """A local file or folder that is made beside its place and takes it once it is whole.

      with storage.Draft("weights.bin") as temporary:
          temporary.write_bytes(data)

    If the block ends well, what lies at `temporary` replaces the file at the place; otherwise it vanishes, and the
    place stays as it was. A folder takes a place that is free or an empty folder. Writers that are left otherwise than
    by a block call `publish` and `discard` themselves. `suffix` ends the temporary name, for libraries that go by it.
    """

    def __init__(self, path: PathLike, suffix: str = "") -> None:
        self.target = pathlib.Path(as_path(path)).absolute()
        self.temporary = self.target.with_name(f".{self.target.name}.{uuid.uuid4().hex[:8]}.tmp{suffix}")

    def __enter__(self) -> pathlib.Path:
        """Makes the folders above the place. Raises OSError where the filesystem refuses."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.publish()
        finally:
            self.discard()

    def publish(self) -> None:
        """Gives what was made its name. Raises OSError where that is taken by a folder, or nothing was made."""
        os.replace(self.temporary, self.target)

    def discard(self) -> None:
        """Deletes what was made, unless it was published."""
        if self.temporary.is_dir():
            shutil.rmtree(self.temporary, ignore_errors=True)
        else:
            self.temporary.unlink(missing_ok=True)


def write_bytes_atomic(path: PathLike, data: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part; makes parent folders.

    Raises OSError when the filesystem refuses; the old file is then unchanged.
    """
    if not is_local(path):
        target = as_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)  # object stores publish an object only once it is whole
        return
    with Draft(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # else a power cut can leave the new name on an empty file


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


def read_utf8(path: PathLike) -> str:
    """The text of a file, with or without a byte order mark. Raises ValueError for another encoding than UTF-8."""
    data = as_path(path).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, found, encoding = not_utf8(error)
        raise ValueError(
            f"{os.fspath(path)}, line {line}: found {found}, allowed is UTF-8; save it as such (in a spreadsheet: CSV "
            f"UTF-8), or convert it: iconv -f {encoding} -t UTF-8"
        ) from None


def not_utf8(error: UnicodeDecodeError) -> tuple[int, str, str]:
    """The line of a file that is no UTF-8, what was found there, and what the encoding may be."""
    data = error.object
    line = data[: error.start].count(b"\n") + 1
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return line, "UTF-16 text", "UTF-16"
    return line, f"byte {data[error.start]:#04x}, which is not UTF-8", "LATIN1"


def read_json(path: PathLike) -> Json:
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


def copy(source: PathLike, target: PathLike) -> None:
    """Copies a file piece by piece, to or from a bucket too, and makes the folders above it."""
    place = as_path(target)
    place.parent.mkdir(parents=True, exist_ok=True)
    with as_path(source).open("rb") as read, place.open("wb") as written:
        shutil.copyfileobj(read, written, _PIECE)


def check_inflation(archive: PathLike | IO[bytes]) -> None:
    """Raises ValueError where a member of a zip archive would grow beyond what arrays can: a decompression bomb.

    Its directory tells, before anything is read; what is no zip archive raises zipfile.BadZipFile.
    """
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if member.file_size > _ALWAYS_FINE + _MOST_INFLATED * member.compress_size:
                raise ValueError(
                    f"member {member.filename[:100]!r} would grow from {member.compress_size} to {member.file_size} "
                    f"bytes, more than {_MOST_INFLATED}-fold: a decompression bomb"
                )


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
