"""A script written by hand: one instrument over a scene in which only what a test asks for happens."""

from __future__ import annotations

import dataclasses

import numpy as np

from surgmotion_jax.simulate.case import SceneConfig, Script, Vocabulary
from surgmotion_jax.simulate.specialty import specialty_of

VOCABULARY = Vocabulary(phases=1, instruments=6, verbs=1, targets=2, triplets=((0, 0, 0),))


def hand_script(frames: int = 4, *, seed: int = 5, moving: bool = False, **config: object) -> Script:
    """Two instruments at rest (or, if `moving`, at work under a swaying camera) and no nuisance unless configured."""
    scene = SceneConfig(**{"height": 96, "width": 96, "fps": 10.0, "seconds": frames / 10, "nuisance": 0.0} | config)
    kind = specialty_of(scene.specialty)
    time_T = np.arange(frames) * float(moving)
    wave_T = np.sin(0.9 * time_T)
    still_T, none_TxMx3 = np.zeros(frames), np.full((frames, 2, 3), -1)
    behind = np.array([0, -kind.distance * np.sin(kind.tilt), kind.distance * np.cos(kind.tilt)])
    tip_TxMx3 = np.array([[-0.12, 0.02, 0.06], [0.16, 0.10, 0.03]]) * kind.view + np.zeros((frames, 1, 1))
    tip_TxMx3 = tip_TxMx3 + 0.02 * kind.view * wave_T[:, None, None] * np.array([[1, 1, 0.2], [-1, 0.5, -0.5]])
    return Script(
        config=scene,
        vocabulary=VOCABULARY,
        seed=seed,
        skill=0.5,
        grs_6=np.full(6, 3),
        phase_T=np.zeros(frames, int),
        triplet_TxMx3=none_TxMx3,
        camera_position_Tx3=behind + 0.01 * kind.view * wave_T[:, None] * np.array([1.0, -0.6, 0.8]),
        camera_angles_Tx3=np.array([kind.tilt, 0.0, 0.0]) + 0.02 * wave_T[:, None] * np.array([0.5, 0.3, 1.0]),
        instrument_M=np.array([0, 1]),
        port_Mx3=np.array(kind.ports[:2], float),
        tip_TxMx3=tip_TxMx3,
        opening_TxM=np.full((frames, 2), 0.5) + 0.2 * wave_T[:, None],
        roll_TxM=np.zeros((frames, 2)) + 0.3 * wave_T[:, None],
        visible_TxM=np.ones((frames, 2), bool),
        target_site_Kx3=np.array([[-0.15, 0.0, 0.0], [0.2, 0.1, 0.0]]) * kind.view,
        pull_TxMx3=np.array([[0.0, 0.02, 0.03], [0, 0, 0]]) * kind.view * wave_T[:, None, None],
        breath_T=0.01 * kind.view * wave_T,
        pulse_T=0.003 * kind.view * wave_T,
        smoke_T=still_T,
        blood_T=still_T,
        fluid_T=still_T,
        smudge_T=still_T,
        brightness_T=np.ones(frames),
        out_of_body_T=np.zeros(frames, bool),
        focal=kind.focal,
        view=kind.view,
    )


def spoilt(script: Script, **schedules: float | bool) -> Script:
    """The script with some of its schedules set to a value throughout."""
    filled = {f"{name}_T": np.full(script.frames, value) for name, value in schedules.items()}
    return dataclasses.replace(script, **filled)
