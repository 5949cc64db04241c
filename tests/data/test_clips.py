"""Clips: pure draws, disjoint splits, padding, crops, the memory cache and the budget."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.data import BudgetExceeded, ClipDataset, DataConfig, SourceConfig, check, describe
from surgmotion_jax.data.sample import Sample

CONFIG = DataConfig(sources={"unset": SourceConfig("unset")}, frames=4, fps=5.0, canvas=(80, 80), holdout=0.2)


def _config(folder: Path, **changes) -> DataConfig:
    return replace(CONFIG, sources={"d": SourceConfig(str(folder))}, **changes)


def _same(one: Sample, other: Sample) -> bool:
    equal = np.array_equal(one.video_TxHxWx3, other.video_TxHxWx3) and np.array_equal(one.valid_T, other.valid_T)
    return equal and one.origin == other.origin


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_clip_is_a_pure_function_of_seed_split_and_index(three_videos, split):
    first = ClipDataset(_config(three_videos), seed=7)
    order = [5, 0, 5, 3]
    clips = {i: first.clip(i, split) for i in order}
    again = pickle.loads(pickle.dumps(ClipDataset(_config(three_videos, threads=1), seed=7)))
    assert all(_same(clips[i], again.clip(i, split)) for i in order)
    for clip in clips.values():
        check(clip)
    assert not _same(clips[0], clips[3])
    other = ClipDataset(_config(three_videos), seed=8)
    assert not all(_same(clips[i], other.clip(i, split)) for i in order)


def test_large_seed_and_index_are_allowed_and_negative_ones_not(three_videos):
    dataset = ClipDataset(_config(three_videos), seed=2**64 - 1)
    assert dataset.window(2**32 - 1) != dataset.window(2**32 - 2)
    with pytest.raises(ValueError, match="data seed: found -1"):
        ClipDataset(_config(three_videos), seed=-1)
    with pytest.raises(ValueError, match="clip index: found -1"):
        dataset.window(-1)
    with pytest.raises(ValueError, match=r"split: found 'test', allowed are train \| heldout"):
        dataset.window(0, "test")


def _frame_numbers(dataset: ClipDataset, split: str, count: int, number_of) -> dict[str, set[int]]:
    seen: dict[str, set[int]] = {}
    for i in range(count):
        clip = dataset.clip(i, split)
        seen.setdefault(clip.case, set()).update(number_of(frame) for frame in clip.video_TxHxWx3)
    return seen


def test_no_frame_is_trained_on_and_held_out(three_videos, number_of):
    # Wider than high: the whole height is kept, and the canvas is as wide as the frame, so numbers stay legible.
    dataset = ClipDataset(_config(three_videos, canvas=(80, 96)), seed=0)
    train = _frame_numbers(dataset, "train", 120, number_of)
    heldout = _frame_numbers(dataset, "heldout", 3 * dataset.size("heldout"), number_of)
    assert set(train) == set(heldout) == {"a", "b", "c"}
    for case, frames in (("a", 80), ("b", 120), ("c", 160)):
        assert max(train[case]) < min(heldout[case])
        assert min(heldout[case]) == round(0.8 * frames)


def test_held_out_neighbours_come_from_different_videos(three_videos):
    dataset = ClipDataset(_config(three_videos), seed=0)
    windows = [dataset.window(i, "heldout") for i in range(20)]
    cases = [window.video.file.case for window in windows]
    assert all(one != other for one, other in pairwise(cases))
    assert cases[:3] == cases[3:6]
    # 20 % of 8, 12 and 16 s hold 2, 3 and 4 clips of 0.8 s; a video's clips take turns.
    assert dataset.size("heldout") == 2 + 3 + 4
    for case, count in (("a", 2), ("b", 3), ("c", 4)):
        starts = [w.start_s for w in windows if w.video.file.case == case]
        assert len(set(starts)) == count
        assert starts[count] == starts[0]
    assert all(w.place_YX == (0.5, 0.5) for w in windows)


def test_whole_cases_are_held_out(three_videos):
    config = _config(three_videos, holdout_by="case", holdout=0.34)
    dataset = ClipDataset(config, seed=0)
    train = {dataset.window(i).video.file.case for i in range(200)}
    heldout = {dataset.window(i, "heldout").video.file.case for i in range(200)}
    assert len(heldout) == 1
    assert train | heldout == {"a", "b", "c"}
    assert not train & heldout
    splits = {ClipDataset(config, seed).window(0, "heldout").video.file.case for seed in range(12)}
    assert len(splits) > 1


def test_case_holdout_needs_two_cases(three_videos):
    with pytest.raises(ValueError, match=r"holdout_by = 'case': every dataset has only one case"):
        ClipDataset(_config(three_videos / "a.mp4", holdout_by="case"), seed=0)


def test_time_holdout_needs_a_video_of_two_clips(tmp_path, write_video):
    write_video(tmp_path / "x.mp4", frames=10)
    with pytest.raises(ValueError, match=r"holdout = 0.2: no video is long enough .* holdout_by = 'case'"):
        ClipDataset(_config(tmp_path), seed=0)
    dataset = ClipDataset(_config(tmp_path, holdout=0.0), seed=0)
    assert dataset.size("heldout") == 0
    with pytest.raises(ValueError, match="split 'heldout' is empty: data config field holdout is 0"):
        dataset.clip(0, "heldout")


def test_short_video_is_padded_with_its_last_frame(tmp_path, write_video, number_of):
    write_video(tmp_path / "x.mp4", frames=5)
    dataset = ClipDataset(_config(tmp_path, holdout=0.0, canvas=(80, 96)), seed=0)
    clip = dataset.clip(0)
    assert clip.time == 0.0
    assert clip.valid_T.tolist() == [True, True, True, False]
    assert [number_of(frame) for frame in clip.video_TxHxWx3] == [0, 2, 4, 4]
    np.testing.assert_array_equal(clip.video_TxHxWx3[2], clip.video_TxHxWx3[3])


def test_short_video_is_skipped_and_counted(tmp_path, write_video):
    write_video(tmp_path / "short.mp4", frames=5)
    with pytest.raises(ValueError, match=r"source 'd': no readable video .* short = 'skip'.*\n.*short\.mp4: 0\.50 s"):
        ClipDataset(_config(tmp_path, holdout=0.0, short="skip"), seed=0)
    write_video(tmp_path / "long.mp4", frames=50)
    dataset = ClipDataset(_config(tmp_path, holdout=0.0, short="skip"), seed=0)
    assert {dataset.window(i).video.file.case for i in range(20)} == {"long"}
    assert [row["short"] for row in describe(dataset)] == [1]


def test_segment_of_a_csv_bounds_its_clips(tmp_path, write_video, number_of):
    write_video(tmp_path / "x.mp4", frames=100)
    (tmp_path / "t.csv").write_text("path,start,end\nx.mp4,3,5\nx.mp4,8,99\n")
    dataset = ClipDataset(_config(tmp_path / "t.csv", holdout=0.0, canvas=(80, 96)), seed=0)
    numbers = _frame_numbers(dataset, "train", 60, number_of)["x"]
    assert numbers <= set(range(30, 50)) | set(range(80, 100))
    assert {30, 49} & numbers
    assert {80, 99} & numbers


def test_canvas_is_cut_along_the_longer_axis(tmp_path, write_video):
    """The picture's right half is a ramp: where the canvas starts can be read off its last column."""
    write_video(tmp_path / "x.mp4", frames=50, size=(80, 240))
    dataset = ClipDataset(_config(tmp_path, canvas=(40, 40)), seed=0)
    train = [dataset.clip(i).video_TxHxWx3 for i in range(12)]
    assert {clip.shape for clip in train} == {(4, 40, 40, 3)}
    assert len({int(clip[0, -3, -1, 0]) // 8 for clip in train}) > 5
    heldout = [dataset.clip(i, "heldout").video_TxHxWx3 for i in range(2)]
    assert len({int(clip[0, -3, -1, 0]) // 8 for clip in heldout}) == 1
    centre = 30 + 190 * (80 - 60) / 60  # column 40 + 40 of 120 at half size; the ramp runs over columns 60 to 119
    assert abs(int(heldout[0][0, -3, -1, 0]) - centre) < 8


def test_canvas_is_covered_whatever_the_shape(tmp_path, write_video):
    write_video(tmp_path / "tall.mp4", size=(160, 96))
    write_video(tmp_path / "wide.mp4", size=(96, 160))
    for canvas in ((64, 64), (200, 96), (50, 300), (1, 1)):
        dataset = ClipDataset(_config(tmp_path, canvas=canvas), seed=0)
        assert {dataset.clip(i).video_TxHxWx3.shape for i in range(4)} == {(4, *canvas, 3)}


def test_cache_changes_no_bit(three_videos):
    plain = ClipDataset(_config(three_videos), seed=3)
    # One video of 80 x 96 takes 1.8 to 3.7 MB: room for all, and room for only some.
    for gigabytes, kept in ((0.1, 3), (0.006, 1)):
        cached = ClipDataset(_config(three_videos, memory_gb=gigabytes), seed=3)
        with ThreadPoolExecutor(4) as pool:
            clips = list(pool.map(cached.clip, range(40)))
        assert all(_same(plain.clip(i), clip) for i, clip in enumerate(clips))
        tables = [slot.table for slot in cached._cache._slots.values()]
        assert sum(table is not None for table in tables) >= kept
        if kept == 1:
            assert any(table is None for table in tables)
        held = sum(table.video_NxHxWx3.nbytes for table in tables if table is not None)
        assert cached._cache.used_bytes == held <= gigabytes * 1e9


def _damaged_folder(folder: Path, write_video, good: int, bad: int) -> Path:
    """`bad` frame-numbered videos whose data are destroyed after the part that opening looks at."""
    for i in range(good):
        write_video(folder / f"good{i}.mp4", frames=60 + i)
    for i in range(bad):
        path = write_video(folder / f"bad{i}.mp4", frames=60 + i, options={"g": "60", "bf": "0"})
        data = bytearray(path.read_bytes())
        data[len(data) // 4 : len(data) // 2] = b"\xff" * (len(data) // 2 - len(data) // 4)
        path.write_bytes(data)
    return folder


def test_clip_that_fails_is_replaced_by_the_next_draw(tmp_path, write_video):
    config = _config(_damaged_folder(tmp_path, write_video, good=2, bad=1), holdout=0.0, bad_budget=0.34)
    dataset = ClipDataset(config, seed=0)
    assert dataset.faults == ()
    drawn = [dataset.draw(i) for i in range(30)]
    failed = [i for i, (_, faults) in enumerate(drawn) if faults]
    assert failed
    index = failed[0]
    sample, faults = drawn[index]
    assert {Path(fault.path).name for fault in faults} == {"bad0.mp4"}
    assert sample.time == dataset.window(index, attempt=len(faults)).start_s
    assert _same(sample, ClipDataset(replace(config, memory_gb=1.0), seed=0).draw(index)[0])
    dataset.clip(index)
    assert [Path(fault.path).name for fault in dataset.faults] == ["bad0.mp4"]
    assert describe(dataset)[0]["unreadable"] == 1


def test_failures_past_the_budget_stop_with_the_list(tmp_path, write_video):
    config = _config(_damaged_folder(tmp_path, write_video, good=1, bad=2), holdout=0.0, bad_budget=0.05)
    dataset = ClipDataset(config, seed=0)
    with pytest.raises(BudgetExceeded) as caught:
        list(map(dataset.clip, range(200)))
    assert "2 of 3 files are unreadable, allowed are 1 (data config field bad_budget = 0.05)" in str(caught.value)
    assert "bad0.mp4" in str(caught.value)
    assert "bad1.mp4" in str(caught.value)


def test_nothing_readable_ends_after_bounded_attempts(tmp_path, write_video):
    config = _config(_damaged_folder(tmp_path, write_video, good=0, bad=1), holdout=0.0, bad_budget=0.9)
    dataset = ClipDataset(config, seed=0)
    (tmp_path / "bad0.mp4").write_bytes(b"")
    with pytest.raises(BudgetExceeded, match=r"train clip 3: 100 draws failed in a row:\n.*bad0\.mp4"):
        dataset.draw(3)


def test_unreadable_files_within_and_past_the_budget(three_videos, tmp_path):
    for path in three_videos.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "empty.mp4").touch()
    dataset = ClipDataset(_config(tmp_path), seed=0)
    (row,) = describe(dataset)
    assert (row["files"], row["unreadable"]) == (3, 1)
    (tmp_path / "noise.mkv").write_bytes(b"noise" * 999)
    with pytest.raises(BudgetExceeded) as caught:
        ClipDataset(_config(tmp_path), seed=0)
    assert "2 of 5 files are unreadable, allowed are 1" in str(caught.value)
    assert "empty.mp4: empty file" in str(caught.value)
    assert "noise.mkv: cannot be decoded" in str(caught.value)


def test_file_in_two_datasets_is_refused(three_videos):
    sources = {"x": SourceConfig(str(three_videos)), "y": SourceConfig(str(three_videos / "b.mp4"))}
    with pytest.raises(ValueError, match=r"b\.mp4 is in the datasets 'x' and 'y'"):
        ClipDataset(replace(CONFIG, sources=sources), seed=0)


def test_describe(three_videos):
    (row,) = describe(ClipDataset(_config(three_videos), seed=0))
    assert row.pop("hours") == pytest.approx(36 / 3600)
    # 80 % of 8, 12, 16 s less a step of 0.2 s hold 1 + floor((length - 0.6) * 5) clips.
    assert row == {
        "dataset": "d",
        "specialty": "general",
        "files": 3,
        "cases": 3,
        "clips_train": 29 + 45 + 61,
        "clips_heldout": 9,
        "share": 1.0,
        "short": 0,
        "unreadable": 0,
    }
