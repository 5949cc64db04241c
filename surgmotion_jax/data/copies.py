"""The same video under two names: a link, or a copy, told by its content."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence


def originals(paths: Sequence[str]) -> dict[str, str]:
    """For each file whose content is listed before under another name, that name.

    Only files of equal size are read. Folders, `tfds:` and `records:` locations are told by their name alone, and
    a file that cannot be read is left to those who open it.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        if os.path.isfile(path):
            by_size[os.path.getsize(path)].append(path)
    found: dict[str, str] = {}
    for alike in by_size.values():
        first_of: dict[str, str] = {}
        for path in alike if len(alike) > 1 else ():
            first = first_of.setdefault(_content(path), path)
            if first != path:
                found[path] = first
    return found


def _content(path: str) -> str:
    """A digest of all bytes; the name where they cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return path
