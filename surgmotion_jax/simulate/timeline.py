"""The doings of one instrument over a case: actions, the ways between them, pauses, and times outside the patient.

A timeline is drawn in seconds and evaluated at any time. Letters: T times, C channels (see verbs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from surgmotion_jax.simulate.skill import Handling
from surgmotion_jax.simulate.verbs import CHANNELS, Manner, draw_manner, perform
from surgmotion_jax.simulate.waves import smoothstep

ALONG, ACROSS, PULL, OPENING, ROLL, SMOKE, FLUID = range(len(CHANNELS))
REACH = 0.075  # share of the view over which a tip works along and across
TUG = 0.08  # share of the view by which tissue is pulled at most
LIFT = 0.05  # how high a tip rises on its way
WIDEST = 0.9  # radians between open jaws
TURN = 0.7  # radians of roll to either side
_AWAY = 0.06  # odds that an instrument is taken out after an action
_FLOW_S = 0.5  # seconds in which smoke and fluid of an action come and go


@dataclass(frozen=True, eq=False)
class Action:
    """One action of an instrument, or (triplet None) a stay outside."""

    start: float  # seconds
    end: float
    triplet: tuple[int, int, int] | None
    site_3: np.ndarray  # mm: where it takes place
    frame_3x2: np.ndarray  # unit vectors: along the shaft's shadow on the tissue, and across it
    manner: Manner

    def channels(self, time_T: np.ndarray) -> np.ndarray:
        """Channels [T, C]; before the start and after the end as at the start and the end."""
        seconds = self.end - self.start
        verb = self.triplet[1] if self.triplet else 0
        progress_T = np.clip((time_T - self.start) / seconds, 0.0, 1.0) if self.triplet else np.zeros_like(time_T)
        return perform(verb, progress_T, seconds, self.manner)

    def tug(self, channels_TxC: np.ndarray, view: float) -> np.ndarray:
        """Displacement of the tissue [T, 3] in mm: towards the shaft's origin and up."""
        back_3 = np.array([-self.frame_3x2[0, 0], -self.frame_3x2[1, 0], 0.35])
        share_T = channels_TxC[:, PULL] if self.triplet else np.zeros(len(channels_TxC))
        return view * TUG * share_T[:, None] * back_3

    def tip(self, channels_TxC: np.ndarray, view: float) -> np.ndarray:
        """Tool tip [T, 3] in mm, a steady hand assumed."""
        if self.triplet is None:
            return np.tile(self.site_3, (len(channels_TxC), 1))
        spread_Tx2 = view * REACH * (channels_TxC[:, [ALONG, ACROSS]] - 0.5)
        return self.site_3 + spread_Tx2 @ self.frame_3x2.T + self.tug(channels_TxC, view)


@dataclass(frozen=True, eq=False)
class Way:
    """A movement from one action's end to the next one's start. Its course is straight but for detour and lift."""

    start: float
    end: float
    bulge_3: np.ndarray  # mm
    swings: int

    def blend(self, time_T: np.ndarray, from_3: np.ndarray, to_3: np.ndarray) -> np.ndarray:
        share_T = (time_T - self.start) / (self.end - self.start)
        swing_T = np.sin(np.pi * np.clip(share_T, 0, 1)) ** 2 * np.cos(np.pi * (self.swings - 1) * share_T)
        return from_3 + smoothstep(share_T)[:, None] * (to_3 - from_3) + swing_T[:, None] * self.bulge_3


@dataclass(frozen=True, eq=False)
class Course:
    """A timeline evaluated at T times."""

    tip_Tx3: np.ndarray
    pull_Tx3: np.ndarray
    opening_T: np.ndarray
    roll_T: np.ndarray
    smoke_T: np.ndarray
    fluid_T: np.ndarray
    triplet_Tx3: np.ndarray
    inserted_T: np.ndarray
    instrument_T: np.ndarray  # class of the instrument in hand; outside, of the one that comes next

    def with_tip(self, tip_Tx3: np.ndarray) -> Course:
        return replace(self, tip_Tx3=tip_Tx3)

    def absent(self) -> Course:
        """The course of a slot that is never used."""
        idle = {name: 0 * getattr(self, name) for name in ("pull_Tx3", "opening_T", "roll_T", "smoke_T", "fluid_T")}
        return replace(self, **idle, triplet_Tx3=self.triplet_Tx3 * 0 - 1, inserted_T=self.inserted_T & False)


@dataclass(frozen=True, eq=False)
class Timeline:
    """Actions in order of time; `ways[n]` leads from action n to action n + 1."""

    view: float
    actions: tuple[Action, ...]
    ways: tuple[Way, ...]

    def __call__(self, time_T: np.ndarray) -> Course:
        """What the instrument does at times in seconds, ascending."""
        count, channels = len(time_T), len(CHANNELS)
        tip_Tx3, pull_Tx3, state_TxC = np.zeros((count, 3)), np.zeros((count, 3)), np.zeros((count, channels))
        triplet_Tx3, inserted_T, instrument_T = np.full((count, 3), -1), np.ones(count, bool), np.zeros(count, int)
        for number, action in enumerate(self.actions):
            doing = slice(*np.searchsorted(time_T, [action.start, action.end]))
            state_TxC[doing] = action.channels(time_T[doing])
            tip_Tx3[doing], pull_Tx3[doing] = self._at(action, state_TxC[doing])
            triplet_Tx3[doing] = action.triplet or -1
            inserted_T[doing] = action.triplet is not None
            instrument_T[doing.start :] = self._in_hand(number)
            if number < len(self.ways):
                after = self.actions[number + 1]
                between = slice(doing.stop, np.searchsorted(time_T, after.start))
                way = self.ways[number]
                tip_Tx3[between], pull_Tx3[between], state_TxC[between] = self._between(
                    action, way, after, time_T[between]
                )
        opening_T = WIDEST * (0.05 + 0.95 * state_TxC[:, OPENING])
        roll_T = TURN * (2 * state_TxC[:, ROLL] - 1)
        return Course(
            tip_Tx3,
            pull_Tx3,
            opening_T,
            roll_T,
            state_TxC[:, SMOKE],
            state_TxC[:, FLUID],
            triplet_Tx3,
            inserted_T,
            instrument_T,
        )

    def _in_hand(self, number: int) -> int:
        """The instrument from action `number` until the next one begins."""
        acting = next((a.triplet for a in self.actions[number:] if a.triplet), None)  # an operation may end outside
        return (acting or next(a.triplet for a in self.actions[number::-1] if a.triplet))[0]

    def _at(self, action: Action, channels_TxC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return action.tip(channels_TxC, self.view), action.tug(channels_TxC, self.view)

    def _between(
        self, before: Action, way: Way, after: Action, time_T: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tissue is let go at once and met again at the end; smoke and fluid ebb; all else goes over smoothly."""
        left_1xC, met_1xC = before.channels(np.array([before.end])), after.channels(np.array([after.start]))
        (from_1x3, pulled_1x3), (to_1x3, pulling_1x3) = self._at(before, left_1xC), self._at(after, met_1xC)
        ebb_Tx1, flood_Tx1 = self._meeting(time_T - before.end), self._meeting(after.start - time_T)
        state_TxC = left_1xC + smoothstep((time_T - way.start) / (way.end - way.start))[:, None] * (met_1xC - left_1xC)
        for channel in (SMOKE, FLUID):
            state_TxC[:, channel] = np.maximum(
                ebb_Tx1[:, 0] * left_1xC[0, channel], flood_Tx1[:, 0] * met_1xC[0, channel]
            )
        pull_Tx3 = ebb_Tx1 * pulled_1x3 + flood_Tx1 * pulling_1x3
        return way.blend(time_T, from_1x3[0], to_1x3[0]), pull_Tx3, state_TxC

    def _meeting(self, distance_T: np.ndarray) -> np.ndarray:
        return (1 - smoothstep(distance_T / _FLOW_S))[:, None]


def draw_timeline(
    seconds: float,
    view: float,
    port_3: np.ndarray,
    sites_Kx3: np.ndarray,
    choose: Callable[[float], tuple[int, int, int]],
    hands: Handling,
    rng: np.random.Generator,
) -> Timeline:
    """Actions from before the start to past the end of an operation; `choose(time)` says which triplet comes next.

    For a triplet of another instrument the one in hand is taken out first.
    """
    time = -float(rng.uniform(0.0, 3.0))
    actions: list[Action] = []
    ways: list[Way] = []
    while not actions or actions[-1].end < seconds:
        outside = bool(actions) and actions[-1].triplet is not None and rng.random() < _AWAY
        triplet = None if outside else choose(max(time, 0.0))
        if triplet and actions and actions[-1].triplet and actions[-1].triplet[0] != triplet[0]:
            outside, triplet = True, None
        length = float(rng.uniform(3.0, 8.0) if outside else rng.uniform(2.2, 5.0))
        action = _draw_action(time, length, triplet, view, port_3, sites_Kx3, rng)
        if actions:
            way = _draw_way(actions[-1], action, view, hands, rng)
            ways.append(way)
            action = _moved(action, way.end)
        actions.append(action)
        time = action.end
    return Timeline(view, tuple(actions), tuple(ways))


def _draw_action(
    start: float,
    seconds: float,
    triplet: tuple[int, int, int] | None,
    view: float,
    port_3: np.ndarray,
    sites_Kx3: np.ndarray,
    rng: np.random.Generator,
) -> Action:
    manner, jitter_2 = draw_manner(rng), rng.normal(0.0, 0.02, 2)
    site_3 = np.array([*jitter_2 * view, 0.0]) + (sites_Kx3[triplet[2]] if triplet else 0.8 * port_3)
    heading = float(np.arctan2(*(site_3 - port_3)[1::-1])) + float(rng.normal(0.0, 0.1))
    frame_3x2 = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)], [0.0, 0.0]])
    return Action(start, start + seconds, triplet, site_3, frame_3x2, manner)


def _draw_way(before: Action, after: Action, view: float, hands: Handling, rng: np.random.Generator) -> Way:
    pause = float(rng.exponential(hands.pause_s))
    length = float(np.linalg.norm(after.site_3 - before.site_3)) + 0.15 * view
    seconds = 0.5 + length / (0.6 * view)
    side = float(rng.uniform(0, 2 * np.pi))
    bulge_3 = hands.detour * length * np.array([np.cos(side), np.sin(side), 0.0]) + [0, 0, LIFT * view]
    return Way(before.end + pause, before.end + pause + seconds, bulge_3, hands.swings)


def _moved(action: Action, start: float) -> Action:
    return Action(
        start, start + action.end - action.start, action.triplet, action.site_3, action.frame_3x2, action.manner
    )
