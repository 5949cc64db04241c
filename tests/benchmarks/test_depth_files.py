"""Depth files: every format gives the same millimetres; what is not a depth map is refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from surgmotion_jax.benchmarks.depth_files import decode_depth, encode_depth
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.data.media import Limits

UNITS_HxW = np.array([[0, 1, 300], [65535, 40000, 2]], np.uint16)
SCALE = 100 / 65535


def test_formats_agree(tmp_path: Path):
    Image.fromarray(UNITS_HxW).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", UNITS_HxW)
    tifffile.imwrite(tmp_path / "a.tiff", UNITS_HxW)
    millimetres = np.where(UNITS_HxW == 0, np.nan, UNITS_HxW.astype(np.float32) * np.float32(SCALE))
    np.save(tmp_path / "b.npy", millimetres)
    tifffile.imwrite(tmp_path / "b.tif", millimetres)
    points = np.stack([millimetres + 5, millimetres - 3, millimetres], -1).astype(np.float32)
    tifffile.imwrite(tmp_path / "c.tiff", points, photometric="rgb")
    for name in ("a.png", "a.npy", "a.tiff", "b.npy", "b.tif", "c.tiff"):
        depth_HxW = decode_depth(tmp_path / name, SCALE)
        assert depth_HxW.dtype == np.float32
        assert np.array_equal(depth_HxW, millimetres, equal_nan=True), name
    assert decode_depth(tmp_path / "a.png", SCALE)[1, 0] == pytest.approx(100.0)


def test_depth_survives_encoding_bit_by_bit(tmp_path: Path):
    depth_HxW = np.random.default_rng(0).gamma(4, 10, (7, 9)).astype(np.float32)
    depth_HxW[2, 3] = np.nan
    (tmp_path / "d.tiff").write_bytes(encode_depth(depth_HxW))
    assert np.array_equal(decode_depth(tmp_path / "d.tiff"), depth_HxW, equal_nan=True)


def _save(path: Path, content) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".png":
        Image.fromarray(content).save(path)
    else:
        tifffile.imwrite(path, content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", np.array([["x", "y"]]), r"found <U1 \[1, 2\]; .* 16-bit grey PNG"),
        ("a.npy", np.array([[None, 1]], object), r"found no readable depth map"),
        ("a.npy", np.ones((2, 2), complex), r"found complex128"),
        ("a.npy", np.ones((2, 2, 2), np.float32), r"found float32 \[2, 2, 2\]"),
        ("a.png", np.ones((2, 2), np.uint8), r"found uint8 \[2, 2\]"),
        ("a.png", np.ones((2, 2, 3), np.uint8), r"found uint8 \[2, 2, 3\]"),
        ("a.tiff", np.ones((2, 2, 3), np.uint16), r"found uint16"),
        ("a.tiff", -np.ones((2, 2), np.float32), r"found a depth of -1; .* above 0"),
        ("a.tiff", b"II*\0 cut short", r"found no readable depth map"),
        ("a.png", b"no picture", r"found no readable depth map"),
        ("a.npy", b"", r"found no readable depth map"),
        ("a.exr", b"x", r"found the ending '\.exr'; .* \.png, \.npy"),
    ],
)
def test_what_is_not_depth_is_refused(tmp_path: Path, name, content, message):
    with pytest.raises(BenchmarkError, match=rf"{name}: {message}"):
        decode_depth(_save(tmp_path / name, content))


def test_a_tiff_cut_short_is_refused(tmp_path: Path):
    path = _save(tmp_path / "a.tiff", np.ones((40, 40), np.float32))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BenchmarkError, match=r"a\.tiff: found no readable depth map"):
        decode_depth(path)


def test_a_pickle_in_an_npy_does_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "marker"), "w"))

    np.save(tmp_path / "a.npy", np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(BenchmarkError, match=r"a\.npy: found no readable depth map"):
        decode_depth(tmp_path / "a.npy")
    assert not (tmp_path / "marker").exists()


def test_missing_files_and_huge_ones_are_refused(tmp_path: Path):
    with pytest.raises(BenchmarkError, match=r"a\.png: found no such file"):
        decode_depth(tmp_path / "a.png")
    path = _save(tmp_path / "b.png", np.ones((8, 8), np.uint16))
    tiff = _save(tmp_path / "b.tiff", np.ones((8, 8), np.uint16))
    with pytest.raises(ValueError, match=r"over the cap"):
        decode_depth(tiff, limits=Limits(max_pixels=63))
    with pytest.raises(ValueError, match=r"over the cap, max_pixels = 63"):
        decode_depth(path, limits=Limits(max_pixels=63))
