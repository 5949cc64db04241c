"""Finds the pictures of a case: one video file, or a folder of numbered images without a gap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import ImageFrames, VideoFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.data.images import IMAGE_SUFFIXES, natural_key


def folder(path: Path, layout: str) -> Path:
    """`path`, which must be a folder. Raises BenchmarkError telling the whole layout otherwise."""
    if not path.is_dir():
        found = "a file" if path.exists() else "no such folder"
        raise BenchmarkError(path, found, layout, "check --root, or put the folder there")
    return path


def video_file(path: Path) -> VideoFrames:
    """The video `path`, which the layout names with its suffix.

    Raises BenchmarkError where it is missing, naming a file of the same stem with another suffix.
    """
    if path.is_file():
        return VideoFrames(path)
    others = sorted(p.name for p in path.parent.glob(f"{path.stem}.*")) if path.parent.is_dir() else []
    found = f"{', '.join(others)} instead" if others else "no such file"
    raise BenchmarkError(path, found, f"a video {path.name}", "put the video there, in this format")


def numbered_images(path: Path, pattern: str, fps: float, step: int = 1) -> ImageFrames:
    """The images of a folder, in the order of their numbers.

    Args:
        path: the folder.
        pattern: regular expression of a whole file name without suffix, whose first group is the number.
        fps: images per second.
        step: between the numbers of neighbours.

    Raises:
        BenchmarkError: no folder, no image, another name or suffix, mixed suffixes, or a number that is missing.
    """
    if not path.is_dir():
        raise BenchmarkError(path, "no such folder", "a folder of images", "put the folder there")
    names = sorted((p.name for p in path.iterdir() if not p.name.startswith(".")), key=natural_key)
    asks = f"images named {pattern}, or PREFIX and a number, with one of the suffixes {', '.join(IMAGE_SUFFIXES)}"
    pattern = _pattern_of(names, pattern)
    numbers: dict[int, str] = {}
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        match = re.fullmatch(pattern, stem)
        if dot + suffix.lower() not in IMAGE_SUFFIXES or match is None:
            raise BenchmarkError(path / name, "a file of another name", asks, "move it out of the folder or rename it")
        number = int(match[1])
        if number in numbers:
            raise BenchmarkError(
                path / name, f"number {number} again after {numbers[number]}", asks, "keep one of them"
            )
        numbers[number] = name
    if not numbers:
        raise BenchmarkError(path, "no image", asks, "extract the frames into it")
    first = min(numbers)
    for place, number in enumerate(sorted(numbers)):
        if number != first + place * step:
            raise BenchmarkError(
                path,
                f"no image number {first + place * step}",
                f"numbers from {first} in steps of {step}",
                "extract the missing frame again",
                at=f"frame {place}",
            )
    return ImageFrames(tuple(path / numbers[number] for number in sorted(numbers)), fps)


def _pattern_of(names: Sequence[str], pattern: str) -> str:
    """`pattern`, or where the first name does not fit it, one that allows this name's prefix, digits included.

    Scripts that extract frames write video01_000025.jpg: what all names begin with is a prefix, and the last run of
    digits is the number.
    """
    stem = names[0].rpartition(".")[0] if names else ""
    prefixed = re.fullmatch(r"(.*?)\d+", stem)
    return pattern if prefixed is None or re.fullmatch(pattern, stem) else rf"{re.escape(prefixed[1])}(\d+)"


def check_count(frames: ImageFrames, moments: int, annotation: Path) -> None:
    """Raises BenchmarkError unless there is an image for each annotated moment and the other way round."""
    if len(frames.paths) != moments:
        raise BenchmarkError(
            frames.paths[0].parent,
            f"{len(frames.paths)} images",
            f"{moments}, one for each row of {annotation}",
            "extract the frames again, or restore the annotation",
        )


def stems(path: Path, suffix: str, pattern: str, layout: str) -> list[str]:
    """First group of `pattern` for each file `*suffix` in a folder, in natural order; other suffixes are not looked at.

    Raises BenchmarkError for a folder without such a file, and for a file of that suffix with another name.
    """
    found = sorted(
        (p for p in folder(path, layout).glob(f"*{suffix}") if p.name[0] != "."), key=lambda p: natural_key(p.name)
    )
    if not found:
        raise BenchmarkError(path, f"no *{suffix} file", layout, "check --root, or put the files there")
    ids = []
    for file in found:
        match = re.fullmatch(pattern, file.name.removesuffix(suffix))
        if match is None:
            raise BenchmarkError(
                file, "a file of another name", f"names like {pattern}{suffix}", "move it out or rename it"
            )
        ids.append(match[1])
    return ids


def subfolders(path: Path, layout: str) -> Sequence[Path]:
    """Folders directly in `path`, in natural order. Raises BenchmarkError where there are none."""
    inside = sorted(
        (p for p in folder(path, layout).iterdir() if p.is_dir() and p.name[0] != "."),
        key=lambda p: natural_key(p.name),
    )
    if not inside:
        raise BenchmarkError(path, "no folders", layout, "check --root, or put the folders there")
    return inside
