"""Frames in a square: what each way of resizing keeps, and reading many windows in one pass."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.write_video import VideoWriter
from surgmotion_jax.evaluate.features.window_frames import content_box, decoded_size, read_windows


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("v") / "x.mp4"
    with VideoWriter(path, 10) as writer:
        for t in range(30):
            frame = np.full((40, 80, 3), 8 * t, np.uint8)
            frame[:, :20], frame[:, 60:] = 255, 255  # white sides
            writer.add(frame)
    return str(path)


def test_what_each_resize_keeps(video):
    info, time = probe(video), np.array([[1.0]])
    letterbox, squash, crop = (read_windows(info, time, 40, r)[0, 0] for r in ("letterbox", "squash", "center_crop"))
    assert letterbox.shape == squash.shape == crop.shape == (40, 40, 3)
    assert letterbox[:10].max() == letterbox[30:].max() == 0
    assert letterbox[15, 2].min() > 240
    assert squash[0, 2].min() > 240
    assert abs(int(squash[0, 20, 0]) - 80) < 8
    assert abs(crop[0, 2:38].astype(int) - 80).max() < 8  # the white sides are gone


def test_the_content_box_is_what_is_not_a_bar(video):
    info = probe(video)
    assert content_box(info, 40, "letterbox") == (10, 0, 20, 40)
    assert content_box(info, 40, "squash") == content_box(info, 40, "center_crop") == (0, 0, 40, 40)
    top, _, rows, _ = content_box(info, 40, "letterbox")
    frame = read_windows(info, np.array([[1.0]]), 40, "letterbox")[0, 0]
    np.testing.assert_array_equal(np.flatnonzero(frame.max(axis=(1, 2))), np.arange(top, top + rows))


def test_windows_read_together_are_the_windows_read_alone(video):
    info = probe(video)
    time_WxT = np.array([[0.0, 0.5, 1.0], [0.5, 1.0, 1.5], [0.3, 2.9, 2.9]])
    together = read_windows(info, time_WxT, 40, "squash")
    alone = np.stack([read_frames(video, times.tolist(), (40, 40), seek=False) for times in time_WxT])
    assert len({int(frame[20, 20, 0]) // 4 for frame in alone.reshape(-1, 40, 40, 3)}) == 6
    np.testing.assert_array_equal(together, alone)


def test_another_resize_is_refused(video):
    with pytest.raises(ValueError, match="resize is 'pad'.*letterbox, squash, center_crop"):
        decoded_size(probe(video), 40, "pad")
