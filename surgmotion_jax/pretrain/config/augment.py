"""How a clip is cropped and flipped."""

from __future__ import annotations

from dataclasses import dataclass

from surgmotion_jax.checks import at_least, between


@dataclass(frozen=True)
class AugmentConfig:
    """Random resized crop and flip, the same for all frames of a clip, on device."""

    crop: int = 224  # side of the square the encoder sees, in pixels
    scale: tuple[float, float] = (0.3, 1.0)  # area of the crop as a share of the canvas
    aspect: tuple[float, float] = (0.75, 1.35)  # width / height of the crop, log-uniform
    flip: float = 0.5  # probability of a horizontal flip

    def __post_init__(self) -> None:
        at_least("augment.crop", self.crop, 1)
        between("augment.flip", self.flip, 0.0, 1.0)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"augment.scale is {self.scale}; it must satisfy 0 < low <= high <= 1.")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"augment.aspect is {self.aspect}; it must satisfy 0 < low <= high.")
