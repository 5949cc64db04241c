"""What masks and depth maps hold, counted while they are decoded: a class that is nowhere, a scale that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from surgmotion_jax.data.sample import Sample

DEPTH_MM = (1.0, 500.0)
"""Endoscopes see tissue at these distances; a median outside is probably in another unit."""


@dataclass
class PixelsSeen:
    """Counts over the samples of a split."""

    masked: dict[str, int] = field(default_factory=dict)  # pixels of each mask
    pixels: dict[str, int] = field(default_factory=dict)  # pixels that it could have had
    medians: list[float] = field(default_factory=list)  # of each depth map, millimetres
    unmeasured: list[str] = field(default_factory=list)  # where a depth map holds no measurement

    def add(self, sample: Sample) -> None:
        """Counts one sample."""
        for name, mask_HxW in sample.masks.items():
            self.masked[name] = self.masked.get(name, 0) + int(mask_HxW.sum())
            self.pixels[name] = self.pixels.get(name, 0) + mask_HxW.size
        if sample.depth_TxHxW is not None:
            measured = sample.depth_TxHxW[-1][np.isfinite(sample.depth_TxHxW[-1])]
            if measured.size:
                self.medians.append(float(np.median(measured)))
            else:
                self.unmeasured.append(f"case {sample.case}")

    @property
    def shares(self) -> dict[str, float]:
        """Share of pixels of each mask."""
        return {name: count / self.pixels[name] for name, count in self.masked.items()}

    def problems(self, split: str) -> Iterator[str]:
        """What cannot be right."""
        for name, share in self.shares.items():
            if share == 0:
                yield f"{split}: every {name} is empty; look at the files, or at how they were exported"
        if self.unmeasured:
            yield (
                f"{split}: {len(self.unmeasured)} depth maps hold no measurement, only 0 and NaN, the first of "
                f"{self.unmeasured[0]}; restore them, or leave these moments out"
            )

    def notes(self, split: str) -> Iterator[str]:
        """What is probably not right."""
        for name, share in self.shares.items():
            if share == 1:
                yield f"{split}: every {name} covers its whole picture"
        if self.medians and not DEPTH_MM[0] <= float(np.median(self.medians)) <= DEPTH_MM[1]:
            yield (
                f"{split}: the median depth is {np.median(self.medians):.3g} mm, and endoscopes see "
                f"{DEPTH_MM[0]:g} to {DEPTH_MM[1]:g} mm; check the unit of the files"
            )
