"""A verb is a motion pattern: what the instrument does over time, and nothing that one picture shows.

Everything about an instrument at work is a channel between 0 and 1: where along its shaft and across it the tip is,
how far the tissue is pulled, how open the jaws are, the roll, and what comes out of the tip. Channel d of verb v at
time t is

    (1 - cos 2 pi (u_d + f_vd(t))) / 2 ,   u_d uniform on [0, 1), drawn once for each action and channel.

The verb enters through f alone. Since u is uniform, u + f modulo 1 is uniform too and independent over channels: at
every moment of an action the channels have the same joint distribution whatever the verb. A single picture therefore
holds no information on the verb; only the change from picture to picture does.

Letters: N times, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.case import VERBS

CHANNELS = ("along", "across", "pull", "opening", "roll", "smoke", "fluid")
_EASE_S = 0.25  # seconds in which an action gains its speed, and loses it


@dataclass(frozen=True, eq=False)
class Manner:
    """What is drawn once for an action."""

    start_C: np.ndarray  # u of each channel, cycles
    tempo: float  # factor on all rhythms


@dataclass(frozen=True)
class Verb:
    """Name and rhythms of a verb: cycles of each channel after t seconds; a channel not named stays where it is."""

    name: str
    rhythms: dict[str, Callable[[np.ndarray], np.ndarray]]


def steady(hertz: float) -> Callable[[np.ndarray], np.ndarray]:
    """To and fro at a constant rate."""
    return lambda t_N: hertz * t_N


def halting(hertz: float) -> Callable[[np.ndarray], np.ndarray]:
    """To and fro with two halts in each cycle: move, hold, move back, hold."""
    return lambda t_N: hertz * t_N - np.sin(4 * np.pi * hertz * t_N) / (4 * np.pi)


def trembling(hertz: float, depth: float) -> Callable[[np.ndarray], np.ndarray]:
    """A vibration about one place, `depth` cycles to either side."""
    return lambda t_N: depth * np.sin(2 * np.pi * hertz * t_N)


# In the order of CholecT50's verbs (Nwoye et al., 2022); what a data set calls them is the data set's affair.
PATTERNS = (
    # Reach in with a halt at the tissue, close, come back: jaws and tip in the same rhythm.
    Verb("grasp", {"along": halting(0.8), "opening": halting(0.8)}),
    # Draw the tissue away and let it back, slowly.
    Verb("retract", {"pull": steady(0.45)}),
    # Small quick strokes across the line of the shaft.
    Verb("dissect", {"across": steady(1.7), "opening": steady(0.3)}),
    # The tip vibrates on the tissue, which shakes with it; smoke comes in puffs.
    Verb("coagulate", {"along": trembling(3.1, 0.07), "pull": trembling(3.1, 0.09), "smoke": steady(0.5)}),
    # Turn the jaws into place and close them slowly.
    Verb("clip", {"along": steady(0.3), "opening": steady(0.35), "roll": steady(0.6)}),
    # Quick snips while the blades move on.
    Verb("cut", {"along": steady(0.35), "across": steady(0.3), "opening": steady(2.3)}),
    # Circle over the pool.
    Verb("aspirate", {"along": steady(0.9), "across": steady(0.9), "fluid": steady(0.3)}),
    # Sweep across, wide and even, with a jet that swells and fades.
    Verb("irrigate", {"across": steady(0.8), "fluid": steady(0.6)}),
    # Push the tissue in again and again.
    Verb("pack", {"pull": steady(1.4)}),
    # Stay in place without acting.
    Verb("null", {"across": steady(0.04), "roll": steady(0.05)}),
)
assert len(PATTERNS) == VERBS


def draw_manner(rng: np.random.Generator) -> Manner:
    """The manner of one action. It must not depend on the verb."""
    return Manner(rng.random(len(CHANNELS)), float(np.exp(rng.uniform(-0.15, 0.15))))


def perform(verb: int, progress_N: np.ndarray, seconds: float, manner: Manner) -> np.ndarray:
    """Channels [N, C] of an action of `seconds` at the given progress, 0 its start and 1 its end.

    Raises:
        ValueError: when there is no pattern for the verb.
    """
    if not 0 <= verb < VERBS:
        raise ValueError(f"verb {verb} has no motion pattern; verbs are 0..{VERBS - 1}")
    time_N = manner.tempo * _eased(progress_N * seconds, seconds)
    cycles_NxC = np.tile(manner.start_C, (len(time_N), 1))
    for channel, rhythm in PATTERNS[verb].rhythms.items():
        cycles_NxC[:, CHANNELS.index(channel)] += rhythm(time_N)
    return (1 - np.cos(2 * np.pi * cycles_NxC)) / 2


def _eased(time_N: np.ndarray, seconds: float) -> np.ndarray:
    """Time as the action feels it: slow at its start and its end, so that it begins and ends at rest."""
    ease = min(_EASE_S, seconds / 2)
    gained_N = np.minimum(time_N, ease) ** 2 / (2 * ease) + np.maximum(time_N - ease, 0)
    return gained_N - np.maximum(time_N - (seconds - ease), 0) ** 2 / (2 * ease)
