"""Copies a finished store to a bucket, so that nobody takes a part of it for the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.data.records.manifest import MANIFEST, read_manifest


def publish(store: storage.PathLike, address: str, tell: Callable[[str], None] = lambda line: None) -> None:
    """Copies each file of a finished store and reads it back; the manifest last.

    What is there already with the same SHA-256 stays, so a repeated call goes on where it stopped.

    Raises:
        ValueError: no finished store, or another one at the address.
        OSError: a file does not arrive as it was sent, or what the bucket says.
    """
    folder = Path(store)
    read_manifest(folder)
    check_free(address, folder)
    names = _names(folder)
    for done, name in enumerate(names, 1):
        _copy(folder / name, storage.as_path(address) / name)
        tell(f"copied {done} of {len(names)}: {name}")


def check_free(address: str, folder: Path) -> None:
    """Raises ValueError where the address holds a finished store that is not the one of the folder."""
    theirs, ours = storage.as_path(address) / MANIFEST, folder / MANIFEST
    if theirs.exists() and not (ours.exists() and storage.sha256_of(theirs) == storage.sha256_of(ours)):
        raise ValueError(f"{address}: holds a finished store; choose another --out, or remove it")


def _names(folder: Path) -> Sequence[str]:
    """Every file of the folder, the manifest last."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [*(name for name in found if name != MANIFEST), MANIFEST]


def _copy(source: Path, target: storage.PathLike) -> None:
    digest = storage.sha256_of(source)
    if storage.as_path(target).exists() and storage.sha256_of(target) == digest:
        return
    storage.copy(source, target)
    if (found := storage.sha256_of(target)) != digest:
        raise OSError(f"{target}: arrived with SHA-256 {found[:12]}, {digest[:12]} was sent; repeat the command")
