"""Masks mean the same however they are stored, and what could mean two things is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.masks import decode_mask
from surgmotion_jax.data.media import Limits


@pytest.fixture
def mask() -> np.ndarray:
    """A disc and a thin line on a background."""
    rows, columns = np.mgrid[:64, :80]
    found = (rows - 30) ** 2 + (columns - 40) ** 2 < 15**2
    found[50:52, 10:60] = True
    return found


def painted(mask_HxW, *colour):
    return (mask_HxW[..., None] * np.array(colour)).astype(np.uint8)


def palette(mask_HxW, *colour):
    image = Image.fromarray(mask_HxW.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, *colour])
    return image


def with_alpha(mask_HxW, level=255):
    white = np.full((*mask_HxW.shape, 3), 255, np.uint8)
    return np.dstack([white, (mask_HxW * level).astype(np.uint8)])


WAYS = {
    "ones": lambda m: m.astype(np.uint8),
    "white": lambda m: (m * 255).astype(np.uint8),
    "grey 100": lambda m: (m * 100).astype(np.uint8),
    "grey 127": lambda m: (m * 127).astype(np.uint8),
    "one bit": Image.fromarray,
    "sixteen bits": lambda m: (m * 65535).astype(np.uint16),
    "red": lambda m: painted(m, 255, 0, 0),
    "blue": lambda m: painted(m, 0, 0, 255),
    "dark red": lambda m: painted(m, 128, 0, 0),
    "palette": lambda m: palette(m, 128, 0, 0),
    "alpha": with_alpha,
    "weak alpha": lambda m: with_alpha(m, 90),
    "red with a constant alpha": lambda m: np.dstack([painted(m, 255, 0, 0), np.full(m.shape, 255, np.uint8)]),
    "blurred rim": lambda m: Image.fromarray((m * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6)),
}


def save(path: Path, picture) -> Path:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path)
    return path


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_means_the_same_however_it_is_stored(way, mask, tmp_path):
    assert np.array_equal(decode_mask(save(tmp_path / "mask.png", WAYS[way](mask))), mask)


@pytest.mark.parametrize("way", ["white", "red", "grey 100"])
@pytest.mark.parametrize("quality", [50, 90])
def test_the_rims_of_a_jpeg_are_no_third_class(way, quality, mask, tmp_path):
    image = Image.fromarray(WAYS[way](mask))
    image.save(tmp_path / "mask.jpg", quality=quality)
    read = decode_mask(tmp_path / "mask.jpg")
    assert (read != mask).mean() < 0.02
    assert read.any()


def test_an_empty_mask_is_empty_and_a_full_one_full(tmp_path):
    for top in (1, 255):
        assert decode_mask(save(tmp_path / "full.png", np.full((8, 8), top, np.uint8))).all()
    assert not decode_mask(save(tmp_path / "empty.png", np.zeros((8, 8), np.uint8))).any()
    noise = np.random.default_rng(0).integers(0, 4, (16, 16)).astype(np.uint8)
    assert not decode_mask(save(tmp_path / "empty.jpg", noise)).any()
    assert not decode_mask(save(tmp_path / "clear.png", with_alpha(np.zeros((8, 8), bool)))).all()


def square(mask_HxW):
    """A second object, beside the mask's."""
    found = np.zeros_like(mask_HxW)
    found[:12, :12] = True
    return found


def classes(mask_HxW, *values):
    """The mask's object as one value, a square beside it as another."""
    return np.where(square(mask_HxW), values[1], mask_HxW * values[0]).astype(np.uint8)


REFUSED = {
    "class numbers": (lambda m: classes(m, 1, 2), r"a third value beside 0 and 2 \(1\)"),
    "three greys": (lambda m: classes(m, 255, 128), r"a third value beside 0 and 255 \(128\)"),
    "two colours": (lambda m: painted(m, 255, 0, 0) + painted(square(m) & ~m, 0, 255, 0), "several colours"),
    "a coloured background": (lambda m: painted(m, 255, 0, 0) + painted(~m, 0, 0, 255), "several colours"),
    "one grey everywhere": (lambda m: np.full(m.shape, 100, np.uint8), "values of 100 everywhere"),
    "two greys near each other": (lambda m: (127 + m).astype(np.uint8), "values of 127 to 128 and nothing near 0"),
    "colour and alpha": (
        lambda m: np.dstack([painted(m, 255, 0, 0), (m[::-1] * 255).astype(np.uint8)]),
        "colour and transparency both vary",
    ),
    "negative numbers": (lambda m: Image.fromarray(m.astype(np.float32) - 1), "negative or not finite"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_could_mean_two_things_is_refused(kind, mask, tmp_path):
    picture, message = REFUSED[kind]
    path = save(tmp_path / "mask.tif", picture(mask))
    with pytest.raises(BenchmarkError, match=message) as error:
        decode_mask(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_huge_one_are_refused(tmp_path):
    with pytest.raises(BenchmarkError, match=r"a\.png: found no such file"):
        decode_mask(tmp_path / "a.png")
    path = save(tmp_path / "b.png", np.ones((8, 8), np.uint8))
    with pytest.raises(BenchmarkError, match="a mask of ordinary size"):
        decode_mask(path, Limits(max_pixels=63))
