"""Exclusion lists: fingerprints of the videos that a benchmark is scored on, to be shared without the videos.

A list is a JSON file. A second is 32 hexadecimal digits; one that shows nothing is 32 dashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.corpus.fingerprint import BITS, Fingerprint
from surgmotion_jax.storage import Json

KIND, VERSION = "surgmotion fingerprints", 1
_DIGITS = BITS // 4


@dataclass(frozen=True, eq=False)
class ListedVideo:
    """A video of a list."""

    split: str  # train, val or test; empty for what belongs to no benchmark
    seconds: Fingerprint

    @property
    def title(self) -> str:
        """As a person reads it: `cholec80 test video47`."""
        return " ".join(part for part in (self.seconds.dataset, self.split, self.seconds.case) if part)


def write_list(path: storage.PathLike, videos: Iterable[ListedVideo]) -> None:
    """Writes a list."""
    rows = [
        {
            "dataset": video.seconds.dataset,
            "split": video.split,
            "case": video.seconds.case,
            "first_s": video.seconds.first_s,
            "seconds": to_text(video.seconds),
        }
        for video in videos
    ]
    tree = {"kind": KIND, "version": VERSION, "bits": BITS, "videos": rows}
    storage.write_text_atomic(path, json.dumps(tree, indent=1, sort_keys=True) + "\n")


def read_list(path: storage.PathLike) -> list[ListedVideo]:
    """The videos of a list. Raises ValueError naming the file: no list, another version, or a row that is none."""
    tree = storage.read_json(path)
    if not isinstance(tree, dict) or tree.get("kind") != KIND:
        raise ValueError(f"{path}: found no list of fingerprints; surgmotion data fingerprint writes one")
    if (tree.get("version"), tree.get("bits")) != (VERSION, BITS):
        found = f"version {tree.get('version')!r} of {tree.get('bits')!r} bits"
        raise ValueError(f"{path}: found {found}, this version reads {VERSION} of {BITS} bits; make the list again")
    try:
        return [_video(row) for row in tree["videos"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: a row is no video ({error}); make the list again") from error


def read_lists(paths: Sequence[str]) -> list[ListedVideo]:
    """The videos of several lists, in their order."""
    return [video for path in paths for video in read_list(path)]


def to_text(seconds: Fingerprint) -> list[str]:
    """Each second as text."""
    rows = zip(seconds.hash_TxW.astype(">u8"), seconds.strong_T, strict=True)
    return [words.tobytes().hex() if strong else "-" * _DIGITS for words, strong in rows]


def _video(row: dict[str, Json]) -> ListedVideo:
    strong_T = np.array([not text.startswith("-") for text in row["seconds"]], bool)
    raw = [bytes(BITS // 8) if text.startswith("-") else bytes.fromhex(text) for text in row["seconds"]]
    if not raw or any(len(word) != BITS // 8 for word in raw):
        raise ValueError(f"{row['case']!r} has {len(raw)} seconds, each of {_DIGITS} digits is allowed")
    hash_TxW = np.frombuffer(b"".join(raw), ">u8").astype(np.uint64).reshape(len(raw), -1)
    return ListedVideo(row["split"], Fingerprint(row["dataset"], row["case"], hash_TxW, strong_T, row["first_s"]))
