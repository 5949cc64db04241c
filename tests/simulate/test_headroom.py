"""What an operation can be asked to have beyond the usual: instruments that are exchanged, a closer view, nuisances one
by one and stronger."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from surgmotion_jax.simulate.case import NONE, NUISANCES, SceneConfig, Script
from surgmotion_jax.simulate.generate import SetConfig, generate
from surgmotion_jax.simulate.instruments import EXCHANGED_KINDS, cones_of, poses_at
from surgmotion_jax.simulate.layouts.layout import plain_vocabulary
from surgmotion_jax.simulate.render import build_scene, render
from surgmotion_jax.simulate.script import SLOTS, write_script
from surgmotion_jax.simulate.truth import load_truth
from surgmotion_jax.simulate.workflow import instruments_of_phases
from tests.simulate import fake_renderer

VOCABULARY = plain_vocabulary(7, instruments=len(EXCHANGED_KINDS), triplets=28)
SCHEDULES = {"smoke": "smoke_T", "blood": "blood_T", "fluid": "fluid_T", "smudge": "smudge_T"}


def script(seed: int = 1, **scene: object) -> Script:
    return write_script(SceneConfig(**{"seconds": 240.0, "fps": 5.0, **scene}), VOCABULARY, 0.5, seed)


# ---- exchange ----


def test_phases_ask_for_instruments_of_their_own_in_every_case() -> None:
    asked_PxM = instruments_of_phases("laparoscopic", VOCABULARY, SLOTS)
    assert set(asked_PxM[:, 0].tolist()) == {0}  # the left hand keeps its grasper
    assert len(set(asked_PxM[:, 1].tolist())) >= 6
    assert all(len(set(row)) == SLOTS for row in asked_PxM.tolist())
    np.testing.assert_array_equal(asked_PxM, instruments_of_phases("laparoscopic", VOCABULARY, SLOTS))


@pytest.mark.parametrize("seed", range(4))
def test_an_instrument_changes_only_while_it_is_outside_and_triplets_follow(seed: int) -> None:
    one = script(seed, exchange=True)
    assert one.instrument_TxM is not None
    changes_TxM = np.diff(one.instrument_TxM, axis=0) != 0
    seen_TxM = one.visible_TxM & ~one.out_of_body_T[:, None]
    assert changes_TxM.sum() >= 3
    assert not (changes_TxM & seen_TxM[1:]).any()
    acting_TxM = one.triplet_TxMx3[..., 0] != NONE
    np.testing.assert_array_equal(one.triplet_TxMx3[..., 0][acting_TxM], one.instrument_TxM[acting_TxM])
    assert {tuple(t) for t in one.triplet_TxMx3[acting_TxM].tolist()} <= set(VOCABULARY.triplets)


def test_what_a_hand_holds_is_mostly_what_its_phase_asks_for() -> None:
    asked_PxM = instruments_of_phases("laparoscopic", VOCABULARY, SLOTS)
    shares = []
    for seed in range(6):
        one = script(seed, exchange=True)
        acting_T = one.triplet_TxMx3[:, 1, 0] != NONE
        shares.append((one.triplet_TxMx3[acting_T, 1, 0] == asked_PxM[one.phase_T[acting_T], 1]).mean())
    assert 0.5 < np.mean(shares) < 0.98


def test_without_exchange_each_slot_keeps_its_instrument() -> None:
    one = script()
    assert one.instrument_TxM is None
    assert one.instruments_at(7).tolist() == one.instrument_M.tolist()


def test_the_seventh_kind_is_a_bag_wider_than_any_other_tool() -> None:
    assert EXCHANGED_KINDS[6] == "bag"
    one = script(seconds=1.0, exchange=True)
    widest = {}
    for number, kind in enumerate(EXCHANGED_KINDS):
        held = dataclasses.replace(one, instrument_TxM=np.full_like(one.instrument_TxM, number))
        (pose, *_) = poses_at(held, 0).values()
        assert pose.tool.kind == kind
        widest[kind] = max(max(cone[3:]) for cone in cones_of(pose))
    assert widest["bag"] > 1.5 * max(width for kind, width in widest.items() if kind != "bag")


# ---- a closer view ----


def share(zoom: float) -> float:
    """Mean share of the pictures that instruments fill, over moments at which both hands are at work."""
    one = script(3, zoom=zoom, fps=1.0, seconds=60.0, height=64, width=64, nuisance=0.0)
    scene, working = build_scene(one), np.flatnonzero((one.triplet_TxMx3[:, :2, 0] != NONE).all(1))[:8].tolist()
    drawn = [next(render(one, number, number + 1, truth=False, scene=scene)) for number in working]
    return float(np.mean([frame.instrument_HxW > 0 for frame in drawn]))


def test_in_a_closer_view_instruments_fill_more_of_the_picture() -> None:
    usual, close = share(1.0), share(3.0)
    assert usual > 0.03
    assert close > 1.5 * usual


def test_a_closer_view_is_lit_as_the_usual_one_and_shows_the_work() -> None:
    wide, close = (script(3, zoom=zoom, fps=1.0, seconds=40.0, height=64, width=64) for zoom in (1.0, 2.5))
    bright = [next(render(one, 20, 21, truth=False)).video_HxWx3.mean() for one in (wide, close)]
    assert 0.6 < bright[1] / bright[0] < 1.7
    tips = [frame.tip_Mx2 for frame in render(close, truth=False)]
    acting_TxM = close.triplet_TxMx3[..., 0] != NONE
    within = (np.abs(np.stack(tips) - 31.5) < 32).all(-1)[acting_TxM]
    assert within.mean() > 0.85


# ---- nuisances ----


@pytest.mark.parametrize("name", NUISANCES)
def test_each_nuisance_goes_as_it_would_with_all_others(name: str) -> None:
    every, alone = script(nuisance=1.0), script(nuisance=1.0, nuisances=(name,))
    for other, schedule in SCHEDULES.items():
        wanted = getattr(every, schedule) if other == name else np.zeros(every.frames)
        if other not in ("smoke", "fluid") or name != other:
            np.testing.assert_array_equal(getattr(alone, schedule), wanted)
    np.testing.assert_array_equal(alone.brightness_T, every.brightness_T if name == "brightness" else 1.0)
    np.testing.assert_array_equal(alone.out_of_body_T, every.out_of_body_T & (name == "outside"))
    np.testing.assert_array_equal(alone.tip_TxMx3, every.tip_TxMx3)
    assert alone.config.strength(name) == 1
    assert sum(alone.config.strength(other) for other in NUISANCES) == 1


def test_a_strength_beyond_the_strongest_stays_within_bounds() -> None:
    once, twice = script(nuisance=1.0), script(nuisance=2.0)
    for schedule in SCHEDULES.values():
        assert getattr(twice, schedule).mean() > 1.3 * getattr(once, schedule).mean()
        assert 0 <= getattr(twice, schedule).min() <= getattr(twice, schedule).max() <= 1
    picture = next(render(script(nuisance=2.0, seconds=2.0, height=64, width=64), 3, 4, truth=False)).video_HxWx3
    assert picture.std() > 1


def test_cases_of_a_set_have_strengths_evenly_spread_and_their_truth_says_which(tmp_path) -> None:
    config = SetConfig("cholec80", 5, 2.0, height=64, width=64, nuisance=0.0, nuisance_to=2.0)
    cases = generate(config, tmp_path, draw=fake_renderer.draw)
    found = [float(load_truth(tmp_path, case.id)["nuisance"]) for case in cases]
    assert sorted(found) == [0, 0.5, 1, 1.5, 2]
    assert found != sorted(found)  # dealt, so that a strength goes with no part of the order
    assert found == [case.script.config.nuisance for case in cases]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nuisance_to": 2.5}, r"scene.nuisance is 2.5; it must lie in \[0.0, 2.0\]"),
        ({"nuisances": ("smok",)}, r"scene.nuisances is 'smok'; it must be one of smoke, .* Did you mean 'smoke'"),
        ({"zoom": 0.5}, r"scene.zoom is 0.5; it must lie in \[1.0, 4.0\]"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        generate(SetConfig("cholec80", 3, 2.0, height=64, width=64, **changes), tmp_path / "set")
    assert not (tmp_path / "set").exists()
