"""Where two JSON values differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differing_fields(one: Any, other: Any, field: str) -> list[tuple[str, Any, Any]]:
    """Each field that differs, by its dotted path below `field`, with both values; None where one lacks it."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = sorted(one.keys() | other.keys())
        return [found for n in names for found in differing_fields(one.get(n), other.get(n), f"{field}.{n}")]
    return [] if one == other else [(field, one, other)]
