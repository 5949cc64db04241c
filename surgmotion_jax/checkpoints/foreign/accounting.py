"""What became of every tensor of a source file: nothing is dropped without a word, nothing is made up.

A conversion is sound only if each name was either taken, with the place it went to, or left out for a reason that a
person can check. The table is printed in groups and stored in full beside the weights.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from surgmotion_jax.storage import Json


@dataclass(frozen=True)
class Entry:
    """One name of the source: `places` say where its values are now; without any, `reason` says why they are not.

    A tensor can become a layer of a stacked array, or be split over several; the place is that whole array.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    places: tuple[str, ...] = ()
    reason: str = ""

    @property
    def fate(self) -> str:
        """`used` (under its own name), `renamed`, or `ignored`."""
        if not self.places:
            return "ignored"
        return "used" if self.places == (self.name,) else "renamed"

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON values, for the manifest and for the file beside the weights."""
        told = {"places": list(self.places)} if self.places else {"reason": self.reason}
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "fate": self.fate, **told}


def summary(entries: Sequence[Entry]) -> str:
    """One line: how many names, and what became of them."""
    counts = Counter(entry.fate for entry in entries)
    fates = ", ".join(f"{counts[fate]} {fate}" for fate in ("used", "renamed", "ignored"))
    return f"{len(entries)} names: {fates}"


def table(entries: Iterable[Entry]) -> list[str]:
    """Lines for people: names that differ only by numbers or by weight and bias, with one fate, share a line.

    All that is left out of a network for one reason shares a line, too. The shape is that of the largest.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        fate = _fate(entry)
        name = _pattern(entry.name) if entry.places or "/" not in entry.name else f"{entry.name.split('/')[0]}/..."
        groups.setdefault((name, fate), []).append(entry)
    rows = [_row(name, fate, members) for (name, fate), members in groups.items()]
    wide = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    return [f"{row[0]:>{wide[0]}} x {row[1]:<{wide[1]}}  {row[2]:<{wide[2]}}  {row[3]}" for row in rows]


def _fate(entry: Entry) -> str:
    if not entry.places:
        return f"ignored: {entry.reason}"
    return f"-> {', '.join(dict.fromkeys(map(_pattern, entry.places)))}"


def _row(name: str, fate: str, members: list[Entry]) -> tuple[str, str, str, str]:
    """Count, name, shape and fate of a group; a single name is spelled out."""
    largest = max(members, key=lambda entry: (len(entry.shape), entry.shape))
    shape = f"{largest.dtype}{list(largest.shape)}" if largest.dtype else ""
    return str(len(members)), members[0].name if len(members) == 1 else name, shape, fate


def _pattern(name: str) -> str:
    """A name without what its siblings differ in: layer numbers, and the last word of a layer's two tensors."""
    return re.sub(r"([./])(weight|bias|kernel|scale)$", r"\1*", re.sub(r"(?<![^./])\d+(?![^./])", "N", name))
