"""Measures of tracks that are known."""

import numpy as np
import pytest

from tests.simulate.measure import motion_measures, tip_in_mask

FPS = 25.0
TIME_T = np.arange(0, 20, 1 / FPS)


def line(speed: float) -> np.ndarray:
    return np.stack([speed * TIME_T, np.zeros_like(TIME_T)], axis=1)[:, None]


def test_a_straight_path_has_its_speed_as_length_per_second() -> None:
    found = motion_measures(line(10.0), FPS, still=1.0)
    assert found["path_length"] == pytest.approx(10.0, rel=0.01)
    assert found["idle"] == pytest.approx(0.0, abs=0.03)


def test_jerk_of_a_sine_is_amplitude_times_frequency_cubed() -> None:
    hertz, amplitude = 0.5, 8.0
    track = line(10.0)
    track[:, 0, 1] = amplitude * np.sin(2 * np.pi * hertz * TIME_T)
    expected = amplitude * (2 * np.pi * hertz) ** 3 / np.sqrt(2)
    assert motion_measures(track, FPS, 1.0)["jerk"] == pytest.approx(np.log10(expected), abs=0.02)


def test_smoothness_has_no_unit_and_falls_with_tremor() -> None:
    track = line(10.0)
    track[:, 0, 1] = 5 * np.sin(2 * np.pi * 0.7 * TIME_T)
    shaky = track + 0.3 * np.sin(2 * np.pi * 9 * TIME_T)[:, None, None]
    calm = motion_measures(track, FPS, 1.0)["smoothness"]
    assert motion_measures(track * 40, FPS, 40.0)["smoothness"] == pytest.approx(calm)
    assert motion_measures(shaky, FPS, 1.0)["smoothness"] < calm - 2


def test_idle_counts_rest_in_spite_of_tremor() -> None:
    track = line(10.0)
    half = len(TIME_T) // 2
    track[half:] = track[half]
    track[:, 0, 1] += 0.4 * np.sin(2 * np.pi * 9 * TIME_T)
    found = motion_measures(track, FPS, still=2.0)
    assert found["idle"] == pytest.approx(0.5, abs=0.04)


def test_the_path_of_a_hand_at_rest_is_not_counted() -> None:
    track = np.zeros((200, 1, 2))
    assert motion_measures(track, FPS, 1.0) == {
        "path_length": 0.0,
        "jerk": float("-inf"),
        "smoothness": 0.0,
        "idle": 1.0,
    }


def test_frames_out_of_view_are_no_movement() -> None:
    track = np.concatenate([line(10.0), line(10.0)], axis=1)
    track[200:300, 0] = np.nan
    track[300:, 0] += 500  # comes back elsewhere
    track[:, 1] = np.nan
    assert motion_measures(track, FPS, 1.0)["path_length"] == pytest.approx(10.0, rel=0.01)


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        (np.zeros((10, 2)), r"shape \(10, 2\); pass \[frames, instruments, coordinates\]"),
        (np.full((100, 1, 2), np.nan), "no tip is seen in 25 frames on end"),
    ],
)
def test_tracks_that_cannot_be_measured_are_refused(tracks: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        motion_measures(tracks, FPS, 1.0)


def test_the_tip_of_a_mask_is_its_end_away_from_the_shaft() -> None:
    mask_HxW = np.zeros((100, 120), bool)
    mask_HxW[48:53, 0:61] = True
    assert tip_in_mask(mask_HxW) == pytest.approx([58.0, 50.0], abs=1.0)
    assert np.isnan(tip_in_mask(np.zeros((10, 10), bool))).all()


def test_the_tip_of_a_mask_follows_a_slow_movement_in_steps_finer_than_a_pixel() -> None:
    y, x = np.mgrid[:96, :96]
    found = []
    for shift in np.arange(0, 4, 0.25):
        along, across = (x - 40 - shift) * 0.8 + (y - 50) * 0.6, (y - 50) * 0.8 - (x - 40 - shift) * 0.6
        found.append(tip_in_mask((along < 0) & (np.abs(across) < 3))[0])
    assert np.corrcoef(found, np.arange(0, 4, 0.25))[0, 1] > 0.98
