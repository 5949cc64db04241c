"""Colours of features: foreground first, the same whatever the axes of the features."""

from __future__ import annotations

import numpy as np

from surgmotion_jax.evaluate.features.pca_video import box_cells, fit_palette, shown_places, side_by_side
from surgmotion_jax.evaluate.features.windows import WindowPlan, due_times, real_frames, window_starts


def scene(seed: int = 0, size: int = 12, width: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens [h,w,D] of a middle of four parts before a background, the rim [h,w], and the middle's parts [h,w]."""
    rng = np.random.default_rng(seed)
    part_hxw = np.full((size, size), -1)
    part_hxw[3:9, 3:9] = np.arange(36).reshape(6, 6) // 9
    token_hxwxD = rng.normal(size=(size, size, width)) * 0.1
    token_hxwxD[part_hxw >= 0, 0] += 6
    for part in range(4):
        token_hxwxD[part_hxw == part, 1 + part] += 2 + part
    rim_hxw = np.ones((size, size), bool)
    rim_hxw[1:-1, 1:-1] = False
    return token_hxwxD, rim_hxw, part_hxw


def paint(token_hxwxD, rim_hxw):
    palette = fit_palette(token_hxwxD.reshape(-1, token_hxwxD.shape[-1]), rim_hxw.reshape(-1))
    return palette(token_hxwxD)


def test_the_middle_is_foreground_and_its_parts_have_colours_of_their_own():
    token, rim, part = scene()
    colour, front = paint(token, rim)
    np.testing.assert_array_equal(front, part >= 0)
    means = np.stack([colour[part == p].mean(0) for p in range(4)])
    apart = np.linalg.norm(means[:, None] - means[None], axis=-1)[np.triu_indices(4, 1)]
    assert apart.min() > 0.5
    assert max(colour[part == p].std(0).max() for p in range(4)) < 0.2


def test_a_foreground_at_the_rim_is_not_chosen_by_sign_alone():
    token, rim, part = scene()
    for sign in (1, -1):
        np.testing.assert_array_equal(paint(sign * token, rim)[1], part >= 0)


def test_colours_do_not_depend_on_the_axes_of_the_features():
    token, rim, _ = scene()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0]
    colour, front = paint(token, rim)
    turned_colour, turned_front = paint(token @ rotation * 3 + 5, rim)
    np.testing.assert_array_equal(turned_front, front)
    np.testing.assert_allclose(turned_colour[front], colour[front], atol=1e-3)


def test_a_scene_without_background_is_coloured_whole():
    token = np.random.default_rng(0).normal(size=(12, 12, 8)) * np.array([4, 3, 2, 1, 1, 1, 1, 1])
    colour, front = paint(token, scene()[1])
    assert front.all()
    assert colour.reshape(-1, 3).std(0).min() > 0.1


def test_each_moment_is_shown_once_from_the_nearest_window():
    plan = WindowPlan(8, 4.0, 1.0)
    due = due_times(window_starts(1.0, 6.0, plan), plan)
    real = real_frames(due, 6.0)
    places = shown_places(due, real, 4.0, 100.0)
    moments = np.array([due[place] for place in places])
    np.testing.assert_allclose(moments, np.arange(1.0, 6.0, 0.25))
    assert all(real[place] for place in places)
    middle = due.mean(axis=1)
    for (window, _), moment in zip(places, moments, strict=True):
        held = [w for w in range(len(due)) if (np.abs(due[w] - moment) < 1e-9).any()]
        assert abs(middle[window] - moment) <= min(abs(middle[w] - moment) for w in held) + 1e-9
    assert len(shown_places(due, real, 4.0, 2.0)) == 8


def test_moments_between_windows_are_left_out():
    plan = WindowPlan(4, 4.0, 2.0)
    due = due_times(window_starts(0.0, 5.0, plan), plan)
    moments = [due[place] for place in shown_places(due, real_frames(due, 5.0), 4.0, 100.0)]
    np.testing.assert_allclose(moments, [0, 0.25, 0.5, 0.75, 2, 2.25, 2.5, 2.75, 4, 4.25, 4.5, 4.75])


def test_patches_in_bars_do_not_count():
    inside, rim = box_cells((8, 0, 16, 32), 4, 4, 32)
    np.testing.assert_array_equal(inside, np.array([0, 1, 1, 0])[:, None] * np.ones((1, 4)))
    np.testing.assert_array_equal(rim, inside)
    inside, rim = box_cells((0, 0, 32, 32), 4, 4, 32)
    assert inside.all()
    assert (~rim).sum() == 4


def test_the_two_pictures_are_cut_to_the_video_and_the_background_is_dark():
    frame = np.full((32, 32, 3), 200, np.uint8)
    front = np.zeros((4, 4), bool)
    front[:, 2:] = True
    picture = side_by_side(frame, np.ones((4, 4, 3)), front, (8, 0, 16, 32))
    rows, columns = picture.shape[:2]
    assert (rows % 2, columns % 2) == (0, 0)
    assert rows >= 320
    left, right = picture[:, : columns // 2 - 4], picture[:, columns // 2 + 4 :]
    assert (left == 200).all()
    assert right[:, : right.shape[1] // 4].max() < 40
    assert right[:, -right.shape[1] // 4 :].min() > 230


def test_a_box_without_a_patch_centre_has_the_row_or_column_of_its_middle():
    inside, rim = box_cells((13, 0, 6, 32), 2, 2, 32)  # a wide video at 32 pixels: rows 13 to 18, centres at 8 and 24
    np.testing.assert_array_equal(inside, [[True, True], [False, False]])
    np.testing.assert_array_equal(rim, inside)
    inside, _ = box_cells((0, 14, 32, 4), 2, 2, 32)
    np.testing.assert_array_equal(inside, [[True, False], [True, False]])
    assert box_cells((0, 0, 32, 32), 2, 2, 32)[0].all()
