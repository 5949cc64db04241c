"""The whole operation before its first picture: who does what, when and where.

Letters: T frames, M instrument slots, K targets, P phases, R triplets, I instruments, S visits to phases.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surgmotion_jax.simulate.camera import draw_camera
from surgmotion_jax.simulate.case import NONE, SceneConfig, Script, Vocabulary
from surgmotion_jax.simulate.exchange import draw_exchange
from surgmotion_jax.simulate.schedule import draw_nuisances
from surgmotion_jax.simulate.skill import STRAY_HZ, TREMOR_HZ, Handling, draw_grs, handling
from surgmotion_jax.simulate.specialty import Specialty, specialty_of
from surgmotion_jax.simulate.timeline import Course, draw_timeline
from surgmotion_jax.simulate.waves import draw_waves
from surgmotion_jax.simulate.workflow import Segment, draw_workflow, phase_at, triplet_odds, visit_at

SLOTS = 3  # left hand, right hand, assistant
_ASSISTED = {"laparoscopic": 0.6, "endoscopic": 0.0, "open": 0.5, "microscopic": 0.1}  # odds of a third instrument
_STREAMS = ("workflow", "sites", "instruments", "camera", "nuisance", "rating", "body", "slot 0", "slot 1", "slot 2")
_EXCHANGE = "exchange"  # the stream of what is exchanged; the last, so that it changes no other


def case_seed(seed: int, case: int) -> int:
    """The seed of one case of a set, a 63-bit number; cases of all sets are independent."""
    high, low = np.random.SeedSequence([seed, case]).generate_state(2, np.uint32).tolist()
    return ((high << 32) | low) >> 1


def write_script(config: SceneConfig, vocabulary: Vocabulary, skill: float, seed: int) -> Script:
    """Decide everything about one operation.

    All is drawn in seconds and then read off at the frames, so the frames of a script at 5 frames a second are every
    fifth of the same script at 25.

    Args:
        config: the scene; `seconds`, `specialty`, `nuisance` and `difficulty` matter here.
        vocabulary: the labels that may occur.
        skill: 0 novice .. 1 expert.
        seed: of this case, see `case_seed`.

    Raises:
        ValueError: for a skill outside 0..1 or a negative seed.
    """
    rngs = _generators(seed)
    kind, hands = specialty_of(config.specialty), handling(skill)
    time_T = np.arange(config.frames) / config.fps
    workflow = draw_workflow(config.specialty, vocabulary.phases, config.seconds, rngs["workflow"])
    sites_Kx3 = _draw_sites(vocabulary.targets, kind.view / config.zoom, rngs["sites"])
    instrument_SxM = _draw_held(config, vocabulary, workflow, rngs)
    courses = []
    for slot in range(SLOTS):
        rng = rngs[f"slot {slot}"]
        choose = _chooser(config.specialty, vocabulary, workflow, instrument_SxM[:, slot], rng)
        courses.append(_draw_course(slot, config, kind, hands, choose, sites_Kx3, time_T, rng))
    camera = draw_camera(kind, config.seconds, sites_Kx3, config.difficulty, rngs["camera"])
    position_Tx3, angles_Tx3 = camera(time_T)
    spoilt = draw_nuisances(config, time_T, rngs["nuisance"])
    visible_TxM = _stacked(courses, "inserted_T") & ~spoilt.out_of_body_T[:, None]
    breath_T, pulse_T = _draw_body(kind.view, time_T, rngs["body"])
    return Script(
        config=config,
        vocabulary=vocabulary,
        seed=seed,
        skill=skill,
        grs_6=draw_grs(skill, rngs["rating"]),
        phase_T=phase_at(workflow, time_T),
        triplet_TxMx3=np.where(visible_TxM[..., None], _stacked(courses, "triplet_Tx3"), NONE),
        camera_position_Tx3=_settled(position_Tx3),
        camera_angles_Tx3=_settled(angles_Tx3),
        instrument_M=instrument_SxM[0],
        port_Mx3=np.array(kind.ports, float),
        tip_TxMx3=_settled(_stacked(courses, "tip_Tx3")),
        opening_TxM=_settled(_stacked(courses, "opening_T")),
        roll_TxM=_settled(_stacked(courses, "roll_T")),
        visible_TxM=visible_TxM,
        target_site_Kx3=_settled(sites_Kx3),
        pull_TxMx3=_settled(_stacked(courses, "pull_Tx3")),
        breath_T=_settled(breath_T),
        pulse_T=_settled(pulse_T),
        smoke_T=_emitted(spoilt.smoke_T, _stacked(courses, "smoke_T"), config.strength("smoke")),
        blood_T=_settled(spoilt.blood_T),
        fluid_T=_emitted(spoilt.fluid_T, _stacked(courses, "fluid_T"), config.strength("fluid")),
        smudge_T=_settled(spoilt.smudge_T),
        brightness_T=_settled(spoilt.brightness_T),
        out_of_body_T=spoilt.out_of_body_T,
        focal=kind.focal * config.zoom,
        view=kind.view,
        instrument_TxM=_stacked(courses, "instrument_T") if config.exchange else None,
    )


def _generators(seed: int) -> dict[str, np.random.Generator]:
    """One generator for each thing that is drawn, so that none depends on how much another draws."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more")
    names = (*_STREAMS, _EXCHANGE)
    return {name: np.random.default_rng(np.random.SeedSequence([seed, n])) for n, name in enumerate(names)}


def _chooser(
    specialty: str,
    vocabulary: Vocabulary,
    workflow: tuple[Segment, ...],
    instrument_S: np.ndarray,
    rng: np.random.Generator,
) -> Callable[[float], tuple[int, int, int]]:
    """What a slot does next at a time: a triplet of the instrument that it holds in this visit, by the phase's odds."""
    odds_PxR = triplet_odds(specialty, vocabulary)
    of_instrument_IxR = np.arange(vocabulary.instruments)[:, None] == [triplet[0] for triplet in vocabulary.triplets]

    def choose(time: float) -> tuple[int, int, int]:
        visit = visit_at(workflow, np.array([time]))[0]
        odds_R = odds_PxR[workflow[visit].phase] * of_instrument_IxR[instrument_S[visit]]
        return vocabulary.triplets[rng.choice(len(odds_R), p=odds_R / odds_R.sum())]

    return choose


def _draw_course(
    slot: int,
    config: SceneConfig,
    kind: Specialty,
    hands: Handling,
    choose: Callable[[float], tuple[int, int, int]],
    sites_Kx3: np.ndarray,
    time_T: np.ndarray,
    rng: np.random.Generator,
) -> Course:
    """What slot `slot` does: its timeline with the shaking of the hand, or nothing if there is no such instrument."""
    port_3 = np.array(kind.ports[slot], float)
    # The two hands keep to their own sides of a target.
    aside_3 = np.array([0.035 * kind.view * np.sign(port_3[0]), 0.0, 0.0]) / config.zoom
    takes_part = slot < 2 or rng.random() < _ASSISTED[config.specialty]
    timeline = draw_timeline(config.seconds, kind.view, port_3, sites_Kx3 + aside_3, choose, hands, rng)
    tremor, stray = draw_waves(rng, *TREMOR_HZ, axes=3), draw_waves(rng, *STRAY_HZ, axes=3)
    course = timeline(time_T)
    shaking_Tx3 = kind.view * (hands.tremor * tremor(time_T) + hands.stray * stray(time_T) * [1, 1, 0.3])
    return course.with_tip(course.tip_Tx3 + shaking_Tx3) if takes_part else course.absent()


def _stacked(courses: list[Course], name: str) -> np.ndarray:
    return np.stack([getattr(course, name) for course in courses], axis=1)


def _draw_sites(targets: int, view: float, rng: np.random.Generator) -> np.ndarray:
    """Places [K, 3] of the targets, spread over the middle of the view: each the best of some tries."""
    placed = np.zeros((0, 3))
    for _ in range(targets):
        radius_N, angle_N = 0.28 * view * np.sqrt(rng.random(12)), 2 * np.pi * rng.random(12)
        tries_Nx3 = np.stack([radius_N * np.cos(angle_N), radius_N * np.sin(angle_N), np.zeros(12)], axis=1)
        gap_N = np.linalg.norm(tries_Nx3[:, None] - placed, axis=-1).min(axis=1, initial=view)
        placed = np.concatenate([placed, tries_Nx3[[gap_N.argmax()]]])
    return placed


def _draw_held(
    config: SceneConfig, vocabulary: Vocabulary, workflow: tuple[Segment, ...], rngs: dict[str, np.random.Generator]
) -> np.ndarray:
    """The class of each slot in each visit to a phase, [S, M]: what its phase asks for, or the same throughout."""
    if config.exchange:
        return draw_exchange(config.specialty, vocabulary, workflow, SLOTS, rngs[_EXCHANGE])
    return np.tile(_draw_instruments(vocabulary, rngs["instruments"]), (len(workflow), 1))


def _draw_instruments(vocabulary: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """The class of each slot: all different while there are enough classes that can do something."""
    able = sorted({instrument for instrument, _, _ in vocabulary.triplets})
    order = rng.permutation(able).tolist()
    return np.array([order[slot % len(order)] for slot in range(SLOTS)])


def _draw_body(view: float, time_T: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Breathing and pulse in mm: quick in, slow out; a beat and its echo."""
    breath_hz, pulse_hz = rng.uniform(0.2, 0.3), rng.uniform(1.0, 1.5)
    breath_T = 2 * np.pi * (breath_hz * time_T + rng.random())
    beat_T = 2 * np.pi * (pulse_hz * time_T + rng.random())
    height_T = 0.012 * (np.sin(breath_T) + 0.25 * np.sin(2 * breath_T))
    return view * height_T, view * 0.003 * (np.sin(beat_T) + 0.4 * np.sin(2 * beat_T + 1.0))


def _emitted(lingering_T: np.ndarray, fresh_TxM: np.ndarray, strength: float) -> np.ndarray:
    """What lingers, and above it what comes out of the instruments now."""
    fresh_T = 0.3 * strength * fresh_TxM.max(axis=1)
    return _settled(1 - (1 - np.clip(lingering_T, 0, 1)) * (1 - fresh_T))


def _settled(values: np.ndarray) -> np.ndarray:
    """Rounded to a millionth, so that the last bits of sines, which differ between processors, do not count."""
    return np.round(values, 6)
