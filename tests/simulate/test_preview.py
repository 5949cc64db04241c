"""Contact sheets: a column a frame, outlines where masks end, colours that mean what the docstring says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from surgmotion_jax.simulate.preview import contact_sheet, depth_colours, flow_colours, outlined
from surgmotion_jax.simulate.render import render
from tests.simulate.hand_script import hand_script


@pytest.fixture(scope="module")
def frames():
    return list(render(hand_script(3, moving=True, lesion=True)))


def test_a_sheet_has_a_column_a_frame_and_room_for_the_longest_caption(frames):
    short = contact_sheet(frames, ["a", "b", "c"])
    long = contact_sheet(frames, ["a", "b", "grasper retract gallbladder " * 3])
    assert short.dtype == np.uint8
    assert short.shape[1:] == (3 * 96, 3)
    assert short.shape[0] > 3 * 96
    assert long.shape[0] > short.shape[0]
    assert (short[3 * 96 :].max(axis=(1, 2)) > 150).any(), "no text is drawn"


def test_outlines_and_crosses_change_the_rims_of_masks_only(frames):
    frame = frames[0]
    changed = (outlined(frame) != frame.video_HxWx3).any(axis=-1)
    assert 0.003 < changed.mean() < 0.2
    bare = dataclasses.replace(
        frame,
        instrument_HxW=np.zeros_like(frame.instrument_HxW),
        lesion_HxW=np.zeros_like(frame.lesion_HxW),
        tip_Mx2=np.full_like(frame.tip_Mx2, np.nan),
    )
    np.testing.assert_array_equal(outlined(bare), frame.video_HxWx3)


def test_near_is_yellow_far_is_violet_and_unknown_black(frames):
    depth = np.full((96, 96), 50, np.float32)
    depth[:, :40], depth[:, 60:], depth[:4] = 20, 90, 0
    colours = depth_colours(dataclasses.replace(frames[0], depth_HxW=depth)).astype(int)
    assert colours[50, 10, 0] > 200 > colours[50, 10, 2]
    assert colours[50, 80, 2] > colours[50, 80, 1]
    assert not colours[:4].any()
    assert not depth_colours(dataclasses.replace(frames[0], depth_HxW=np.zeros((96, 96), np.float32))).any()


def test_flow_without_motion_is_white_opposite_motions_differ_and_the_last_frame_is_grey(frames):
    def colour(right, down, hidden=False):
        flow = np.broadcast_to(np.array([right, down], np.float32), (96, 96, 2))
        frame = dataclasses.replace(
            frames[0], flow_HxWx2=flow, occluded_HxW=np.full((96, 96), hidden), depth_HxW=np.ones((96, 96), np.float32)
        )
        return flow_colours(frame, 4.0)[50, 50].astype(int)

    assert (colour(0, 0) == 255).all()
    assert np.abs(colour(4, 0) - colour(-4, 0)).max() > 100
    assert np.abs(colour(0, 4) - colour(0, -4)).max() > 100
    assert (colour(0, 0, hidden=True) < 200).all()
    assert (flow_colours(frames[-1], 4.0) == 96).all()


@pytest.mark.parametrize("count", [0, 2])
def test_captions_must_match_frames(frames, count):
    with pytest.raises(ValueError, match="frames and 1 captions; give one caption to each frame"):
        contact_sheet(frames[:count], ["only one"])
