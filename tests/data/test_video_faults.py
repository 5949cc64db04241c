"""Broken, hostile and unusual files: each is refused by name with its reason, or read."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.media import Limits, UnreadableVideo


def _refused(path: Path, match: str, **kwargs) -> None:
    with pytest.raises(UnreadableVideo, match=match) as caught:
        probe(str(path), **kwargs)
    assert str(path) in str(caught.value)


def test_empty_file(tmp_path: Path):
    (tmp_path / "x.mp4").touch()
    _refused(tmp_path / "x.mp4", "empty file")


def test_missing_file(tmp_path: Path):
    _refused(tmp_path / "x.mp4", "cannot be decoded: .*No such file")


def test_not_a_video(tmp_path: Path):
    (tmp_path / "x.mp4").write_bytes(b"a text, not a film\n" * 500)
    _refused(tmp_path / "x.mp4", "cannot be decoded")


def test_audio_only(tmp_path: Path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    _refused(path, r"no video stream \(streams found: audio\)")


def test_one_frame(tmp_path: Path, write_video):
    _refused(write_video(tmp_path / "x.mp4", frames=1), r"1 frame\(s\) .* at least 2")


@pytest.mark.parametrize("name", ["x.mp4", "fast_start.mp4", "x.mkv", "x.avi"])
def test_file_cut_short(tmp_path: Path, name, write_video):
    options = {"movflags": "faststart"} if name == "fast_start.mp4" else {}
    whole = write_video(tmp_path / name, frames=200, container_options=options)
    probe(str(whole))
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    _refused(cut, "cannot be decoded" if name == "x.mp4" else "cut short: the header announces")


def test_damage_in_the_middle_is_not_returned_as_a_picture(tmp_path: Path, write_video):
    path = write_video(tmp_path / "x.mp4", frames=200, options={"g": "200"})
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    middle = slice(len(data) // 3, len(data) // 2)
    data[middle] = rng.integers(0, 256, middle.stop - middle.start, np.uint8).tobytes()
    path.write_bytes(data)
    info = probe(str(path))
    with pytest.raises(UnreadableVideo, match=r"cannot be decoded|damaged|no frame after"):
        read_frames(str(path), [float(t) for t in range(20)], info=info)


def test_no_time_stamps(tmp_path: Path, write_video):
    _refused(write_video(tmp_path / "x.h264"), "0 frame.s. with a time stamp")


def test_caps(tmp_path: Path, write_video):
    path = write_video(tmp_path / "x.mp4", frames=40)
    probe(str(path), Limits(max_pixels=80 * 96, max_duration_s=4.1, max_streams=1))
    _refused(path, r"frames of 96 x 80 pixels .* max_pixels = 7679", limits=Limits(max_pixels=80 * 96 - 1))
    _refused(path, r"4 s of video .* max_duration_s = 3", limits=Limits(max_duration_s=3.0))
    _refused(path, "1 streams are over the cap, max_streams = 0", limits=Limits(max_streams=0))


def test_huge_dimensions_in_a_small_file(tmp_path: Path, write_video):
    """FFV1 takes its size from the container: here 16000 x 16000 pixels, claimed by a few kilobytes."""
    path = tmp_path / "x.avi"
    data = write_video(path, frames=3, codec="ffv1", options={"g": "1"}).read_bytes()
    header = data.index(b"strf") + 8  # BITMAPINFOHEADER: size, then width and height
    huge = np.array([16000, 16000], "<i4").tobytes()
    path.write_bytes(data[: header + 4] + huge + data[header + 12 :])
    _refused(path, r"16000 x 16000 pixels are over the cap, max_pixels = 36000000")


def test_cap_holds_for_frames_that_grow_on_the_way(tmp_path: Path, write_video):
    small = write_video(tmp_path / "small.ts", frames=10).read_bytes()
    large = write_video(tmp_path / "large.ts", frames=10, size=(160, 192)).read_bytes()
    path = tmp_path / "x.ts"
    path.write_bytes(small + large)
    with pytest.raises(UnreadableVideo, match=r"cap, max_pixels = 7680"):
        read_frames(str(path), [0.0, 1.5, 5.0], limits=Limits(max_pixels=80 * 96), seek=False)
    with pytest.raises(UnreadableVideo, match=r"frames of 192 x 160 pixels at 1\.500 s, .* starts with 96 x 80"):
        read_frames(str(path), [0.0, 1.5, 5.0], seek=False)


def _image_folder(folder: Path, count: int, size: tuple[int, int] = (40, 30)) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", size, (i, i, i)).save(folder / f"{i:03d}.jpg")
    return folder


def test_frame_folder_with_one_image(tmp_path: Path):
    _refused(_image_folder(tmp_path / "x", 1), r"1 image\(s\) in the frame folder; a video needs at least 2")


def test_frame_folder_with_a_bad_image(tmp_path: Path):
    folder = _image_folder(tmp_path / "x", 5)
    (folder / "003.jpg").write_bytes((folder / "003.jpg").read_bytes()[:100])
    assert read_frames(str(folder), [0.0, 1.0, 2.0, 4.0]).shape == (4, 30, 40, 3)
    with pytest.raises(UnreadableVideo, match=r"003\.jpg: image does not decode"):
        read_frames(str(folder), [0.0, 3.0])
    (folder / "000.jpg").write_bytes(b"no image")
    _refused(folder, r"image 000\.jpg does not open")


def test_frame_folder_with_an_image_of_another_size(tmp_path: Path):
    folder = _image_folder(tmp_path / "x", 3)
    Image.new("RGB", (44, 30)).save(folder / "001.jpg")
    with pytest.raises(UnreadableVideo, match=r"001\.jpg: image of 44 x 30 pixels in a folder .* 40 x 30"):
        read_frames(str(folder), [1.0])


@pytest.mark.parametrize("side", [6500, 20000])
def test_frame_folder_with_a_bomb(tmp_path: Path, side):
    """Pillow warns about the first size and refuses the second; our cap is below both."""
    folder = _image_folder(tmp_path / "x", 2)
    Image.new("1", (side, side)).save(folder / "001.png")
    (folder / "001.jpg").unlink()
    with pytest.raises(UnreadableVideo, match=r"001\.png.*(over the cap, max_pixels|decompression bomb)"):
        read_frames(str(folder), [1.0])
    (folder / "000.jpg").unlink()
    Image.new("RGB", (40, 30)).save(folder / "002.png")
    _refused(folder, r"001\.png.*(over the cap, max_pixels|decompression bomb)")
