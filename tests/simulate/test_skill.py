"""Skill rules the hands and the rating."""

import numpy as np
import pytest

from surgmotion_jax.simulate.skill import ITEMS, draw_grs, handling


def test_every_measure_of_the_hands_falls_with_skill() -> None:
    hands = [handling(skill) for skill in np.linspace(0, 1, 11)]
    for field in ("tremor", "stray", "detour", "pause_s"):
        values = [getattr(hand, field) for hand in hands]
        assert np.all(np.diff(values) < 0), field
        assert values[-1] > 0, field
    assert np.all(np.diff([hand.swings for hand in hands]) <= 0)


def test_the_rating_has_six_items_of_1_to_5_and_follows_skill() -> None:
    skills = np.linspace(0, 1, 21)
    mean = []
    for skill in skills:
        items_Nx6 = np.stack([draw_grs(float(skill), np.random.default_rng(seed)) for seed in range(200)])
        assert items_Nx6.shape[1] == ITEMS
        assert items_Nx6.min() >= 1
        assert items_Nx6.max() <= 5
        assert items_Nx6.sum(axis=1).std() < 1.5
        mean.append(items_Nx6.sum(axis=1).mean())
    assert np.all(np.diff(mean) > 0)
    assert mean[0] < 7
    assert mean[-1] > 29


def test_items_of_a_case_vary() -> None:
    assert any(np.ptp(draw_grs(0.4, np.random.default_rng(seed))) > 0 for seed in range(5))


@pytest.mark.parametrize("skill", [-0.1, 1.1, float("nan")])
def test_a_skill_out_of_range_is_refused(skill: float) -> None:
    with pytest.raises(ValueError, match=r"skill is .*; it must lie in \[0, 1\]"):
        handling(skill)
