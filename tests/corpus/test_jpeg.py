"""JPEG files: both libraries give the same picture, and refuse the same files."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.data.records.jpeg import by_pillow, by_simplejpeg, decode_jpeg, encode_jpeg
from tests.corpus.scenes import scene

PICTURE = scene(3, 1, 2, (51, 83))[0]
FILE = encode_jpeg(PICTURE, 90)
SIZE = PICTURE.shape[:2]


@pytest.fixture(params=[by_pillow, by_simplejpeg])
def decode(request):
    if request.param is by_simplejpeg:
        pytest.importorskip("simplejpeg", reason="the extra records is not installed")
    return request.param


def test_the_picture_comes_back(decode):
    assert np.abs(decode(FILE, SIZE).astype(int) - PICTURE).mean() < 3
    assert np.array_equal(decode(FILE, SIZE), decode_jpeg(FILE, SIZE))


@pytest.mark.parametrize("seed", range(4))
def test_both_give_the_same_bits(seed):
    pytest.importorskip("simplejpeg", reason="the extra records is not installed")
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(17, 90)), int(rng.integers(17, 90)))
    for picture in (scene(seed, 1, 1, size)[0], rng.integers(0, 256, (*size, 3), np.uint8)):
        file = encode_jpeg(picture, 90 - 20 * seed)
        assert np.array_equal(by_pillow(file, size), by_simplejpeg(file, size))


def test_the_same_picture_gives_the_same_file():
    assert encode_jpeg(PICTURE.copy(), 90) == FILE
    assert encode_jpeg(PICTURE, 60) != FILE


@pytest.mark.parametrize(
    ("data", "size", "told"),
    [
        (FILE, (50, 83), "83 x 51 pixels in a case of 83 x 50"),
        (FILE[:200], SIZE, "does not decode"),
        (FILE[: len(FILE) // 2], SIZE, "does not decode"),
        (b"", SIZE, "does not decode"),
        (b"no picture", SIZE, "does not decode"),
    ],
)
def test_what_is_no_such_picture_is_refused(decode, data, size, told):
    with pytest.raises(ValueError, match=told):
        decode(data, size)
