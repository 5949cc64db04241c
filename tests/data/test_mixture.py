"""The sampling rule: by formula, by its consequences, and by counting draws."""

from collections import Counter

import pytest

from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig
from surgmotion_jax.data.mixture import clip_weights, shares

CLIPS = {"brain": 7_800, "eye1": 1_000, "eye2": 30, "eye3": 170}
SPECIALTY = {"brain": "neuro", "eye1": "eye", "eye2": "eye", "eye3": "eye"}


def test_weight_is_one_over_clips_times_datasets_of_the_specialty():
    assert clip_weights(CLIPS, SPECIALTY) == {
        "brain": 1 / 7_800,
        "eye1": 1 / (1_000 * 3),
        "eye2": 1 / (30 * 3),
        "eye3": 1 / (170 * 3),
    }


def test_specialties_weigh_the_same_and_share_evenly():
    assert shares(CLIPS, SPECIALTY) == pytest.approx({"brain": 1 / 2, "eye1": 1 / 6, "eye2": 1 / 6, "eye3": 1 / 6})


def test_errors_name_the_dataset():
    with pytest.raises(ValueError, match="dataset 'b' has 0 clips"):
        clip_weights({"a": 1, "b": 0}, {"a": "x", "b": "x"})
    with pytest.raises(ValueError, match=r"dataset 'b' has no specialty; known are \['a'\]"):
        clip_weights({"a": 1, "b": 2}, {"a": "x"})


def test_counted_draws_follow_the_rule(tmp_path, write_video):
    """Three datasets, two specialties; within a dataset, videos are drawn by their number of clips."""
    for name, lengths in (("brain", [60, 160]), ("eye1", [40]), ("eye2", [41, 50])):
        for i, frames in enumerate(lengths):
            write_video(tmp_path / name / f"{name}{i}.mp4", frames=frames)
    sources = {name: SourceConfig(str(tmp_path / name), name.rstrip("12")) for name in ("brain", "eye1", "eye2")}
    dataset = ClipDataset(DataConfig(sources=sources, frames=4, fps=2.0, holdout=0.0), seed=0)
    assert dataset.share == pytest.approx({"brain": 1 / 2, "eye1": 1 / 4, "eye2": 1 / 4})
    draws = 8_000
    windows = [dataset.window(i) for i in range(draws)]
    by_dataset = Counter(w.video.file.dataset for w in windows)
    for name, share in dataset.share.items():
        # Four standard deviations of a binomial count.
        assert abs(by_dataset[name] - share * draws) < 4 * (share * (1 - share) * draws) ** 0.5
    # 6 s and 16 s hold 1 + floor((length - 1.5) * 2) = 10 and 30 clips.
    by_video = Counter(w.video.file.case for w in windows)
    expected = by_dataset["brain"] * 10 / 40
    assert abs(by_video["brain0"] - expected) < 4 * (expected * 3 / 4) ** 0.5
    # Starts are uniform over what the video allows.
    starts = [w.start_s for w in windows if w.video.file.case == "brain1"]
    assert min(starts) >= 0
    assert max(starts) < 16 - 1.5
    assert sum(starts) / len(starts) == pytest.approx(14.5 / 2, abs=4 * 14.5 / 12**0.5 / len(starts) ** 0.5)
