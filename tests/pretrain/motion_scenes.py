"""Clips with exact truth for judging motion scores: one moving tool, and the nuisances that are asked for.

Letters: T frames, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from surgmotion_jax.simulate.case import Script
from surgmotion_jax.simulate.render import render
from surgmotion_jax.simulate.specialty import specialty_of
from tests.simulate.hand_script import hand_script

NUISANCES = ("pan", "zoom", "glints", "smoke", "light")
TISSUE_MOVES = 0.006  # of the view: breathing, in every scene


class MotionScene(NamedTuple):
    """A clip and its truth. `flow` and `occluded` speak of the next frame, so they have one frame less."""

    video_TxHxWx3: np.ndarray  # uint8
    tool_TxHxW: np.ndarray  # bool
    fov_HxW: np.ndarray  # bool
    flow_TxHxWx2: np.ndarray  # float32, pixels (right, down)
    occluded_TxHxW: np.ndarray  # bool


def motion_scene(
    seed: int, fps: float, nuisances: tuple[str, ...] = NUISANCES, *, frames: int = 16, side: int = 128
) -> MotionScene:
    """A laparoscopic clip under a round field of view, drawn from `seed`: the same motions at every frame rate.

    The tip of the tool runs along an ellipse at 15 to 45 mm/s, its shaft through a fixed port; the tissue breathes.
    Nuisances: `pan` and `zoom`, the camera moves (with some roll) by up to a tenth of the view a second; `glints`, wet
    reflections that move over the tissue, and the sensor's noise; `smoke`, thick, uneven and drifting; `light`, a lamp
    that flickers.
    """
    drawn = list(render(_script(seed, fps, nuisances, frames + 1, side), 0, frames + 1))[:frames]
    return MotionScene(
        np.stack([f.video_HxWx3 for f in drawn]),
        np.stack([f.instrument_HxW > 0 for f in drawn]),
        drawn[0].fov_HxW,
        np.stack([f.flow_HxWx2 for f in drawn[:-1]]),  # type: ignore[arg-type]
        np.stack([f.occluded_HxW for f in drawn[:-1]]),  # type: ignore[arg-type]
    )


def _script(seed: int, fps: float, nuisances: tuple[str, ...], frames: int, side: int) -> Script:
    rng = np.random.default_rng([seed, 7])
    amount = 0.7 if "glints" in nuisances else 0.0
    base = hand_script(
        frames, seed=seed, height=side, width=side, fps=float(fps), seconds=frames / fps, nuisance=amount
    )
    kind, view = specialty_of("laparoscopic"), base.view
    time_T = np.arange(frames) / fps

    def turning(low_hz: float, high_hz: float) -> np.ndarray:
        return 2 * np.pi * (rng.uniform(low_hz, high_hz) * time_T + rng.random())

    angle_T, radius_2 = turning(0.25, 0.45), rng.uniform(0.11, 0.17, 2)
    centre_3 = np.array([rng.uniform(-0.12, 0.05), rng.uniform(-0.1, 0.1), rng.uniform(0.03, 0.07)])
    path_Tx3 = np.stack([radius_2[0] * np.cos(angle_T), radius_2[1] * np.sin(angle_T), 0.02 * np.sin(angle_T)], axis=1)
    tip_TxMx3 = np.stack([centre_3 + path_Tx3, np.zeros((frames, 3))], axis=1) * view

    pan_T, zoom_T, direction = turning(0.12, 0.18), turning(0.1, 0.15), rng.uniform(0, 2 * np.pi)
    pan_Tx3 = 0.09 * np.sin(pan_T)[:, None] * np.array([np.cos(direction), np.sin(direction), 0.0])
    zoom_T = 0.12 * np.sin(zoom_T) * kind.distance / view
    zoom_Tx3 = zoom_T[:, None] * np.array([0, -np.sin(kind.tilt), np.cos(kind.tilt)])
    camera_Tx3 = base.camera_position_Tx3 + view * (("pan" in nuisances) * pan_Tx3 + ("zoom" in nuisances) * zoom_Tx3)
    roll_T = 0.06 * np.sin(pan_T + 1) * ("pan" in nuisances)
    angles_Tx3 = base.camera_angles_Tx3 + roll_T[:, None] * np.array([0, 0, 1.0])
    smoke_T = (0.35 + 0.15 * np.sin(turning(0.1, 0.3))) * ("smoke" in nuisances)
    flicker_T = 0.12 * np.sin(turning(1.0, 3.0)) + 0.15 * np.sin(turning(0.05, 0.2))
    return dataclasses.replace(
        base,
        camera_position_Tx3=camera_Tx3,
        camera_angles_Tx3=angles_Tx3,
        instrument_M=rng.permutation(6)[:2],
        tip_TxMx3=tip_TxMx3,
        opening_TxM=0.4 + 0.3 * np.sin(angle_T)[:, None] * np.ones(2),
        roll_TxM=0.4 * np.cos(angle_T)[:, None] * np.ones(2),
        visible_TxM=np.tile([True, False], (frames, 1)),
        pull_TxMx3=np.zeros((frames, 2, 3)),
        breath_T=TISSUE_MOVES * view * np.sin(turning(0.2, 0.3)),
        smoke_T=smoke_T,
        brightness_T=np.exp(flicker_T * ("light" in nuisances)),
    )


def tool_tokens(scene: MotionScene, patch: int) -> np.ndarray:
    """Share of each patch [h*w] that the tool covers, mean over the clip."""
    frames, height, width = scene.tool_TxHxW.shape
    return scene.tool_TxHxW.reshape(frames, height // patch, patch, width // patch, patch).mean((0, 2, 4)).reshape(-1)


def auroc(score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Area under the curve, ties counting half; NaN where one class is missing."""
    if positive_N.all() or not positive_N.any():
        return float("nan")
    _, place_N, count_N = np.unique(score_N, return_inverse=True, return_counts=True)
    rank_N = (np.cumsum(count_N) - (count_N - 1) / 2)[place_N]
    positives = positive_N.sum()
    return float((rank_N[positive_N].sum() - positives * (positives + 1) / 2) / (positives * (~positive_N).sum()))
