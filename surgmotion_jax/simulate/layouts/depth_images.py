"""Images with depth from simulated operations: which moments to keep, and 16-bit depth maps."""

from __future__ import annotations

import numpy as np

from surgmotion_jax.simulate.case import Frame
from surgmotion_jax.simulate.layouts.layout import SimulatedCase

FAR = 2**16 - 1


def body_moments(case: SimulatedCase, rate: float) -> list[int]:
    """The k of which the frame at k / rate seconds looks into the body: only there is depth known."""
    outside_T = case.script.out_of_body_T
    return [k for k in range(case.moments(rate)) if not outside_T[case.frame_at(k / rate)]]


def depth_units(frame: Frame, scale: float) -> np.ndarray:
    """Depth in units of `scale` millimetres, uint16 [H, W]: 0 where unknown, cut off at the largest number."""
    units_HxW = np.clip(np.round(frame.depth_HxW / scale), 1, FAR)
    return np.where(frame.fov_HxW & (frame.depth_HxW > 0), units_HxW, 0).astype(np.uint16)
