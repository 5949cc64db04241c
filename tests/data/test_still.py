"""Images as they look: orientation, palettes, 16 bits and transparency of frames in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.findings import image_findings
from surgmotion_jax.data.media import UnreadableVideo

UPRIGHT = np.zeros((20, 30, 3), np.uint8)
UPRIGHT[:10, :15], UPRIGHT[:10, 15:], UPRIGHT[10:, :15] = (255, 0, 0), (0, 255, 0), (0, 0, 255)

STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.swapaxes(0, 1),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(UPRIGHT, -1),
}


def _folder(path: Path, image: Image.Image, **options) -> str:
    path.mkdir()
    for number in range(2):
        image.save(path / f"{number}.png", **options)
    return str(path)


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    folder = _folder(tmp_path / "x", stored, exif=exif)
    info = probe(folder)
    assert (info.height, info.width) == (20, 30)
    np.testing.assert_array_equal(read_frames(folder, [0.0], info=info)[0], UPRIGHT)
    assert [f.found for f in image_findings(info)] == (
        [f"EXIF orientation {orientation}"] * 2 if orientation > 1 else []
    )


def test_palettes_are_looked_up(tmp_path: Path):
    image = Image.fromarray((np.arange(600).reshape(20, 30) % 2).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    frame = read_frames(_folder(tmp_path / "x", image), [0.0])[0]
    assert frame[0, 0].tolist() == [10, 20, 30]
    assert frame[0, 1].tolist() == [200, 100, 50]


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path):
    grey = np.linspace(0, 65_535, 600).reshape(20, 30).astype(np.uint16)
    frame = read_frames(_folder(tmp_path / "x", Image.fromarray(grey)), [0.0])[0]
    np.testing.assert_allclose(frame[..., 0], grey / 257, atol=0.5)
    assert (frame[..., :1] == frame).all()


def test_what_is_transparent_is_black_and_what_is_opaque_stays(tmp_path: Path):
    picture = np.full((20, 30, 4), 200, np.uint8)
    picture[:, :10, 3], picture[:, 10:20, 3], picture[:, 20:, 3] = 0, 128, 255
    frame = read_frames(_folder(tmp_path / "x", Image.fromarray(picture)), [0.0])[0]
    assert [int(frame[5, column, 0]) for column in (5, 15, 25)] == pytest.approx([0, 100, 200], abs=1)


def test_a_huge_image_is_refused_from_its_header(tmp_path: Path):
    folder = Path(_folder(tmp_path / "x", Image.new("1", (7000, 7000))))
    with pytest.raises(UnreadableVideo, match=r"0\.png: frames of 7000 x 7000 pixels are over the cap, max_pixels"):
        probe(str(folder))


def test_headers_tell_mixed_sizes_unreadable_images_and_gaps(tmp_path: Path):
    for number in (1, 2, 3, 4, 7, 8):
        Image.new("RGB", (30, 20)).save(tmp_path / f"frame_{number}.png")
    Image.new("RGB", (32, 20)).save(tmp_path / "frame_2.png")
    (tmp_path / "frame_4.png").write_bytes(b"no image")
    found = [f"{Path(f.path).name}: {f.found}" for f in image_findings(probe(str(tmp_path)))]
    assert found[0] == "frame_2.png: an image of 32 x 20 in a folder that starts with 30 x 20"
    assert found[1].startswith("frame_4.png: unreadable image (")
    assert found[2].endswith("2 number(s) missing after frame_4.png")
    assert len(found) == 3
