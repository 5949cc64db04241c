"""From recordings to a store: what was planted is left out, what is kept is as recorded, and nothing else matters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.corpus import pipeline
from surgmotion_jax.corpus.config import IngestConfig
from surgmotion_jax.corpus.engine import LocalEngine, progress
from surgmotion_jax.corpus.fingerprint import Fingerprint, hashes
from surgmotion_jax.corpus.lists import ListedVideo
from surgmotion_jax.corpus.losses import COPY, LEAK, NEAR_COPY, UNREADABLE, Loss, clock, read_losses
from surgmotion_jax.corpus.observe import glance, lit
from surgmotion_jax.corpus.pipeline import Ingested, ingest
from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, probe
from surgmotion_jax.data.decode import read_frames
from surgmotion_jax.data.records.jpeg import decode_jpeg, encode_jpeg
from surgmotion_jax.data.records.manifest import MANIFEST, WORK
from surgmotion_jax.data.records.store import problems
from tests.corpus.scenes import letterboxed, resized, scene, write_file, write_folder
from tests.corpus.stores import files

FPS, SIZE = 8.0, (64, 80)
SMALL = IngestConfig(fps=4.0, size=64, frames=8, shard_mb=0.15)


def spoilt(seed: int, start: int, stop: int, level: int | None) -> np.ndarray:
    """An operation of 24 s that is black (of a level) or frozen (None) from one frame to another."""
    video = scene(seed, 24, FPS, SIZE)
    video[start:stop] = video[start] if level is None else level
    return video


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, SourceConfig]:
    """Two data sets in which something of every kind is planted."""
    root = tmp_path_factory.mktemp("sources")
    whole = {seed: scene(seed, 24, FPS, SIZE) for seed in range(5)}
    write_file(root / "knee/a.mp4", whole[0], FPS)
    write_file(root / "knee/black.mkv", spoilt(11, 80, 112, 3), FPS)
    write_file(root / "knee/frozen.ts", spoilt(12, 80, 120, None), FPS)
    write_folder(root / "knee/frames", whole[1][::2])
    (root / "knee/damaged.mp4").write_bytes(b"no video")
    write_file(root / "hip/b.mp4", whole[2], FPS)
    shutil.copy(root / "knee/a.mp4", root / "hip/again.mp4")
    write_file(root / "hip/smaller.mkv", resized(whole[0], (48, 60))[::2], FPS / 2, crf=24)
    write_file(root / "hip/part.mp4", whole[2][64:144], FPS)
    write_file(root / "hip/tested.mp4", letterboxed(whole[3], 16), FPS)
    return {
        "knee": SourceConfig(str(root / "knee"), "knee", folder_fps=4.0, licence="CC BY 4.0"),
        "hip": SourceConfig(str(root / "hip"), "hip"),
    }


@pytest.fixture(scope="module")
def listed() -> list[ListedVideo]:
    """A benchmark that is tested on the operation of hip/tested.mp4, and on another."""
    videos = []
    for name, seed in (("video47", 3), ("video48", 30)):
        small = np.stack([glance(picture).small_SxSx3 for picture in scene(seed, 24, FPS, SIZE)])
        videos.append(ListedVideo("test", Fingerprint("cholec80", name, *hashes(small, FPS, lit(small)))))
    return videos


@pytest.fixture(scope="module")
def made(sources, listed, tmp_path_factory) -> tuple[Path, Ingested]:
    out = tmp_path_factory.mktemp("made") / "store"
    return out, ingest(sources, str(out), SMALL, LocalEngine(), listed)


def lost(made: tuple[Path, Ingested], case: str) -> list[Loss]:
    return [loss for loss in made[1].losses if loss.case == case]


def test_what_was_planted_is_left_out_and_nothing_else(made):
    kept = {case.case: [(a / 4, b / 4) for a, b in case.stretches] for case in made[1].manifest.cases}
    assert kept.pop("black") == [(0, 10), (14, 24)]
    assert kept.pop("frozen") == [(0, 10), (15, 24)]
    assert kept == {"a": [(0, 24)], "frames": [(0, 24)], "b": [(0, 24)]}


@pytest.mark.parametrize(
    ("case", "reason", "detail"),
    [
        ("again", COPY, "the same file as knee/a"),
        ("damaged", UNREADABLE, "cannot be decoded"),
        ("smaller", NEAR_COPY, "is knee/a from 00:00 to 00:24"),
        ("part", NEAR_COPY, "is hip/b from 00:08 to 00:18"),
        ("tested", LEAK, "is cholec80 test video47 from 00:00 to 00:24"),
        ("black", "black", ""),
        ("frozen", "frozen", ""),
    ],
)
def test_each_loss_has_its_reason(made, case, reason, detail):
    (loss,) = lost(made, case)
    assert loss.reason == reason
    assert detail in loss.detail


def test_losses_are_written_down(made):
    assert tuple(read_losses(made[0] / pipeline.LOSSES)) == made[1].losses
    (loss,) = lost(made, "tested")
    assert loss.text == "dataset hip, video tested, 00:00 to 00:24: is cholec80 test video47 from 00:00 to 00:24"
    assert clock(3725) == "1:02:05"


def test_the_store_is_whole_and_holds_what_was_recorded(made, sources):
    out, ingested = made
    assert not list(problems(str(out)))
    assert len(ingested.manifest.shards) > 1
    assert not (out / WORK).exists()
    path = f"records:{out}#hip/b"
    times = [0.0, 3.3, 11.0, 23.9]
    recorded = read_frames(f"{sources['hip'].path}/b.mp4", [0.0, 3.25, 11.0, 23.75])
    stored = [decode_jpeg(encode_jpeg(picture, 90), SIZE) for picture in recorded]
    assert np.array_equal(read_frames(path, times), stored)
    assert probe(path).fps == 4.0
    dataset = ClipDataset(DataConfig({"k": SourceConfig(f"records:{out}#knee")}, frames=4, canvas=(32, 32)), 0)
    assert {dataset.clip(n).case for n in range(40)} == {"a", "black", "frozen", "frames"}


class Killed(Exception):
    """What a test ends an ingestion with."""


class Fragile(LocalEngine):
    """An engine that is killed after so many items."""

    left = 0

    def each(self, what, function, items):
        def fragile(item):
            if not Fragile.left:
                raise Killed
            Fragile.left -= 1
            function(item)

        super().each(what, fragile, items)


@pytest.mark.parametrize("after", [0, 5, 14, 20])
def test_an_ingestion_that_was_killed_goes_on_and_writes_the_same(made, sources, listed, tmp_path, after):
    out = tmp_path / "store"
    Fragile.left = after
    with pytest.raises(Killed):
        ingest(sources, str(out), SMALL, Fragile(), listed)
    assert not (out / MANIFEST).exists()
    with pytest.raises(ValueError, match="being written"):
        list(problems(str(out)))
    ingest(sources, str(out), SMALL, LocalEngine(), listed)
    assert files(out) == files(made[0])


def test_two_processes_write_the_same(made, sources, listed, tmp_path):
    with LocalEngine(2) as engine:
        ingest(sources, str(tmp_path / "store"), SMALL, engine, listed)
    assert files(tmp_path / "store") == files(made[0])


@pytest.mark.parametrize(
    "options", [(), ("--direct_num_workers=2", "--direct_running_mode=multi_processing")], ids=["embedded", "processes"]
)
def test_beam_writes_the_same(made, sources, listed, tmp_path, options):
    pytest.importorskip("apache_beam", reason="the extra ingest is not installed")
    from surgmotion_jax.corpus.beam import BeamEngine

    ingest(sources, str(tmp_path / "store"), SMALL, BeamEngine("FnApiRunner", options), listed)
    assert files(tmp_path / "store") == files(made[0])


def test_a_finished_store_is_not_written_over(made, sources):
    before = files(made[0])
    with pytest.raises(ValueError, match="holds a finished store"):
        ingest(sources, str(made[0]), SMALL, LocalEngine())
    assert files(made[0]) == before


def test_other_settings_after_an_interruption_leave_nothing_of_the_first(sources, tmp_path):
    only = {"hip": sources["hip"]}
    Fragile.left = 13
    with pytest.raises(Killed):
        ingest(only, str(tmp_path / "store"), SMALL, Fragile())
    other = IngestConfig(fps=2.0, size=32, frames=8, shard_mb=0.15)
    ingest(only, str(tmp_path / "store"), other, LocalEngine())
    ingest(only, str(tmp_path / "fresh"), other, LocalEngine())
    assert files(tmp_path / "store") == files(tmp_path / "fresh")


def test_nothing_left_is_an_error_that_says_why(tmp_path):
    write_file(tmp_path / "in/black.mp4", np.zeros((40, *SIZE, 3), np.uint8), FPS)
    with pytest.raises(
        ValueError, match="nothing is left of 1 recordings:\ndataset x, video black, 00:00 to 00:05: black"
    ):
        ingest({"x": SourceConfig(str(tmp_path / "in"))}, str(tmp_path / "out"), SMALL, LocalEngine())


def test_a_remote_store_is_refused(sources):
    with pytest.raises(ValueError, match="local disk or mount"):
        ingest(sources, "gs://bucket/store", SMALL, LocalEngine())


def failing(item: int) -> None:
    raise OSError(f"no room for {item}")


def test_a_runner_that_fails_says_which_and_what_to_do():
    pytest.importorskip("apache_beam")
    from surgmotion_jax.corpus.beam import BeamEngine

    with pytest.raises(ValueError, match=r"--runner=FnApiRunner, read: .*; what was done is kept: repeat the command"):
        BeamEngine("FnApiRunner", ("--direct_num_workers=2", "--direct_running_mode=multi_processing")).each(
            "read", failing, [1, 2]
        )


def test_segments_of_a_table_are_kept_and_nothing_between(tmp_path):
    write_file(tmp_path / "a.mp4", scene(0, 24, FPS, SIZE), FPS)
    (tmp_path / "t.csv").write_text("path,start,end\na.mp4,2,8\na.mp4,12,20\n")
    made = ingest({"x": SourceConfig(str(tmp_path / "t.csv"))}, str(tmp_path / "out"), SMALL, LocalEngine())
    (case,) = made.manifest.cases
    assert [(a / 4, b / 4) for a, b in case.stretches] == [(2, 8), (12, 20)]
    path = f"records:{tmp_path / 'out'}#x/a"
    recorded = decode_jpeg(encode_jpeg(read_frames(str(tmp_path / "a.mp4"), [13.0])[0], 90), SIZE)
    assert np.array_equal(read_frames(path, [13.1])[0], recorded)


def test_takes_of_a_joined_file_are_cases_of_their_own(tmp_path):
    for seed, name in ((0, "a"), (1, "b")):
        write_file(tmp_path / f"parts/{name}.ts", scene(seed, 8, FPS, SIZE), FPS)
    (tmp_path / "in").mkdir()
    joined = b"".join((tmp_path / f"parts/{name}.ts").read_bytes() for name in "ab")
    (tmp_path / "in/joined.ts").write_bytes(joined)
    made = ingest({"x": SourceConfig(str(tmp_path / "in"))}, str(tmp_path / "out"), SMALL, LocalEngine())
    assert [case.case for case in made.manifest.cases] == ["joined", "joined.take2"]


def test_what_is_kept_can_be_recognised_again(made):
    videos = json.loads((made[0] / pipeline.FINGERPRINTS).read_text())["videos"]
    assert [video["case"] for video in videos] == ["a", "black", "frozen", "frames", "b"]
    (black,) = (video for video in videos if video["case"] == "black")
    weak = [second for second, text in enumerate(black["seconds"]) if text.startswith("-")]
    assert weak == [10, 11, 12, 13]


def test_progress_says_how_long_the_rest_takes():
    assert progress("read", 5, 20, 10.0) == "read 5 of 20, 10 s, 30 s left"
    told = []
    LocalEngine(tell=told.append).each("read", lambda item: None, [1, 2])
    assert [line.split(",")[0] for line in told] == ["read 1 of 2", "read 2 of 2"]
