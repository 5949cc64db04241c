"""What is measured on a picture: numbers known beforehand for pictures made for them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from surgmotion_jax.corpus import observe
from tests.corpus.scenes import letterboxed, scene

OPERATION = scene(0, 2, 4)


def smalls(video_NxHxWx3: np.ndarray) -> np.ndarray:
    return np.stack([observe.glance(picture).small_SxSx3 for picture in video_NxHxWx3])


def test_a_lost_focus_makes_a_picture_less_sharp_and_darkness_does_not():
    picture = np.zeros((200, 240, 3), np.uint8)
    picture[:, ::8] = picture[:, 1::8] = picture[:, 2::8] = 200
    soft = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(6)))
    assert observe.sharpness(picture) == 1
    assert observe.sharpness(picture // 4) == 1
    assert observe.sharpness(soft) < 0.4
    assert observe.sharpness(np.full((20, 20, 3), 7, np.uint8)) == 0


def test_the_view_is_what_lights_up_at_some_time():
    boxed = smalls(letterboxed(OPERATION, 16))  # 64 rows become 96
    view = observe.lit(boxed)
    assert view == pytest.approx((1 / 6, 0, 5 / 6, 1), abs=0.02)
    assert observe.inside(boxed, view).min() > 5
    assert observe.lit(np.zeros_like(boxed)) == observe.WHOLE


def test_changes_are_mean_differences_of_levels():
    pictures = np.zeros((3, 4, 4, 3), np.uint8)
    pictures[1:, :2] = 10
    assert observe.changes(pictures).tolist() == [np.inf, 5, 0]
    assert observe.changes(pictures[:0]).tolist() == []


def test_palettes_are_parts_of_a_picture():
    pictures = np.zeros((1, 2, 2, 3), np.uint8)
    pictures[0, 0, 0] = 255
    (palette,) = observe.palettes(pictures)
    assert palette[0] == 0.75
    assert palette[63] == 0.25
    assert palette.sum() == 1


def test_a_title_card_has_few_colours_and_an_operation_many():
    card = np.full((1, 64, 64, 3), 30, np.uint8)
    card[0, 20:30, 10:50:3] = 220
    assert observe.colours(card)[0] <= 2
    assert observe.colours(smalls(OPERATION)).min() > 8


def test_tissue_is_warm_and_drapes_are_not():
    green, skin = np.full((1, 8, 8, 3), (50, 110, 100), np.uint8), np.full((1, 8, 8, 3), (150, 70, 60), np.uint8)
    assert observe.tissue(green)[0] == 0
    assert observe.tissue(skin)[0] == 1
    assert observe.tissue(np.concatenate([green, skin], axis=1))[0] == 0.5
    assert observe.tissue(np.zeros((1, 8, 8, 3), np.uint8))[0] == 1  # a dark picture says nothing
    assert observe.tissue(smalls(OPERATION)).min() > 0.9
