"""The same video under two names, and what is passed over: noticed when the data are listed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig
from surgmotion_jax.data.copies import originals
from surgmotion_jax.data.sources import expand, passed_over
from tests.data.recordings import painted, write


@pytest.fixture(scope="module")
def two_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for name, first in (("a", 0), ("b", 500)):
        write(folder / f"{name}.mp4", [painted(first + number) for number in range(30)])
    return folder


def _again(folder: Path, how: str) -> Path:
    name = folder / "c.mp4"
    {"symlink": os.symlink, "hard link": os.link, "copy": shutil.copy}[how](folder / "a.mp4", name)
    return name


@pytest.mark.parametrize("how", ["symlink", "hard link", "copy"])
@pytest.mark.parametrize("holdout_by", ["time", "case"])
def test_a_video_under_two_names_is_used_once(tmp_path: Path, two_videos: Path, how: str, holdout_by: str):
    folder = Path(shutil.copytree(two_videos, tmp_path / "x"))
    _again(folder, how)
    config = DataConfig(
        {"d": SourceConfig(str(folder))}, frames=2, fps=5.0, canvas=(64, 64), holdout=0.4, holdout_by=holdout_by
    )
    catalogue = ClipDataset(config, 0).catalogue
    assert [Path(video.file.path).name for video in catalogue.videos] == ["a.mp4", "b.mp4"]
    assert [Path(fault.path).name for fault in catalogue.copies] == ["c.mp4"]
    assert catalogue.copies[0].reason.startswith(f"the same video as {folder / 'a.mp4'}")


def test_a_copy_in_another_dataset_is_refused(tmp_path: Path, two_videos: Path):
    folder = Path(shutil.copytree(two_videos, tmp_path / "x"))
    other = tmp_path / "y"
    other.mkdir()
    shutil.copy(folder / "a.mp4", other / "z.mp4")
    sources = {"d": SourceConfig(str(folder)), "e": SourceConfig(str(other))}
    with pytest.raises(ValueError, match=r"z\.mp4 is in the datasets 'd' and 'e'.*so list it once"):
        ClipDataset(DataConfig(sources, frames=2, fps=5.0, canvas=(64, 64)), 0)


def test_only_equal_content_is_a_copy(tmp_path: Path):
    for name, data in (("a", b"one"), ("b", b"two"), ("c", b"one"), ("d", b"three")):
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in "abcd"]
    assert originals([*paths, str(tmp_path / "absent")]) == {paths[2]: paths[0]}


@pytest.mark.parametrize("suffix", ["ts", "mts", "m2ts", "mpg", "mpeg", "m4v", "mkv", "MOV", "flv", "wmv"])
def test_what_recorders_write_is_listed(tmp_path: Path, suffix: str):
    (tmp_path / f"a.{suffix}").touch()
    assert len(expand("d", SourceConfig(str(tmp_path)))) == 1
    assert len(expand("d", SourceConfig(str(tmp_path / f"a.{suffix}")))) == 1


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path):
    for name in ("a.mp4", "a.srt", "b.srt", "c.srt", "sub/d.srt", "thumb.jpg", "frames/1.png", "frames/2.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told = sorted(fault.reason for fault in passed_over("d", SourceConfig(str(tmp_path))))
    srt = os.path.join("sub", "d.srt")
    bmp = os.path.join("frames", "2.bmp")
    assert told == [f"1 x .bmp: {bmp}", "1 x .jpg: thumb.jpg", "4 x .srt: a.srt, b.srt, c.srt and 1 more"]
    assert srt not in told[2]


def test_a_table_whose_paths_climb_out_is_refused(tmp_path: Path):
    (tmp_path / "x").mkdir()
    (tmp_path / "secret.mp4").touch()
    (tmp_path / "x" / "t.csv").write_text("path\n../secret.mp4\n")
    with pytest.raises(ValueError, match=r"t\.csv, line 2: '\.\./secret\.mp4' leads out of the folder of the table"):
        expand("d", SourceConfig(str(tmp_path / "x" / "t.csv")))
    (tmp_path / "x" / "t.csv").write_text(f"path\n{tmp_path}/secret.mp4\n")
    assert len(expand("d", SourceConfig(str(tmp_path / "x" / "t.csv")))) == 1


def test_an_image_alone_beside_folders_is_a_picture_of_them(tmp_path: Path):
    """As `surgmotion simulate` writes a preview beside its folders of videos."""
    frames = tmp_path / "case"
    frames.mkdir()
    for path in (frames / "1.jpg", frames / "2.jpg", tmp_path / "preview.jpg"):
        path.touch()
    source = SourceConfig(str(tmp_path))
    assert [file.path for file in expand("d", source)] == [str(frames)]
    assert [fault.reason for fault in passed_over("d", source)] == ["1 x .jpg: preview.jpg"]
    (tmp_path / "second.jpg").touch()
    assert [file.path for file in expand("d", source)] == [str(tmp_path), str(frames)]
    assert not passed_over("d", source)
