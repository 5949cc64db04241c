"""Windows: causal, ending at the labelled frame, filled on the left by the first one, exact in every frame."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames, VideoFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.windows import ClipReader, moment, window_times
from surgmotion_jax.data.sample import check
from surgmotion_jax.data.write_video import VideoWriter
from surgmotion_jax.simulate.number_strip import paint_number, read_number

FPS = 5


def numbered(number: int, size: int = 64) -> np.ndarray:
    return paint_number(np.full((size, size, 3), 90, np.uint8), number)


def case_of(frames, seconds: int, **more) -> Case:
    labels = {"phase": np.arange(seconds) % 3}
    return Case("a", "a", frames, np.arange(seconds, dtype=float), labels, **more)


@pytest.fixture(scope="module")
def video_case(tmp_path_factory) -> Case:
    """100 seconds at 5 fps."""
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    with VideoWriter(path, FPS) as writer:
        for number in range(100 * FPS):
            writer.add(numbered(number))
    return case_of(VideoFrames(path), 100)


@pytest.fixture(scope="module")
def image_case(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("images")
    for number in range(70):
        Image.fromarray(numbered(number)).save(folder / f"{number:04d}.png")
    return case_of(ImageFrames(tuple(sorted(folder.iterdir())), 1.0), 70)


def numbers(sample) -> list[int]:
    return [read_number(frame) for frame in sample.video_TxHxWx3]


@pytest.mark.parametrize("frames", [1, 2, 63, 64, 65])
def test_a_window_of_images_is_the_integers_up_to_its_moment(image_case, frames):
    """Among them a window as long as the sequence before it: no frame is left out and none is taken twice."""
    reader = ClipReader(frames)
    for time in (0, 1, 62, 63, 64, 69):
        sample = reader.sample(image_case, time)
        wanted = [max(0, n) for n in range(time - frames + 1, time + 1)]
        assert numbers(sample) == wanted
        assert sample.valid_T.tolist() == [n >= 0 for n in range(time - frames + 1, time + 1)]
        assert sample.time == wanted[0]
        assert sample.labels == {"phase": time % 3}
        check(sample)


def test_a_window_of_video_takes_every_fifth_frame(video_case):
    reader = ClipReader(64)
    for time in (0, 63, 64, 99):
        assert numbers(reader.sample(video_case, time)) == [FPS * max(0, n) for n in range(time - 63, time + 1)]


@pytest.mark.parametrize("fps", [0.5, 2.0, 5.0, 3.0])
def test_other_rates_show_the_frame_that_is_due(video_case, fps):
    sample = ClipReader(16, fps).sample(video_case, 50.0)
    due_T = [50 - back / fps for back in range(15, -1, -1)]
    assert numbers(sample) == [int(np.floor(FPS * t + 1e-6)) for t in due_T]
    assert numbers(sample)[-1] == 50 * FPS


def test_a_spread_window_covers_the_case_up_to_its_moment(video_case):
    time_T, valid_T = window_times(video_case, 90.0, 10, None)
    np.testing.assert_allclose(time_T, np.arange(0, 91, 10))
    assert valid_T.all()
    assert window_times(video_case, 90.0, 1, None)[0].tolist() == [90.0]


def test_a_case_inside_a_video_begins_at_its_start(video_case):
    case = case_of(VideoFrames(video_case.frames.path, 30.0, 40.0), 10)
    reader = ClipReader(4)
    assert numbers(reader.sample(case, 0.0)) == [150] * 4
    assert numbers(reader.sample(case, 9.0)) == [180, 185, 190, 195]
    assert reader.duration(case) == pytest.approx(10.0)
    late = case_of(VideoFrames(video_case.frames.path, 30.0, 40.0), 12)
    with pytest.raises(BenchmarkError, match="an annotation at 11 s, but frames only until 10 s"):
        reader.sample(late, 11.0)


def test_an_annotation_one_frame_after_the_end_shows_the_last_frame(tmp_path, image_case):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 25) as writer:
        for number in range(50):
            writer.add(numbered(number))
    assert numbers(ClipReader(1).sample(case_of(VideoFrames(path), 3), 2.0)) == [49]
    with pytest.raises(BenchmarkError, match="an annotation at 3 s, but frames only until 2 s"):
        ClipReader(1).sample(case_of(VideoFrames(path), 4), 3.0)
    with pytest.raises(BenchmarkError, match="an annotation at 70 s, but frames only until 70 s"):
        ClipReader(1).sample(case_of(image_case.frames, 71), 70.0)


@pytest.mark.parametrize("kind", ["video_case", "image_case"])
@pytest.mark.parametrize("fps", [1.0, None, 0.7])
def test_the_quick_way_through_a_case_gives_the_same_samples(kind, fps, request):
    case, reader = request.getfixturevalue(kind), ClipReader(5, fps, size=32)
    quick = list(reader.case_samples(case))
    assert len(quick) == len(case.times_N)
    for time, sample in list(zip(case.times_N, quick, strict=True))[::7]:
        alone = reader.sample(case, float(time))
        np.testing.assert_array_equal(sample.video_TxHxWx3, alone.video_TxHxWx3)
        np.testing.assert_array_equal(sample.valid_T, alone.valid_T)
        assert (sample.time, sample.labels) == (alone.time, alone.labels)


def test_a_reader_travels_to_another_process(video_case):
    reader = ClipReader(3)
    reader.sample(video_case, 5.0)
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(
        again.sample(video_case, 9.0).video_TxHxWx3, reader.sample(video_case, 9.0).video_TxHxWx3
    )


def test_only_scored_moments_can_be_asked_for(video_case):
    assert [moment(video_case, t) for t in (0.0, 41.0, 41.0 + 1e-8, 99.0)] == [0, 41, 41, 99]
    for time in (0.5, 100.0, -1.0):
        with pytest.raises(ValueError, match="has no label at"):
            ClipReader(4).sample(video_case, time)
    for frames, fps in ((0, 1.0), (4, 0.0), (4, float("nan"))):
        with pytest.raises(ValueError, match="at least 1 frame and a positive rate"):
            window_times(video_case, 5.0, frames, fps)


def test_labels_of_several_columns_stay_arrays(image_case):
    labels = {"triplet": np.eye(70, 6, dtype=np.int64)}
    case = Case("a", "a", image_case.frames, image_case.times_N, labels)
    np.testing.assert_array_equal(ClipReader(2).sample(case, 3.0).labels["triplet"], [0, 0, 0, 1, 0, 0])


def dense_case(folder, size: int, moments: int = 3, **more) -> Case:
    images = []
    for number in range(moments):
        Image.fromarray(numbered(number)).save(folder / f"{number}.png")
        images.append(folder / f"{number}.png")
    mask = np.zeros((size, size), np.uint8)
    mask[: size // 2] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    np.save(folder / "depth.npy", np.arange(1, size * size + 1, dtype=np.float32).reshape(size, size))
    return case_of(
        ImageFrames(tuple(images)), moments, masks=(folder / "mask.png",) * moments,
        depths=(folder / "depth.npy",) * moments, **more,
    )  # fmt: skip


def test_masks_and_depth_belong_to_the_last_frame(tmp_path):
    sample = ClipReader(2, size=(32, 16)).sample(dense_case(tmp_path, 64), 1.0)
    check(sample)
    assert sample.masks["mask"].shape == (32, 16)
    assert sample.masks["mask"][:16].all()
    assert not sample.masks["mask"][16:].any()
    assert np.isnan(sample.depth_TxHxW[0]).all()
    assert sample.depth_TxHxW[1][0, 0] == 64 + 2 + 1  # row 1, column 2 of the file


def test_a_mask_of_another_size_is_refused(tmp_path):
    with pytest.raises(BenchmarkError, match=r"mask.png: found 60 x 60 pixels; .*64 x 64, the size of its frame"):
        ClipReader(2).sample(dense_case(tmp_path, 60), 1.0)


def test_a_missing_image_is_named(tmp_path):
    case = dense_case(tmp_path, 64)
    (tmp_path / "1.png").unlink()
    with pytest.raises(BenchmarkError, match=r"1.png"):
        ClipReader(2).sample(case, 1.0)
