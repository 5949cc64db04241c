"""Training clips from records are those from a folder of the same JPEG files, bit for bit, however they are read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, UnreadableVideo, batches, check, probe
from surgmotion_jax.data.catalogue import BudgetExceeded
from surgmotion_jax.data.decode import read_all, read_frames
from surgmotion_jax.data.records.jpeg import encode_jpeg
from surgmotion_jax.data.records.manifest import MANIFEST, SHARDS
from surgmotion_jax.data.sources import expand
from tests.corpus.scenes import scene, write_folder
from tests.corpus.stores import write_store

SIZE, FPS = (48, 60), 4.0


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    """The same three cases as a folder of frame folders and as a store."""
    root = tmp_path_factory.mktemp("both")
    videos = {name: scene(n, 9 + n, FPS, SIZE) for n, name in enumerate("abc")}
    for name, video in videos.items():
        write_folder(root / "folders" / name, video)
    files = {name: [encode_jpeg(picture, 90) for picture in video] for name, video in videos.items()}
    return root / "folders", write_store(root / "store", files, SIZE)


def config(path: str, **changes: object) -> DataConfig:
    fields = {"frames": 6, "fps": 2.5, "canvas": (32, 32), "holdout": 0.3, **changes}
    return DataConfig({"x": SourceConfig(path, folder_fps=FPS)}, **fields)


def of_store(both: tuple[Path, Path]) -> str:
    return f"records:{both[1]}"


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_clips_are_those_of_the_frames_themselves(both, split, memory_gb):
    folders = ClipDataset(config(str(both[0]), memory_gb=memory_gb), 5)
    records = ClipDataset(config(of_store(both), memory_gb=memory_gb), 5)
    spanning = 0
    for index in range(40):
        one, other = folders.clip(index, split), records.clip(index, split)
        check(other)
        assert one.origin == other.origin
        assert np.array_equal(one.video_TxHxWx3, other.video_TxHxWx3)
        assert np.array_equal(one.valid_T, other.valid_T)
        spanning += int(one.time * FPS) // 5 != int((one.time + 2) * FPS) // 5
    assert spanning > 10  # clips that need two records


def test_batches_do_not_depend_on_hosts_steps_or_workers(both):
    dataset = ClipDataset(config(of_store(both)), 5)
    whole = list(batches(dataset, global_batch=6, rows=(0, 6), start_step=0, stop_step=4))
    for host in (0, 1):
        rows = (3 * host, 3 * host + 3)
        parts = batches(dataset, global_batch=6, rows=rows, start_step=2, stop_step=4)
        for part, batch in zip(parts, whole[2:], strict=True):
            assert np.array_equal(part.video_BxTxHxWx3, batch.video_BxTxHxWx3[slice(*rows)])
            assert np.array_equal(part.index_B, batch.index_B[slice(*rows)])
            assert part.origin == batch.origin[slice(*rows)]


def test_worker_processes_give_the_same_batches(both):
    alone = ClipDataset(config(of_store(both)), 5)
    helped = ClipDataset(config(of_store(both), workers=2), 5)
    span = {"global_batch": 4, "rows": (0, 4), "start_step": 0, "stop_step": 3}
    for one, other in zip(batches(alone, **span), batches(helped, **span), strict=True):
        assert np.array_equal(one.video_BxTxHxWx3, other.video_BxTxHxWx3)
        assert one.origin == other.origin


def test_any_rate_up_to_the_stored_one(both):
    path = f"{of_store(both)}#x/a"
    shown = read_all(path, info=probe(path)).video_NxHxWx3
    assert np.array_equal(read_frames(path, [0.0, 0.24, 0.26, 3.3, 99.0]), shown[[0, 0, 1, 13, 35]])
    assert ClipDataset(config(of_store(both), fps=4.0), 0).clip(0).video_TxHxWx3.shape == (6, 32, 32, 3)
    with pytest.raises(ValueError, match="holds 4 frames a second, data config field fps asks for 5"):
        ClipDataset(config(of_store(both), fps=5.0), 0)


def test_no_clip_leaves_its_stretch(both, tmp_path):
    """What was left out between two stretches is on display in no clip."""
    files = [encode_jpeg(picture, 90) for picture in scene(1, 8, FPS, SIZE)]
    store = write_store(tmp_path / "store", {"a": files}, SIZE)
    tree = json.loads((store / MANIFEST).read_text())
    tree["cases"][0]["stretches"] = [[0, 12], [20, 32]]
    (store / MANIFEST).write_text(json.dumps(tree))
    assert [(f.start_s, f.end_s) for f in expand("x", SourceConfig(f"records:{store}"))] == [(0, 3), (5, 8)]
    dataset = ClipDataset(config(f"records:{store}", fps=4.0, holdout=0), 0)
    for index in range(60):
        window = dataset.window(index)
        last = window.start_s + dataset.config.span_s
        assert last < 3 or (window.start_s >= 5 and last < 8)


def test_the_store_knows_the_specialty(both):
    assert {file.specialty for file in expand("d", SourceConfig(of_store(both), specialty="other"))} == {"knee"}


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("#y", "no data set 'y' in this store; it holds x"),
        ("#x/z", "names no case"),
        ("/nowhere", "no store of records"),
    ],
)
def test_a_location_that_names_nothing_is_refused(both, ending, told):
    with pytest.raises(ValueError, match=f"source 'd': .*{told}"):
        expand("d", SourceConfig(of_store(both) + ending))


def test_several_data_sets_are_several_sources(both, tmp_path):
    store = write_store(tmp_path / "store", {"a": [b"x"] * 5}, SIZE)
    tree = json.loads((store / MANIFEST).read_text())
    tree["sets"].append({"name": "y", "specialty": "hip", "licence": "", "terms": ""})
    (store / MANIFEST).write_text(json.dumps(tree))
    with pytest.raises(ValueError, match="holds the data sets x, y; make a source of each"):
        expand("d", SourceConfig(f"records:{store}"))


def test_a_damaged_record_is_replaced_within_the_budget(both, tmp_path):
    videos = {name: [encode_jpeg(p, 90) for p in scene(n, 9, FPS, SIZE)] for n, name in enumerate("ab")}
    store = write_store(tmp_path / "store", videos, SIZE)
    shard = store / SHARDS / "x-00000.arrayrecord"
    data = bytearray(shard.read_bytes())
    place = bytes(data).find(videos["a"][12])
    data[place + 20] ^= 1
    shard.write_bytes(bytes(data))
    dataset = ClipDataset(config(f"records:{store}", bad_budget=0.5), 0)
    drawn = [dataset.draw(index) for index in range(30)]
    faults = {fault.reason for _, found in drawn for fault in found}
    assert len(faults) == 1
    assert "x-00000.arrayrecord, record 2" in faults.pop()
    assert all(sample.video_TxHxWx3.shape == (6, 32, 32, 3) for sample, _ in drawn)
    strict = ClipDataset(config(f"records:{store}", bad_budget=0), 0)
    with pytest.raises(BudgetExceeded, match="record 2"):
        [strict.clip(index) for index in range(30)]


def test_a_frame_of_another_size_or_kind_is_refused(tmp_path):
    good, other = (encode_jpeg(np.zeros((*size, 3), np.uint8), 90) for size in (SIZE, (20, 20)))
    store = write_store(tmp_path / "store", {"a": [good, other, b"no picture"]}, SIZE)
    path = f"records:{store}#x/a"
    for time_s, told in ((0.25, "20 x 20 pixels in a case of 60 x 48"), (0.5, "does not decode")):
        with pytest.raises(UnreadableVideo, match=told):
            read_frames(path, [time_s])


def test_a_case_over_a_cap_is_refused(both):
    limits = dataclasses.replace(DataConfig({"x": SourceConfig("y")}), max_pixels=100)
    with pytest.raises(BudgetExceeded, match="over the cap"):
        ClipDataset(config(of_store(both), max_pixels=limits.max_pixels), 0)
