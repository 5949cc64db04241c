"""Laws of the order of phases, for every number of phases."""

import itertools

import numpy as np
import pytest

from surgmotion_jax.simulate.case import SPECIALTIES, Vocabulary
from surgmotion_jax.simulate.workflow import SHORTEST_S, draw_workflow, phase_at, triplet_odds

COUNTS = (1, 2, 4, 5, 7, 12, 96)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("phases", COUNTS)
@pytest.mark.parametrize("seconds", [0.4, 20.0, 1800.0])
def test_visits_cover_the_operation_without_gap_or_overlap(phases: int, seconds: float) -> None:
    for seed in range(20):
        visits = draw_workflow("laparoscopic", phases, seconds, rng(seed))
        assert visits[0].start == 0
        assert visits[-1].end == seconds
        assert all(a.end == b.start for a, b in itertools.pairwise(visits))
        assert all(v.end - v.start >= min(SHORTEST_S, seconds) - 1e-9 for v in visits)
        assert all(0 <= v.phase < phases for v in visits)
        assert all(a.phase != b.phase for a, b in itertools.pairwise(visits))


@pytest.mark.parametrize("specialty", SPECIALTIES)
@pytest.mark.parametrize("phases", range(1, 97, 5))
def test_most_phases_are_visited_or_as_many_as_there_is_time_for(specialty: str, phases: int) -> None:
    for seconds in (20.0, 300.0):
        for seed in range(5):
            visits = draw_workflow(specialty, phases, seconds, rng(seed))
            assert len({v.phase for v in visits}) >= min(phases // 2 + 1, int(seconds / SHORTEST_S))


def test_every_visit_shows_at_one_frame_a_second() -> None:
    for seed in range(30):
        visits = draw_workflow("open", 12, 20.0, rng(seed))
        assert {v.phase for v in visits} == set(phase_at(visits, np.arange(20.0)).tolist())


def test_phases_run_in_order_but_for_returns_and_both_skips_and_returns_happen() -> None:
    skips = returns = 0
    for seed in range(60):
        order = [v.phase for v in draw_workflow("laparoscopic", 7, 1800.0, rng(seed))]
        firsts = list(dict.fromkeys(order))
        assert firsts == sorted(firsts)
        skips += len(firsts) < 7
        returns += len(order) > len(firsts)
    assert 10 < skips < 50
    assert 10 < returns < 50


def test_durations_have_a_prior_of_the_specialty() -> None:
    """Shares of the phases agree between cases of a specialty and differ between specialties."""

    def shares(specialty: str, seeds: range) -> np.ndarray:
        total = np.zeros(7)
        for seed in seeds:
            for v in draw_workflow(specialty, 7, 1800.0, rng(seed)):
                total[v.phase] += v.end - v.start
        return total / total.sum()

    one, two, other = (
        shares("laparoscopic", range(60)),
        shares("laparoscopic", range(60, 120)),
        shares("open", range(60)),
    )
    assert np.abs(one - two).max() < 0.04
    assert np.abs(one - other).max() > 0.08


def test_phase_at_takes_the_start_of_a_visit_and_not_its_end() -> None:
    visits = draw_workflow("open", 3, 30.0, rng(1))
    for visit in visits:
        assert phase_at(visits, np.array([visit.start]))[0] == visit.phase
        assert phase_at(visits, np.array([visit.end - 1e-9]))[0] == visit.phase
    assert phase_at(visits, np.array([30.0]))[0] == visits[-1].phase


def test_phases_differ_in_pairs_and_not_in_verbs_within_a_pair() -> None:
    triplets = tuple((i, v, t) for i in range(3) for v in range(4) for t in range(2) if (i, v) != (0, 3))
    vocabulary = Vocabulary(5, 3, 4, 2, triplets)
    odds_PxR = triplet_odds("laparoscopic", vocabulary)
    assert odds_PxR.shape == (5, len(triplets))
    assert odds_PxR.min() > 0
    assert np.array_equal(odds_PxR, triplet_odds("laparoscopic", vocabulary))
    for pair in {(i, t) for i, _, t in triplets}:
        rows = [row for row, (i, _, t) in enumerate(triplets) if (i, t) == pair]
        assert np.ptp(odds_PxR[:, rows], axis=1).max() == 0
    shares_PxR = odds_PxR / odds_PxR.sum(axis=1, keepdims=True)
    assert np.abs(np.diff(shares_PxR, axis=0)).sum(axis=1).min() > 0.3
