"""What an ingestion is told: how frames are stored, and what is no surgery."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field

from surgmotion_jax.checks import at_least, between

FORMAT = 1
"""Raised by one whenever the same recording and settings give another store: what was begun before is begun again."""


@dataclass(frozen=True)
class Thresholds:
    """When a picture is no use. Levels are those of 8-bit pictures, 0 to 255, inside the field of view."""

    black: float = 18.0  # mean level below which a picture is black
    frozen: float = 0.35  # mean difference in level to the picture before, below which nothing moved
    frozen_s: float = 2.0  # seconds for which nothing must move
    blurred: float = 0.4  # part of the recording's median sharpness below which a picture is out of focus
    blurred_s: float = 2.0
    colours: int = 8  # a title card or test picture has so few colours, see observe.colours
    tissue: float = (
        0.65  # part of a picture that has the colours of tissue or blood, below which it is outside the body
    )
    outside_s: float = 1.0  # seconds for which it must be
    cut: float = 0.4  # part of a picture whose colours change at a hard cut

    def __post_init__(self) -> None:
        for name in ("frozen_s", "blurred_s", "outside_s"):
            at_least(f"thresholds.{name}", getattr(self, name), 0)
        for name in ("tissue", "cut"):
            between(f"thresholds.{name}", getattr(self, name), 0, 1)


@dataclass(frozen=True)
class IngestConfig:
    """How recordings become a store. Every field changes its bytes."""

    fps: float = 4.0  # frames kept a second; 0 keeps every frame
    size: int = 384  # short side in pixels; smaller pictures stay as they are
    quality: int = 90  # of JPEG
    frames: int = 32  # of a record
    shard_mb: float = 512.0  # a shard is closed once it holds so much
    least_s: float = 4.0  # stretches shorter than this are left out
    keep_outside: bool = False  # keep what shows the outside of the body, where faces and screens are
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        at_least("fps", self.fps, 0)
        at_least("size", self.size, 16)
        between("quality", self.quality, 1, 100)
        between("frames", self.frames, 1, 1024)
        at_least("shard_mb", self.shard_mb, 0.001)
        at_least("least_s", self.least_s, 0)

    @property
    def digest(self) -> str:
        """What units made under other settings differ in: a part of their names."""
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name not in ("shard_mb", "least_s")}
        text = json.dumps({"format": FORMAT, **kept}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
