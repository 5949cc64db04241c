"""Simulated data sets for the reader tests: true scripts, and pictures that are quick noise instead of drawings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from surgmotion_jax.simulate.case import Frame, SceneConfig, Script
from surgmotion_jax.simulate.layouts.layout import SimulatedCase, get_layout, write
from surgmotion_jax.simulate.script import case_seed, write_script

HEIGHT, WIDTH = 32, 48


def picture(seed: int, number: int) -> np.ndarray:
    """Blocks that differ from frame to frame and survive video compression."""
    blocks = np.random.default_rng([seed % 2**32, number]).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    return np.repeat(np.repeat(blocks, 8, 0), 8, 1)


def draw(script: Script) -> Iterator[Frame]:
    """Frames with every kind of truth that layouts write."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    fov_HxW = (row > 1) & (column > 1)
    for number in range(script.frames):
        lesion_HxW = (row - 16) ** 2 + (column - 20 - number % 5) ** 2 < 64
        yield Frame(
            number=number,
            video_HxWx3=picture(script.seed, number),
            albedo_HxWx3=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            instrument_HxW=np.zeros((HEIGHT, WIDTH), np.uint8),
            lesion_HxW=lesion_HxW if script.config.lesion else np.zeros_like(lesion_HxW),
            fov_HxW=fov_HxW,
            depth_HxW=(20 + 0.5 * column + 0.25 * row + number % 7).astype(np.float32),
            flow_HxWx2=None,
            occluded_HxW=None,
            tip_Mx2=np.zeros((3, 2), np.float32),
        )


def simulate(name: str, root: Path, cases: int = 3, seconds: float = 4.0, seed: int = 0) -> list[SimulatedCase]:
    """Writes a small data set in a layout and returns what it was made from."""
    layout = get_layout(name)
    made = []
    for number, plan in enumerate(layout.plan(cases, seed)):
        config = SceneConfig(plan.specialty, HEIGHT, WIDTH, layout.fps, seconds, nuisance=0.0, lesion=plan.lesion)
        skill = number / max(1, cases - 1)
        made.append(SimulatedCase(plan, write_script(config, plan.vocabulary, skill, case_seed(seed, number)), draw))
    write(layout, made, root)
    return made
