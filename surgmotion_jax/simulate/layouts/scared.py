"""Writes simulated laparoscopy as SCARED lies on disk: keyframes, each with a TIFF of 3-D points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from surgmotion_jax.benchmarks.scared import TEST, TRAIN, VALIDATION
from surgmotion_jax.simulate.case import Frame, Script
from surgmotion_jax.simulate.layouts.files import write_image
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits

SPECIALTY = "laparoscopic"
KEYFRAMES = 5
FPS = 1.0


def keyframes(case: SimulatedCase) -> list[int]:
    """Frames spread evenly over what is seen of the body."""
    inside = np.flatnonzero(~case.script.out_of_body_T)
    return np.unique(inside[np.linspace(0, len(inside) - 1, KEYFRAMES).round().astype(int)]).tolist()


def write_case(case: SimulatedCase, out: Path) -> None:
    wanted = {number: place for place, number in enumerate(keyframes(case), 1)}
    for frame in case.frames():
        if frame.number in wanted:
            folder = out / case.id / f"keyframe_{wanted[frame.number]}"
            write_image(folder / "Left_Image.png", frame.video_HxWx3)
            tifffile.imwrite(folder / "left_depth_map.tiff", points(case.script, frame), photometric="rgb")


def points(script: Script, frame: Frame) -> np.ndarray:
    """The point at each pixel in millimetres, float32 [H, W, 3]: x right, y down, z away; NaN out of view."""
    height, width = frame.depth_HxW.shape
    ray_y = (np.arange(height) + 0.5 - height / 2)[:, None] / (script.focal * height)
    ray_x = (np.arange(width) + 0.5 - width / 2)[None, :] / (script.focal * height)
    depth_HxW = np.where(frame.fov_HxW & (frame.depth_HxW > 0), frame.depth_HxW, np.nan)
    return np.stack([depth_HxW * ray_x, depth_HxW * ray_y, depth_HxW], axis=-1).astype(np.float32)


IDS = {"train": [name for name in TRAIN if name not in VALIDATION], "val": VALIDATION, "test": TEST}
PLAN = plans_over_splits(IDS, plain_vocabulary(1), SPECIALTY)
LAYOUT = Layout("scared", SPECIALTY, FPS, PLAN, write_case)
