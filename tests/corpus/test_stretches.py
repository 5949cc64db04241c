"""Cuts and stretches that are no surgery: found where they were put, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.corpus import stretches
from surgmotion_jax.corpus.config import Thresholds
from surgmotion_jax.corpus.observe import Observed, glance, lit
from surgmotion_jax.corpus.stretches import Run
from tests.corpus.scenes import scene

RATE = 4.0
OPERATION = scene(0, 20, RATE)


def observed(video_NxHxWx3: np.ndarray) -> Observed:
    glances = [glance(picture) for picture in video_NxHxWx3]
    small = np.stack([one.small_SxSx3 for one in glances])
    return Observed(small, np.array([one.sharpness for one in glances]), lit(small))


def found(video_NxHxWx3: np.ndarray, **changes: object) -> list[Run]:
    return stretches.no_surgery(observed(video_NxHxWx3), RATE, Thresholds(), **changes)


def spoilt(start: int, stop: int, picture: np.ndarray) -> np.ndarray:
    video = OPERATION.copy()
    video[start:stop] = picture
    return video


def test_an_operation_is_surgery_from_beginning_to_end():
    assert found(OPERATION) == []
    assert stretches.shots(observed(OPERATION), RATE, Thresholds()) == []


def test_black_is_found_to_the_picture():
    noise = np.random.default_rng(0).integers(0, 12, (10, *OPERATION.shape[1:]))
    assert found(spoilt(20, 30, noise)) == [Run(20, 30, "black")]


def test_frozen_is_found_from_its_first_picture_on():
    jitter = np.random.default_rng(0).random((12, *OPERATION.shape[1:])) > 0.9
    assert found(spoilt(20, 32, np.clip(OPERATION[20].astype(int) + jitter, 0, 255))) == [Run(20, 32, "frozen")]
    assert found(spoilt(20, 26, OPERATION[20])) == []  # too short


def test_a_title_card_is_told_from_a_frozen_operation():
    card = np.full(OPERATION.shape[1:], 40, np.uint8)
    card[20:30, 10:60:4] = 230
    (run,) = found(spoilt(0, 16, card))
    assert run == Run(0, 16, "title card or test picture")


def test_outside_of_the_body_is_left_out_unless_it_is_asked_for():
    drapes = scene(7, 20, RATE)[..., ::-1][20:32]
    assert found(spoilt(20, 32, drapes)) == [Run(20, 32, "outside the body")]
    assert found(spoilt(20, 32, drapes), keep_outside=True) == []
    assert found(spoilt(20, 22, drapes[:2])) == []  # too short to be sure


def test_out_of_focus_is_a_stretch_of_low_sharpness():
    seen = observed(OPERATION)
    sharp = np.where((np.arange(80) >= 30) & (np.arange(80) < 45), 0.01, 0.3)
    runs = stretches.no_surgery(Observed(seen.small_NxSxSx3, sharp, seen.view), RATE, Thresholds())
    assert runs == [Run(30, 45, "out of focus")]


def test_hard_cuts_are_found_and_a_moving_camera_is_none():
    other = scene(5, 10, RATE, OPERATION.shape[1:3])[..., [0, 0, 1]]
    joined = np.concatenate([OPERATION[:33], other[:20], OPERATION[33:60]])
    assert stretches.shots(observed(joined), RATE, Thresholds()) == [33, 53]
    assert stretches.shots(observed(OPERATION[:2]), RATE, Thresholds()) == []


def test_a_fade_is_a_cut_at_its_darkest():
    level = np.array([100, 100, 90, 60, 30, 10, 40, 70, 100, 100], float)
    assert np.flatnonzero(stretches.fades(level, RATE)).tolist() == [5]
    assert not stretches.fades(np.array([100, 80, 60, 50, 60, 80, 100.0]), RATE).any()  # not dark
    assert not stretches.fades(np.array([100, 50, 10, 10, 10, 10, 10.0]), RATE).any()  # never comes back


def test_runs_and_gaps():
    flag = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 1], bool)
    assert list(stretches.runs(flag)) == [(1, 3), (4, 5), (7, 10)]
    assert list(stretches.runs(flag, 2)) == [(1, 3), (7, 10)]
    assert stretches.bridged(flag, 1).tolist() == [False, *[True] * 4, False, False, *[True] * 3]
    assert stretches.lasting(flag, 3).tolist() == [False] * 7 + [True] * 3


def test_what_is_kept_lies_between_runs_and_cuts():
    left_out = [Run(3, 5, "black"), Run(4, 8, "frozen")]
    kept, short = stretches.kept(30, left_out, [10, 15, 29], 4)
    assert kept == [(10, 15), (15, 29)]
    assert short == [Run(0, 3, "too short"), Run(8, 10, "too short"), Run(29, 30, "too short")]


@pytest.mark.parametrize(("name", "value"), [("frozen_s", -1), ("tissue", 2), ("cut", -0.1)])
def test_thresholds_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"thresholds.{name}"):
        Thresholds(**{name: value})
