"""What a picture is: painted numbers and colours read back, however they are stored."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.data.decode import probe, read_all, read_frames
from surgmotion_jax.data.findings import findings
from surgmotion_jax.data.media import UnreadableVideo
from surgmotion_jax.pretrain.sample.saliency import motion_score
from surgmotion_jax.simulate.number_strip import read_number
from tests.data.recordings import PATCHES, RATE, Storage, painted, patches_of, woven, write

FRAMES = 12
LEVELS = 3
"""Grey levels that a colour may be off."""


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _assert_as_painted(path: Path, shape: tuple[int, int] = (96, 128)) -> None:
    """Numbers exact, colours close, by seeking and not, and from memory."""
    info = probe(str(path))
    assert (info.height, info.width) == shape
    times = [number / RATE for number in range(FRAMES)]
    frames = read_frames(str(path), times, info=info)
    assert frames.shape == (FRAMES, *shape, 3)
    assert [read_number(frame) for frame in frames] == list(range(FRAMES))
    for frame in frames:
        assert np.abs(patches_of(frame) - PATCHES).max() <= LEVELS
    np.testing.assert_array_equal(read_frames(str(path), times[5:8], info=info, seek=False), frames[5:8])
    np.testing.assert_array_equal(read_all(str(path), info=info).at(times), frames)


def _found(path: Path) -> str:
    return "; ".join(finding.reason for finding in findings(probe(str(path))))


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.mov"])
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_display_matrix_is_applied(tmp_path: Path, name: str, turn: int):
    # Stored turned to the right, so that the matrix turns it back to the left.
    pictures = [np.ascontiguousarray(np.rot90(painted(number), -turn // 90)) for number in range(FRAMES)]
    path = write(tmp_path / name, pictures, Storage(turn=turn))
    _assert_as_painted(path)
    assert "a display matrix: pictures are turned by" in _found(path)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize(("ratio", "width"), [(Fraction(64, 45), 90), (Fraction(8, 9), 144)])
def test_pixel_aspect_ratio_scales_the_width(tmp_path: Path, codec: str, ratio: Fraction, width: int):
    options = {"x265-params": "log-level=none", "crf": "10"} if codec == "libx265" else {"qmin": "1", "b": "4000000"}
    how = Storage(codec, options if codec != "libx264" else Storage().options, pixel_aspect=ratio)
    pictures = [_resized(painted(number), 96, width) for number in range(FRAMES)]
    path = write(tmp_path / "x.mp4", pictures, how)
    _assert_as_painted(path)
    assert f"pixels of {ratio.numerator}:{ratio.denominator}: {width} x 96 is shown as 128 x 96" in _found(path)


def test_an_aspect_ratio_that_no_camera_has_is_not_believed(tmp_path: Path):
    path = write(tmp_path / "x.mp4", [painted(n) for n in range(FRAMES)], Storage(pixel_aspect=Fraction(1, 100)))
    _assert_as_painted(path)
    assert "pixels of 1:100, which is no camera's: taken for square" in _found(path)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_tagged_colour_is_read_as_tagged(tmp_path: Path, matrix: str, full: bool):
    pictures = [painted(number) for number in range(FRAMES)]
    _assert_as_painted(write(tmp_path / "x.mp4", pictures, Storage(matrix=matrix, full=full)))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("height", "matrix"), [(96, "bt601"), (718, "bt601"), (720, "bt709")])
def test_untagged_colour_is_read_by_size(tmp_path: Path, height: int, matrix: str, full: bool):
    pictures = [painted(number, height) for number in range(FRAMES)]
    path = write(tmp_path / "x.mp4", pictures, Storage(matrix=matrix, tagged=False, full=full))
    _assert_as_painted(path, (height, 128))
    assert ("colours without a tag: read by BT.709" in _found(path)) == (height == 720)


def test_motion_jpeg_is_full_range_bt601_at_any_size(tmp_path: Path):
    how = Storage("mjpeg", {"qmin": "1", "qmax": "2"}, full=True)
    path = write(tmp_path / "x.avi", [painted(number, 720) for number in range(FRAMES)], how)
    _assert_as_painted(path, (720, 128))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_by_name(tmp_path: Path, transfer: int, name: str):
    how = Storage(matrix="bt2020", transfer=transfer)
    path = write(tmp_path / "x.mp4", [painted(number) for number in range(FRAMES)], how)
    with pytest.raises(UnreadableVideo, match=rf"x\.mp4: high dynamic range, {name}.*convert it to BT\.709"):
        probe(str(path))


def _scene(moment: int) -> np.ndarray:
    """Slanted bands that move to the right over a still ground."""
    y, x = np.mgrid[:128, :128]
    bands = 60 * np.sin((x - y / 8 - 1.5 * moment) / 5)
    return np.repeat((120 + np.where(y > 32, bands, 0)).astype(np.uint8)[..., None], 3, 2)


MPEG2 = {"g": "10", "bf": "2", "qmin": "1", "qmax": "1", "b": "20000000", "flags": "+ildct+ilme"}
INTERLACED = {
    ("x.mp4", "tff"): Storage(
        options={"g": "10", "bf": "2", "crf": "8", "flags": "+ildct+ilme", "x264-params": "tff=1"}
    ),
    ("x.ts", "bff"): Storage(
        options={"g": "10", "bf": "2", "crf": "8", "flags": "+ildct+ilme", "x264-params": "bff=1"}
    ),
    ("x.mpg", "tff"): Storage("mpeg2video", MPEG2, fields="tff"),
    ("x.mpg", "bff"): Storage("mpeg2video", MPEG2, fields="bff"),
}


def _combing(frames: np.ndarray) -> float:
    """How much more neighbouring rows differ than rows of one field."""
    rows = frames.astype(np.float32)
    return float(np.abs(np.diff(rows, axis=1)).mean() / np.abs(rows[:, 2:] - rows[:, :-2]).mean())


def _score(frames: np.ndarray) -> float:
    return float(np.mean(motion_score(frames[None] / np.float32(255), 16, 2, "column")))


@pytest.mark.parametrize(("name", "fields"), sorted(INTERLACED))
def test_interlaced_frames_are_made_whole(tmp_path: Path, name: str, fields: str):
    """The motion score takes combed rows for motion: it must be that of the scene filmed in whole frames."""
    how = INTERLACED[name, fields]
    scenes = [_scene(moment) for moment in range(64)]
    combed = woven(scenes, fields)
    path = write(tmp_path / name, combed, how)
    whole = write(tmp_path / "whole.mp4", scenes[0::2], Storage(options={"g": "10", "bf": "2", "crf": "8"}))
    times = [number / RATE for number in range(2, 30)]
    truth, made = read_frames(str(whole), times), read_frames(str(path), times)
    assert _combing(np.stack(combed[2:30])) > 2 * _combing(truth), "combed rows must show"
    assert _combing(made) == pytest.approx(_combing(truth), rel=0.1)
    assert _score(made) == pytest.approx(_score(truth), rel=0.05)
    assert "interlaced, as the frames say" in _found(path)
    info = probe(str(path))
    for time in times[::5]:
        sought = read_frames(str(path), [time], info=info)
        np.testing.assert_array_equal(sought, read_frames(str(path), [time], info=info, seek=False))


@pytest.mark.parametrize(("name", "fields"), sorted(INTERLACED))
def test_interlaced_frames_keep_their_numbers(tmp_path: Path, name: str, fields: str):
    path = write(tmp_path / name, [painted(number) for number in range(FRAMES)], INTERLACED[name, fields])
    _assert_as_painted(path)


def test_a_recording_in_one_go_has_nothing_to_tell(tmp_path: Path):
    path = write(tmp_path / "x.mp4", [painted(number) for number in range(FRAMES)])
    _assert_as_painted(path)
    assert _found(path) == ""
