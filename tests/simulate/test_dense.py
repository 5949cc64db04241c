"""Truth is consistent with itself: flow carries colour, masks end where depth or flow jumps, rest means no flow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from surgmotion_jax.simulate.case import SPECIALTIES, SceneConfig, Vocabulary
from surgmotion_jax.simulate.render import build_scene, render
from surgmotion_jax.simulate.script import write_script
from surgmotion_jax.simulate.specialty import specialty_of
from tests.simulate.hand_script import hand_script

WORDS = Vocabulary(3, 2, 4, 2, tuple((i, v, t) for i in range(2) for v in range(4) for t in range(2)))


def bilinear(picture_HxWx3, x, y):
    """Colour at fractional pixels, inside the picture."""
    height, width = picture_HxWx3.shape[:2]
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    j, i = x.astype(int), y.astype(int)
    right, down = (x - j)[..., None], (y - i)[..., None]
    grey = picture_HxWx3.astype(float)
    top = grey[i, j] * (1 - right) + grey[i, j + 1] * right
    low = grey[i + 1, j] * (1 - right) + grey[i + 1, j + 1] * right
    return top * (1 - down) + low * down


def near(mask_HxW):
    """Pixels within 1 pixel of the mask."""
    padded = np.pad(mask_HxW, 1)
    height, width = mask_HxW.shape
    return np.any([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)


def steps(field_HxW):
    """Largest difference of each pixel to a neighbour to the right or below."""
    wide = np.abs(np.diff(field_HxW, axis=1, append=field_HxW[:, -1:]))
    tall = np.abs(np.diff(field_HxW, axis=0, append=field_HxW[-1:]))
    return np.maximum(wide, tall)


@pytest.fixture(scope="module", params=SPECIALTIES)
def specialty(request):
    return request.param


@pytest.fixture
def view(specialty):
    """mm of tissue over the height of the picture."""
    return specialty_of(specialty).view


@pytest.fixture(scope="module")
def pair(specialty):
    script = hand_script(4, moving=True, specialty=specialty, height=128, width=128, lesion=True)
    return tuple(render(script, 1, 3))


def carried_error(now, then):
    """Difference in grey levels between the albedo and the next one, fetched along the flow."""
    rows, columns = np.mgrid[:128, :128]
    carried = bilinear(then.albedo_HxWx3, columns + now.flow_HxWx2[..., 0], rows + now.flow_HxWx2[..., 1])
    return np.abs(carried - now.albedo_HxWx3).max(axis=-1)


def test_albedo_carried_by_the_flow_is_the_next_albedo(pair):
    now, then = pair
    error = carried_error(now, then)
    seen = ~now.occluded_HxW
    assert 0.6 < seen[now.fov_HxW].mean() < 1
    still = np.abs(then.albedo_HxWx3.astype(int) - now.albedo_HxWx3).max(axis=-1)
    assert np.median(still[seen]) > np.median(error[seen]), "the frames differ too little to tell"
    assert np.median(error[seen]) <= 2
    assert np.quantile(error[seen], 0.9) <= 12
    assert np.median(error[seen & (now.instrument_HxW > 0)]) <= 2


def test_depth_carried_by_the_flow_is_nowhere_before_the_next_depth(pair):
    """What is not occluded is what the next frame shows there: the same instrument, or tissue."""
    now, then = pair
    rows, columns = np.mgrid[:128, :128]
    x = np.clip(np.rint(columns + now.flow_HxWx2[..., 0]), 0, 127).astype(int)
    y = np.clip(np.rint(rows + now.flow_HxWx2[..., 1]), 0, 127).astype(int)
    seen = ~now.occluded_HxW
    assert (then.instrument_HxW[y, x] == now.instrument_HxW)[seen].mean() > 0.99


def at_jumps(frame, view):
    """Of each edge pixel of the instruments' masks, whether depth or flow jumps within a pixel, bool [N].

    A jump in depth is more than tissue of slope 1 makes: two and a half times what a pixel spans on it.
    """
    depth_jump = steps(frame.depth_HxW) > 2.5 * view / frame.depth_HxW.shape[0]
    flow_jump = np.maximum(steps(frame.flow_HxWx2[..., 0]), steps(frame.flow_HxWx2[..., 1])) > 0.5
    edge = steps((frame.instrument_HxW > 0).astype(int)) > 0
    return near(depth_jump | flow_jump)[edge]


def test_masks_of_instruments_end_where_depth_or_flow_jumps(pair, view):
    at_jump_N = at_jumps(pair[0], view)
    assert len(at_jump_N) > 50
    assert at_jump_N.mean() >= 0.95


def test_the_same_in_written_operations_with_all_nuisances(specialty):
    script = write_script(SceneConfig(specialty, 128, 128, seconds=12.0, nuisance=1.0, lesion=True), WORDS, 0.3, 77)
    scene = build_scene(script)
    edges = 0
    for number in np.random.default_rng(3).choice(script.frames - 2, 5, replace=False):
        now, then = render(script, int(number), int(number) + 2, scene=scene)
        at_jump_N = at_jumps(now, script.view)
        edges += len(at_jump_N)
        assert len(at_jump_N) < 30 or at_jump_N.mean() >= 0.95, number
        assert now.occluded_HxW.all() or np.median(carried_error(now, then)[~now.occluded_HxW]) <= 2, number
    assert edges > 200


def test_nothing_moves_means_no_flow_and_nothing_hidden():
    frame = next(render(hand_script(2, lesion=True)))
    assert np.abs(frame.flow_HxWx2).max() < 2e-2
    assert not frame.occluded_HxW[frame.fov_HxW].any()


def test_a_camera_moved_sideways_moves_near_things_further():
    script = hand_script(2)
    position = script.camera_position_Tx3 + np.array([[0, 0, 0], [1.0, 0, 0]])
    frame = next(render(dataclasses.replace(script, camera_position_Tx3=position)))
    inside = frame.fov_HxW
    expected = -script.focal * 96 / frame.depth_HxW[inside]
    np.testing.assert_allclose(frame.flow_HxWx2[inside][:, 0], expected, atol=0.03)
    assert np.abs(frame.flow_HxWx2[inside][:, 1]).max() < 0.05


def test_what_an_instrument_moves_over_is_occluded_and_a_withdrawn_one_is_too():
    script = hand_script(2)
    tip = script.tip_TxMx3.copy()
    tip[1, 0] += [0.15 * script.view, 0, 0]
    now, then = render(dataclasses.replace(script, tip_TxMx3=tip))
    covered = (then.instrument_HxW == 1) & (now.instrument_HxW == 0)
    assert covered.sum() > 30
    assert now.occluded_HxW[covered].mean() > 0.9
    gone = dataclasses.replace(script, visible_TxM=np.array([[True, True], [False, True]]))
    now, then = render(gone)
    assert now.occluded_HxW[now.instrument_HxW == 1].all()
    assert not (then.instrument_HxW == 1).any()
    assert np.isnan(then.tip_Mx2[0]).all()


def test_tissue_follows_the_pull_at_a_tip():
    script = hand_script(2)
    pull = np.zeros_like(script.pull_TxMx3)
    pull[1, 0] = [0.04 * script.view, 0, 0]
    tip = script.tip_TxMx3 + pull
    frame = next(render(dataclasses.replace(script, pull_TxMx3=pull, tip_TxMx3=tip)))
    x, y = np.rint(frame.tip_Mx2[0]).astype(int)
    tissue = frame.instrument_HxW == 0
    rows, columns = np.mgrid[:96, :96]
    away = np.hypot(rows - y, columns - x)
    right = frame.flow_HxWx2[..., 0]
    assert right[tissue & frame.fov_HxW & (away < 12)].mean() > 4 * right[tissue & frame.fov_HxW & (away > 45)].mean()


def test_tips_are_on_their_instruments_and_the_lesion_is_found_only_where_there_is_one():
    frame = next(render(hand_script(1, lesion=True, specialty="endoscopic")))
    for slot, (x, y) in enumerate(frame.tip_Mx2):
        assert near(near(frame.instrument_HxW == slot + 1))[round(y), round(x)]
    assert frame.lesion_HxW.sum() > 30
    assert not (frame.lesion_HxW & (frame.instrument_HxW > 0)).any()
    assert not next(render(hand_script(1, specialty="endoscopic"))).lesion_HxW.any()
