"""Clips of one frame: images of any size out of folders, or frames from the training part of other clips' videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig
from surgmotion_jax.data.media import covering

CONFIG = DataConfig(sources={"d": SourceConfig("unset")}, frames=1, fps=1.0, canvas=(32, 48), holdout=0.0)
SIZES = [(64, 64), (40, 96), (200, 50), (33, 49), (32, 48)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of one grey value each, of several sizes."""
    for number, (height, width) in enumerate(SIZES):
        Image.new("RGB", (width, height), (40 * number,) * 3).save(tmp_path / f"{number}.png")
    return tmp_path


def dataset_of(folder: Path, **changes) -> ClipDataset:
    return ClipDataset(replace(CONFIG, sources={"d": SourceConfig(str(folder))}, **changes), seed=0)


def test_every_image_is_drawn_whatever_its_size(folder):
    dataset = dataset_of(folder)
    drawn = [dataset.clip(i) for i in range(200)]
    assert {clip.video_TxHxWx3.shape for clip in drawn} == {(1, 32, 48, 3)}
    values, counts = np.unique([clip.video_TxHxWx3[0, 0, 0, 0] for clip in drawn], return_counts=True)
    assert values.tolist() == [40 * number for number in range(len(SIZES))]
    assert counts.min() > 20, "all alike often"
    assert all(np.ptp(clip.video_TxHxWx3) == 0 for clip in drawn), "the whole canvas is covered"


def test_longer_clips_still_want_images_of_one_size(folder):
    with pytest.raises(ValueError, match=r"image of 96 x 40 pixels in a folder that starts with 64 x 64"):
        dataset_of(folder, frames=5, bad_budget=0.0).clip(0)


def test_a_damaged_image_is_replaced_by_another(folder):
    (folder / "1.png").write_bytes(b"no image")
    dataset = dataset_of(folder)
    faults = [fault for i in range(40) for fault in dataset.draw(i)[1]]
    assert faults
    assert "image does not decode" in faults[0].reason


@pytest.mark.parametrize("size", [(64, 64), (40, 96), (200, 50), (7, 999)])
def test_a_covering_size_covers_and_keeps_the_shape(size):
    height, width = covering(size, (32, 48))
    assert height >= 32
    assert width >= 48
    assert height == 32 or width == 48
    assert width / height == pytest.approx(size[1] / size[0], rel=0.05)


def test_frames_come_from_the_training_part_of_the_clips_videos(three_videos, number_of):
    clips = DataConfig(sources={"d": SourceConfig(str(three_videos))}, frames=4, fps=5.0, canvas=(80, 96), holdout=0.2)
    whole = ClipDataset(clips, seed=0)
    frames = ClipDataset(replace(clips, frames=1), seed=1, catalogue=whole.catalogue)
    seen = {(clip.case, number_of(clip.video_TxHxWx3[0])) for clip in map(frames.clip, range(80))}
    assert len(seen) > 40
    stretches = {video.file.case: video for video in whole.catalogue.videos}
    for case, number in seen:
        video = stretches[case]
        assert video.train is not None
        assert number / video.info.fps <= video.train[1] < video.heldout[0]
