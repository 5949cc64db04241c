"""Paths that name a part of a folder, and a case of it: `PREFIX:FOLDER#PART/CASE`."""

from __future__ import annotations

import os

from surgmotion_jax import storage


def taken_apart(path: str, prefix: str) -> tuple[str, str, str]:
    """(folder, part, case), the last two empty where they are not named; no folder where `path` is none of these."""
    folder, _, rest = path.removeprefix(prefix).partition("#")
    part, _, case = rest.partition("/")
    if not path.startswith(prefix) or not folder:
        return "", "", ""
    # One name for one folder, so that a case listed twice is found out.
    folder = os.path.realpath(os.path.expanduser(folder)) if storage.is_local(folder) else folder
    return folder, part, case


def put_together(prefix: str, folder: str, part: str, case: str) -> str:
    """The path of these."""
    return f"{prefix}{folder}{f'#{part}' if part else ''}{f'/{case}' if case else ''}"
