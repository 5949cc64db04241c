"""The camera moves smoothly, keeps the tissue in view and keeps the manners of its specialty."""

import numpy as np
import pytest

from surgmotion_jax.simulate.camera import draw_camera
from surgmotion_jax.simulate.case import SPECIALTIES
from surgmotion_jax.simulate.specialty import specialty_of

SECONDS = 120.0
FPS = 50
TIME_T = np.arange(0, SECONDS, 1 / FPS)
SITES_KX3 = np.array([[0.2, 0.1, 0.0], [-0.2, 0.05, 0.0], [0.0, -0.25, 0.0]])


def path(name: str, seed: int, difficulty: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    kind = specialty_of(name)
    rng = np.random.default_rng(seed)
    return draw_camera(kind, SECONDS, SITES_KX3 * kind.view, difficulty, rng)(TIME_T)


@pytest.mark.parametrize("name", SPECIALTIES)
def test_speed_and_acceleration_are_bounded(name: str) -> None:
    view = specialty_of(name).view
    for seed in range(4):
        position_Tx3, angles_Tx3 = path(name, seed, difficulty=1.0)
        aside_Tx2 = position_Tx3[:, :2] / view
        assert np.abs(np.diff(aside_Tx2, axis=0)).max() * FPS < 0.4
        assert np.abs(np.diff(aside_Tx2, 2, axis=0)).max() * FPS**2 < 2.0
        assert np.abs(np.diff(position_Tx3[:, 2])).max() * FPS < 0.6 * specialty_of(name).distance
        assert np.abs(np.diff(angles_Tx3, axis=0)).max() * FPS < 0.8


@pytest.mark.parametrize("name", SPECIALTIES)
def test_the_camera_looks_at_the_middle_of_the_tissue(name: str) -> None:
    kind = specialty_of(name)
    for seed in range(4):
        position_Tx3, angles_Tx3 = path(name, seed)
        assert np.all(angles_Tx3[:, 1] == 0)
        seen_y_T = position_Tx3[:, 1] + np.tan(angles_Tx3[:, 0]) * position_Tx3[:, 2]
        assert np.abs(position_Tx3[:, 0]).max() < 0.35 * kind.view
        assert np.abs(seen_y_T).max() < 0.35 * kind.view
        assert position_Tx3[:, 2].min() > 0.5 * kind.distance


def test_hand_held_cameras_move_and_stands_stay() -> None:
    def travel(name: str) -> float:
        paths = [path(name, seed)[0] for seed in range(4)]
        return float(np.mean([np.ptp(p[:, :2], axis=0).mean() for p in paths])) / specialty_of(name).view

    assert min(travel("laparoscopic"), travel("endoscopic")) > 2 * max(travel("open"), travel("microscopic"))


def test_an_endoscope_rolls_and_advances_most() -> None:
    depth, roll = {}, {}
    for name in SPECIALTIES:
        paths = [path(name, seed) for seed in range(4)]
        depth[name] = np.mean([np.ptp(p[:, 2]) for p, _ in paths]) / specialty_of(name).distance
        roll[name] = np.mean([np.ptp(a[:, 2]) for _, a in paths])
    assert max(depth, key=lambda name: depth[name]) == "endoscopic"
    assert max(roll, key=lambda name: roll[name]) == "endoscopic"


def test_difficulty_moves_the_camera_more() -> None:
    easy, hard = path("laparoscopic", 1, 0.0)[1], path("laparoscopic", 1, 1.0)[1]
    assert np.ptp(hard[:, 2]) > 2 * np.ptp(easy[:, 2])


def test_the_path_is_a_function_of_time_alone() -> None:
    kind = specialty_of("laparoscopic")
    camera = draw_camera(kind, SECONDS, SITES_KX3, 0.5, np.random.default_rng(2))
    assert np.allclose(camera(TIME_T)[0][::25], camera(TIME_T[::25])[0], atol=1e-12)
