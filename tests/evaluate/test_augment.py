"""Windows that are mirrored and moved in fine-tuning: with their maps, each by its own draw, and never their labels."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from surgmotion_jax.evaluate.config import FinetuneConfig
from surgmotion_jax.evaluate.finetune.augment import augmented
from surgmotion_jax.evaluate.heads.sweep_program import Batch

WINDOWS, FRAMES, SIDE = 64, 2, 10
MOST = 3  # pixels of a shift of .3
LABEL_B = np.arange(WINDOWS)


def batch(maps: bool):
    """Windows whose every pixel says where it was, and in dense tasks a map that says the same."""
    rows_SxS, columns_SxS = np.mgrid[:SIDE, :SIDE]
    pixel_SxSx3 = np.stack([rows_SxS, columns_SxS, np.full((SIDE, SIDE), 7)], -1).astype(np.uint8)
    video = np.broadcast_to(pixel_SxSx3, (WINDOWS, FRAMES, SIDE, SIDE, 3))
    if not maps:
        return Batch(video, LABEL_B, np.ones(WINDOWS, bool))
    target = np.broadcast_to((SIDE * rows_SxS + columns_SxS).astype(np.float32), (WINDOWS, SIDE, SIDE))
    return Batch(video, target, np.ones((WINDOWS, SIDE, SIDE), bool))


def changed(settings, maps=False, key=0):
    made = augmented(settings, jax.random.key(key), batch(maps))
    return jax.tree.map(np.asarray, made)


def test_nothing_is_changed_unless_asked():
    given = batch(maps=True)
    assert augmented(FinetuneConfig("full"), jax.random.key(0), given) is given


def test_about_half_of_the_windows_are_mirrored_whole():
    columns = changed(FinetuneConfig("full", flips=True)).features[..., 1]
    mirrored_B = (columns == np.arange(SIDE)[::-1]).all((1, 2, 3))
    assert (mirrored_B | (columns == np.arange(SIDE)).all((1, 2, 3))).all()
    assert 16 < mirrored_B.sum() < 48


def test_each_window_is_moved_by_its_own_number_of_pixels_all_frames_alike():
    made = changed(FinetuneConfig("full", shift=0.3))
    rows, columns = made.features[..., 0].astype(int), made.features[..., 1].astype(int)
    down_B, right_B = rows[:, 0, 5, 0] - 5, columns[:, 0, 0, 5] - 5
    for found_B in (down_B, right_B):
        assert set(found_B.tolist()) == set(range(-MOST, MOST + 1))
    assert len(set(zip(down_B.tolist(), right_B.tolist(), strict=True))) > 20
    expected = np.clip(np.arange(SIDE) + down_B[:, None], 0, SIDE - 1)
    np.testing.assert_array_equal(rows, np.broadcast_to(expected[:, None, :, None], rows.shape))
    np.testing.assert_array_equal(made.target, LABEL_B)
    assert made.mask.all()


def test_maps_go_with_their_pictures_and_what_was_repeated_at_an_edge_does_not_count():
    made = changed(FinetuneConfig("full", flips=True, shift=0.3), maps=True)
    picture = made.features[:, 0].astype(np.float32)
    np.testing.assert_array_equal(made.target, SIDE * picture[..., 0] + picture[..., 1])
    for target_SxS, mask_SxS in zip(made.target, made.mask, strict=True):
        counted = target_SxS[mask_SxS]
        assert len(set(counted.tolist())) == len(counted)  # no place twice
        assert len(counted) == len(set(target_SxS.reshape(-1).tolist()))  # and none that is seen left out


def test_a_key_decides_and_rows_that_fill_up_a_batch_do_not_matter():
    settings = FinetuneConfig("full", flips=True, shift=0.3)
    whole, other = changed(settings), changed(settings, key=1)
    assert (whole.features != other.features).any()
    part = jax.tree.map(lambda x: x[:5], batch(maps=False))
    np.testing.assert_array_equal(augmented(settings, jax.random.key(0), part).features, whole.features[:5])


@pytest.mark.parametrize("wrong", [-0.1, 0.6, float("nan")])
def test_a_shift_that_is_no_share_is_refused(wrong):
    with pytest.raises(ValueError, match=r"finetune\.shift"):
        FinetuneConfig("full", shift=wrong)
