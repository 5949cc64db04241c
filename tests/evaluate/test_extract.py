"""Extraction over real files: features and times of a direct call, interruption, refusal, damage."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.benchmarks.benchmark import Case, VideoFrames
from surgmotion_jax.benchmarks.windows import window_times
from surgmotion_jax.commands.extract import LINE
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.sources import VideoFile, expand
from surgmotion_jax.data.write_video import VideoWriter
from surgmotion_jax.evaluate.features.extract import ExtractSettings, Machine, due_times, extract
from surgmotion_jax.evaluate.features.files import read_features
from surgmotion_jax.evaluate.features.index import OtherSettings, file_names
from surgmotion_jax.evaluate.features.windows import WindowPlan
from tests.evaluate.encoders import small_encoder

SIDE = 32
PLAN = WindowPlan(frames=4, fps=4.0, stride_s=0.75)
SETTINGS = ExtractSettings(PLAN, SIDE, "letterbox", "none", (1,))
MACHINE = Machine(batch=3, threads=2)
DURATION = {"a": 0.6, "b": 2.6, "c": 3.5}
STARTS = {"a": [0], "b": [0, 0.75, 1.5, 2.25], "c": [0, 0.75, 1.5, 2.25, 3.0]}


def write(path: Path, seconds: float, seed: int, fps: int = 10) -> None:
    frames = np.random.default_rng(seed).integers(0, 255, (round(seconds * fps), 6, 8, 3), dtype=np.uint8)
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.add(frame.repeat(8, 0).repeat(8, 1))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, (name, seconds) in enumerate(DURATION.items()):
        write(folder / f"{name}.mp4", seconds, seed)
    return folder


@pytest.fixture(scope="module")
def encoder():
    return small_encoder()


def run(folder, out, encoder, settings=SETTINGS, **options):
    return extract(expand("videos", SourceConfig(str(folder))), out, encoder, settings, machine=MACHINE, **options)


@pytest.fixture(scope="module")
def done(videos, encoder, tmp_path_factory) -> Path:
    """Features of the three videos, extracted without interruption."""
    out = tmp_path_factory.mktemp("whole")
    assert run(videos, out, encoder).written == ("a", "b", "c")
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_features_are_those_of_a_direct_call_and_times_are_right(videos, done, encoder):
    for name, seconds in DURATION.items():
        found = read_features(done / f"{name}.npz")
        np.testing.assert_allclose(found.start_s, STARTS[name])
        assert found.features.shape == (len(STARTS[name]), 2, 4, 4, 48)
        for window, start in enumerate(STARTS[name]):
            due = start + np.arange(4) / 4
            last = due[due < seconds - 1e-6][-1]
            frames = read_frames(str(videos / f"{name}.mp4"), np.minimum(due, last).tolist(), (24, 32), seek=False)
            clip = np.pad(frames, ((0, 0), (4, 4), (0, 0), (0, 0)))[None]
            wanted = encoder(clip, layers=(1,))
            np.testing.assert_allclose(found.features[window], wanted.tokens[0], atol=2e-5)
            np.testing.assert_allclose(found.layers[1][window], wanted.layers[0, 0], atol=2e-5)
            np.testing.assert_allclose(found.time_s[window], [start + 0.125, start + 0.625])
            np.testing.assert_allclose(found.end_s[window], last)
            np.testing.assert_array_equal(found.valid[window], due.reshape(2, 2)[:, 1] < seconds - 1e-6)


def test_windows_that_end_at_moments_are_those_of_a_case_with_these_moments():
    rng = np.random.default_rng(0)
    for _ in range(50):
        plan = WindowPlan(int(rng.integers(1, 20)), float(rng.uniform(0.5, 8)), float(rng.choice([0.25, 0.5, 1, 3])))
        start = float(rng.choice([0.0, rng.uniform(0, 50)]))
        seconds = float(rng.choice([rng.uniform(0.01, 12), 6.0]))
        due_WxT = due_times(start, start + seconds, ExtractSettings(plan, ending=True))
        moment_W = plan.stride_s * np.arange(len(due_WxT))
        assert moment_W[-1] < seconds <= moment_W[-1] + plan.stride_s + 1e-6
        case = Case("c", "c", VideoFrames(Path("c.mp4"), start), moment_W)
        for due_T, moment in zip(due_WxT, moment_W, strict=True):
            shown_T, valid_T = window_times(case, float(moment), plan.frames, plan.fps)
            np.testing.assert_allclose(np.maximum(due_T, start) - start, shown_T, atol=1e-9)
            np.testing.assert_array_equal(due_T > start - 1e-6, valid_T)


def test_windows_that_end_at_moments_repeat_the_first_frame_and_say_so(videos, tmp_path, encoder):
    settings = ExtractSettings(PLAN, SIDE, "letterbox", "none", ending=True)
    assert run(videos, tmp_path, encoder, settings, pca_s=1.5).written == ("a", "b", "c")
    found = read_features(tmp_path / "b.npz")
    np.testing.assert_allclose(found.end_s, [0, 0.75, 1.5, 2.25])
    np.testing.assert_allclose(found.start_s, found.end_s - 0.75)
    np.testing.assert_allclose(found.time_s[0], [-0.625, -0.125])
    np.testing.assert_array_equal(found.valid, [[False, False], [True, True], [True, True], [True, True]])
    first = read_frames(str(videos / "b.mp4"), [0.0], (24, 32), seek=False).repeat(4, 0)
    wanted = encoder(np.pad(first, ((0, 0), (4, 4), (0, 0), (0, 0)))[None])[0]
    np.testing.assert_allclose(found.features[0], wanted, atol=2e-5)
    assert probe(str(tmp_path / "b.pca.mp4")).duration_s == 1.5
    with pytest.raises(OtherSettings, match="settings.ending: True in the folder, False requested"):
        run(videos, tmp_path, encoder, ExtractSettings(PLAN, SIDE, "letterbox", "none"))


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--moments=0"], "--moments is 0; it must be a finite number above 0"),
        (["--moments=inf"], "--moments is inf"),
        (["--moments=1", "--stride=1"], "--moments says when windows end; --stride and --overlap say when they start"),
        (["--moments=1", "--overlap=0"], "--moments says when windows end"),
    ],
)
def test_moments_that_do_not_fit_are_refused(flags, match):
    with pytest.raises(ValueError, match=match):
        LINE.parse(["video.mp4", "--out=features", "--checkpoint=random:vit_nano", *flags])


def test_metadata_say_how_the_features_were_made(done, encoder):
    found = read_features(done / "b.npz").metadata
    assert found["source"]["name"] == "b.mp4"
    assert found["video"]["duration_s"] == pytest.approx(2.6)
    assert found["settings"]["checkpoint"]["digest"] == encoder.origin.digest
    assert found["settings"]["windows"] == {"frames": 4, "fps": 4.0, "stride_s": 0.75}
    assert found["versions"]["jax"] == jax.__version__
    assert str(done.parent) not in str(found)


def test_one_program_serves_all_videos(videos, tmp_path, encoder):
    fresh = small_encoder()
    run(videos, tmp_path, fresh)
    assert fresh.programs == 1


@pytest.mark.parametrize("at", [("a", True), ("b", False)])
def test_interrupted_and_repeated_it_ends_with_the_same_bytes(videos, done, tmp_path, encoder, at):
    def stop(progress):
        if (progress.name, progress.finished) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(videos, tmp_path, encoder, report=stop)
    assert set(contents(tmp_path)) == {"a.npz", "index.json"}
    again = run(videos, tmp_path, encoder)
    assert (again.skipped, again.written) == (("a",), ("b", "c"))
    assert contents(tmp_path) == contents(done)
    untouched = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run(videos, tmp_path, encoder).skipped == ("a", "b", "c")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == untouched


def test_a_file_that_was_lost_or_cut_is_made_again(videos, done, tmp_path, encoder):
    run(videos, tmp_path, encoder)
    (tmp_path / "a.npz").unlink()
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:-1])
    assert run(videos, tmp_path, encoder).written == ("a", "b")
    assert contents(tmp_path) == contents(done)


def test_other_settings_are_refused_field_by_field(videos, done, encoder):
    before = contents(done)
    other = ExtractSettings(WindowPlan(4, 4.0, 1.0), SIDE, "squash", "none", (1,))
    with pytest.raises(OtherSettings) as caught:
        run(videos, done, encoder, other)
    assert "settings.resize: 'letterbox' in the folder, 'squash' requested" in str(caught.value)
    assert "settings.windows.stride_s: 0.75 in the folder, 1.0 requested" in str(caught.value)
    assert str(caught.value).count(" requested") == 2
    with pytest.raises(OtherSettings, match="settings.checkpoint.digest"):
        run(videos, done, small_encoder(1))
    assert contents(done) == before


def test_a_video_that_changed_is_refused(videos, done, encoder):
    folder = videos.parent / "changed"
    write(folder / "b.mp4", 2.0, 9)
    with pytest.raises(OtherSettings, match=r"videos.b.source.bytes: \d+ in the folder, \d+ requested"):
        run(folder, done, encoder)


def test_damaged_videos_are_listed_and_the_others_done(tmp_path, encoder):
    folder = tmp_path / "mixed"
    write(folder / "good.mp4", 1.0, 0)
    (folder / "empty.mp4").write_bytes(b"")
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(6):  # opens, as its first image is sound; fails at the fourth, in its second batch of windows
        Image.fromarray(np.full((24, 32, 3), 40 * i, np.uint8)).save(frames / f"{i}.png")
    (frames / "3.png").write_bytes(b"no picture")
    files = [*expand("v", SourceConfig(str(frames), folder_fps=1)), *expand("v", SourceConfig(str(folder)))]
    out = tmp_path / "out"
    outcome = extract(files, out, encoder, SETTINGS, machine=MACHINE)
    assert outcome.written == ("good",)
    empty, broken = outcome.faults
    assert (Path(empty.path).name, empty.reason) == ("empty.mp4", "empty file")
    assert Path(broken.path).name == "frames"
    assert broken.reason.startswith("3.png: image does not decode")
    assert set(contents(out)) == {"good.npz", "index.json"}


@pytest.mark.parametrize("pool", ["mean", "time"])
def test_pooled_features_in_records_are_the_means_of_all_tokens(videos, done, tmp_path, encoder, pool):
    run(videos, tmp_path, encoder, ExtractSettings(PLAN, SIDE, "letterbox", pool, (1,), "array_record"))
    for name in DURATION:
        every, found = read_features(done / f"{name}.npz"), read_features(tmp_path / f"{name}.array_record")
        axes = (1, 2, 3) if pool == "mean" else (2, 3)
        np.testing.assert_allclose(found.features, every.features.mean(axes), atol=1e-5)
        np.testing.assert_allclose(found.layers[1], every.layers[1].mean(axes), atol=1e-5)
        np.testing.assert_array_equal(found.time_s, every.time_s)


def test_neither_batch_nor_threads_change_features(videos, done, tmp_path, encoder):
    files = expand("videos", SourceConfig(str(videos)))
    extract(files, tmp_path, encoder, SETTINGS, machine=Machine(batch=2, threads=1))
    for name in DURATION:
        found, wanted = read_features(tmp_path / f"{name}.npz"), read_features(done / f"{name}.npz")
        np.testing.assert_allclose(found.features, wanted.features, atol=2e-5)


def test_a_picture_can_be_added_later_and_changes_no_feature(videos, done, tmp_path, encoder):
    run(videos, tmp_path, encoder)
    assert run(videos, tmp_path, encoder, pca_s=2.0).written == ("a", "b", "c")
    found = contents(tmp_path)
    assert {name: found[name] for name in found if name.endswith(".npz")} == {
        name: data for name, data in contents(done).items() if name.endswith(".npz")
    }
    info = probe(str(tmp_path / "c.pca.mp4"))
    assert (info.fps, info.duration_s) == (4, 2.0)
    assert probe(str(tmp_path / "a.pca.mp4")).duration_s == 0.75  # three frames before 0.6 s
    assert run(videos, tmp_path, encoder, pca_s=2.0).written == ()
    assert run(videos, tmp_path, encoder).written == ()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (ExtractSettings(WindowPlan(3), SIDE), "3 frames"),
        (ExtractSettings(PLAN, 36), "36 x 36 pixels"),
        (ExtractSettings(PLAN, SIDE, layers=(2,)), "distinct block numbers in 0..1"),
    ],
)
def test_what_the_encoder_cannot_take_is_refused_before_any_work(videos, tmp_path, encoder, settings, match):
    with pytest.raises(ValueError, match=match):
        run(videos, tmp_path / "out", encoder, settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"resize": "crop"}, "resize is 'crop'"),
        ({"pool": "max"}, "pool is 'max'"),
        ({"form": "h5"}, "format is 'h5'"),
    ],
)
def test_unknown_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        ExtractSettings(**settings)


def test_a_damaged_index_is_refused(videos, tmp_path, encoder):
    (tmp_path / "index.json").write_text('{"videos": {}}')
    with pytest.raises(ValueError, match=r"index.json: not an index of features"):
        run(videos, tmp_path, encoder)


def test_names_tell_videos_of_a_case_apart():
    def video(path, case, *stretch):
        return VideoFile("d", os.path.join(os.sep, "x", path), case, "general", 1.0, *stretch)

    files = [video("1.mp4", "p1"), video("2.mp4", "p1"), video("3.mp4", "p2", 0.0, 5.0), video("3.mp4", "p2", 7.0, 9.5)]
    names = ["p1-1", "p1-2", "p2-3-0s-5s", "p2-3-7s-9.5s"]
    assert list(file_names(files)) == names
    assert list(file_names([*files, files[0]])) == names
    with pytest.raises(ValueError, match="would both be written as 'p1-1'; name their cases"):
        file_names([*files, video("deep/1.avi", "p1")])
    for case in ("../p", "/p", "a//b", "a\\b", "a\nb", "."):
        with pytest.raises(ValueError, match="names the output file"):
            file_names([video("1.mp4", case)])


def test_features_that_are_not_finite_are_refused_with_video_and_time(videos, tmp_path):
    broken = small_encoder()
    broken.params = jax.tree.map(lambda leaf: leaf * np.nan, broken.params)
    with pytest.raises(ValueError, match=r"a\.mp4: features of the window at 0 s are not finite, though the weights"):
        run(videos, tmp_path, broken)
    assert not list(tmp_path.glob("*.npz"))
