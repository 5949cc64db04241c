"""Laws of verbs: one moment tells nothing, the course over time tells all."""

import numpy as np
import pytest

from surgmotion_jax.simulate.case import VERBS
from surgmotion_jax.simulate.verbs import CHANNELS, PATTERNS, Manner, draw_manner, perform

ACTIONS = 4000
SECONDS = 3.0


def moments(verb: int, progress: float) -> np.ndarray:
    """Channels [ACTIONS, C] of many actions of a verb at one progress."""
    rng = np.random.default_rng(7 * verb + round(100 * progress))
    at = np.array([progress])
    return np.concatenate([perform(verb, at, SECONDS, draw_manner(rng)) for _ in range(ACTIONS)])


def test_names_are_unique_and_as_many_as_the_vocabulary_allows() -> None:
    assert len({pattern.name for pattern in PATTERNS}) == VERBS


@pytest.mark.parametrize("verb", range(VERBS))
def test_every_moment_of_every_verb_has_the_same_joint_distribution(verb: int) -> None:
    """Each channel follows the arcsine law, and no two channels hang together, at the start, amid and at the end."""
    for progress in (0.0, 0.37, 1.0):
        state_NxC = moments(verb, progress)
        uniform_NxC = np.sort(np.arccos(1 - 2 * state_NxC) / np.pi, axis=0)
        distance_C = np.abs(uniform_NxC - (np.arange(ACTIONS)[:, None] + 0.5) / ACTIONS).max(axis=0)
        assert distance_C.max() < 2.0 / np.sqrt(ACTIONS)  # Kolmogorov and Smirnov, one in a thousand
        # Folding hides a quadrature between channels: test their squares about the middle as well.
        for values in (state_NxC, np.square(state_NxC - 0.5)):
            correlation = np.corrcoef(values.T) - np.eye(len(CHANNELS))
            assert np.abs(correlation).max() < 4.5 / np.sqrt(ACTIONS)


def test_over_time_verbs_differ_more_than_actions_of_a_verb() -> None:
    """The nearest neighbour of an action, by the speeds of its channels over 1.3 s, is of its own verb."""
    rng = np.random.default_rng(0)
    progress_N = np.linspace(0.25, 0.75, 33)
    descriptors, verbs = [], []
    for _ in range(40):
        for verb in range(VERBS):
            state_NxC = perform(verb, progress_N, 2.6, draw_manner(rng))
            speed_C = np.abs(np.diff(state_NxC, axis=0)).mean(axis=0)
            turns_C = np.abs(np.diff(np.sign(np.diff(state_NxC, axis=0)), axis=0)).sum(axis=0)
            descriptors.append(np.concatenate([np.log(speed_C + 0.002), 0.3 * turns_C]))
            verbs.append(verb)
    points, truth = np.stack(descriptors), np.array(verbs)
    distance = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(len(points))
    assert (truth[distance.argmin(axis=1)] == truth).mean() > 0.9


@pytest.mark.parametrize("verb", range(VERBS))
def test_an_action_is_continuous_and_starts_and_ends_at_rest(verb: int) -> None:
    progress_N = np.linspace(0, 1, 3001)
    state_NxC = perform(verb, progress_N, SECONDS, draw_manner(np.random.default_rng(verb)))
    assert state_NxC.min() >= 0
    assert state_NxC.max() <= 1
    speed_NxC = np.abs(np.diff(state_NxC, axis=0)) * 1000
    assert speed_NxC.max() < 10
    assert max(speed_NxC[0].max(), speed_NxC[-1].max()) < 0.05


def test_an_action_is_a_pure_function_of_its_manner() -> None:
    manner = draw_manner(np.random.default_rng(3))
    progress_N = np.linspace(0, 1, 50)
    whole = perform(2, progress_N, SECONDS, manner)
    assert np.array_equal(whole[::7], perform(2, progress_N[::7], SECONDS, manner))
    other = perform(2, progress_N, SECONDS, Manner(manner.start_C, manner.tempo * 1.1))
    assert not np.allclose(whole, other)


@pytest.mark.parametrize("verb", [-1, VERBS])
def test_a_verb_without_pattern_is_refused(verb: int) -> None:
    with pytest.raises(ValueError, match=rf"verb {verb} has no motion pattern; verbs are 0\.\.9"):
        perform(verb, np.zeros(1), 1.0, draw_manner(np.random.default_rng(0)))
