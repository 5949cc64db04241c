"""One finding of the doctor, and what it looks at."""

from __future__ import annotations

from typing import NamedTuple

from surgmotion_jax.pretrain.config import PretrainConfig


class Line(NamedTuple):
    """A finding: its label and its text, and whether a run that needs it would fail."""

    label: str
    text: str
    problem: bool = False


class Subject(NamedTuple):
    """What is looked at beside the machine."""

    config: PretrainConfig | None = None
    fault: str = ""  # why there is no config, though one was named
    data: str | None = None  # a video, folder, glob or CSV


NO_DATA = "(no data given)"
"""Stands in a config for the path of videos: checking it against the devices needs none."""
