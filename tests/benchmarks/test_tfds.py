"""TFDS folders: every sample as from the data set's own files, through every door, without TensorFlow."""

import dataclasses
import importlib.util
import io
import itertools
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grain
import numpy as np
import pytest
from fake_cases import HEIGHT, WIDTH, draw, simulate
from PIL import Image

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.tfds_builder import BuildConfig, build
from surgmotion_jax.benchmarks.tfds_contents import read_contents
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, UnreadableVideo, batches, probe, read_frames
from surgmotion_jax.data.segment import Segment, parse_segment
from surgmotion_jax.data.tfds_source import (
    Archive,
    annotation_path,
    locations,
    open_archive,
    open_segment,
    parse_location,
    stored_file,
)

WINDOW = 3
CASES = {"surgicalactions160": 32, "polypdiag": 8}
"""Where three would be too few to have every class in every split."""
LOSSLESS = BuildConfig(quality=None, frames_per_record=3)


def same(a, b) -> None:
    """Two samples are equal in every field."""
    assert (a.dataset, a.case, a.time) == (b.dataset, b.case, pytest.approx(b.time, abs=1e-6))
    for field in ("video_TxHxWx3", "valid_T"):
        assert np.array_equal(getattr(a, field), getattr(b, field))
    assert set(a.labels) == set(b.labels)
    assert set(a.masks) == set(b.masks)
    for name, label in a.labels.items():
        assert np.array_equal(label, b.labels[name])
        assert np.asarray(label).dtype == np.asarray(b.labels[name]).dtype
    assert all(np.array_equal(mask, b.masks[name]) for name, mask in a.masks.items())
    assert (a.depth_TxHxW is None) == (b.depth_TxHxW is None)
    if a.depth_TxHxW is not None:
        assert np.array_equal(a.depth_TxHxW, b.depth_TxHxW, equal_nan=True)


def built(name: str, root: Path, config: BuildConfig = LOSSLESS, cases: int = 3) -> tuple[Benchmark, Contents, str]:
    """A small simulated data set, its contents, and the location of what was built from it."""
    simulate(name, root / "files", cases=cases)
    benchmark = catalogue.get(name)
    contents = benchmark.read(root / "files", benchmark.protocols[0])
    return benchmark, contents, f"tfds:{build(benchmark, contents, root / 'tfds', config).folder}"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> tuple[Benchmark, Contents, str]:
    return built("cholect50", tmp_path_factory.mktemp("cholect50"), cases=4)


def test_tensorflow_is_not_needed(tmp_path: Path):
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("can only be shown where TensorFlow is not installed")
    benchmark, contents, root = built("cholect50", tmp_path)
    case = contents.cases["test"][0]
    assert np.array_equal(read_frames(f"{root}#test/{case.id}", [1.0])[0], _pixels(case.frames.paths[1]))
    assert read_contents(benchmark, root, "rdv").cases["test"][0].id == case.id


@pytest.mark.parametrize("name", catalogue.BENCHMARKS)
def test_every_sample_is_the_folder_readers(tmp_path: Path, name):
    benchmark, contents, root = built(name, tmp_path, cases=CASES.get(name, 3))
    stored = read_contents(benchmark, root, benchmark.protocols[0])
    assert (stored.classes, stored.absent) == (contents.classes, contents.absent)
    readers = [ClipReader(WINDOW, dataset=name) for _ in range(2)]
    samples = 0
    for split in SPLITS:
        for case, again in zip(contents.cases[split], stored.cases[split], strict=True):
            assert (case.id, case.group) == (again.id, again.group)
            assert readers[0].duration(case) == pytest.approx(readers[1].duration(again), abs=1e-6)
            pairs = zip(*(r.case_samples(c) for r, c in zip(readers, (case, again), strict=True)), strict=True)
            for a, b in pairs:
                same(a, b)
                samples += 1
    assert samples >= 3
    # The data check sees no difference either.
    row = dataclasses.replace(benchmark, read=lambda folder, protocol: read_contents(benchmark, folder, protocol))
    files, records = check(benchmark, tmp_path / "files"), check(row, Path(root))
    assert records.problems == ()
    assert [(s.cases, s.groups, s.moments, s.classes) for s in records.splits] == [
        (s.cases, s.groups, s.moments, s.classes) for s in files.splits
    ]


def test_the_plain_tfds_doors_and_grain_give_the_records(videos):
    import tensorflow_datasets as tfds

    _, contents, root = videos
    folder = Path(parse_location(root).folder)
    by_folder = tfds.builder_from_directory(folder).as_data_source(split="train")
    by_name = tfds.data_source("cholect50", split="train", data_dir=folder.parents[1])
    through_grain = grain.MapDataset.source(by_folder)
    case = contents.cases["train"][0]
    assert len(by_folder) == len(by_name) == len(through_grain) == 2 * len(contents.cases["train"])
    for record in range(len(by_folder)):
        segments = [parse_segment("here", source[record]) for source in (by_folder, by_name, through_grain)]
        assert segments[0].frames == segments[1].frames == segments[2].frames
    first = parse_segment("here", through_grain[0])
    assert first.frames == tuple(path.read_bytes() for path in case.frames.paths[:3])
    assert np.array_equal(first.labels["triplet"], case.labels["triplet"][:3])


def test_a_folder_of_a_benchmark_is_a_pretraining_source(videos):
    _, contents, root = videos
    config = DataConfig(
        {"sim": SourceConfig(f"{root}#train"), "test": SourceConfig(f"{root}#test")},
        frames=2, fps=1.0, canvas=(HEIGHT, WIDTH), holdout=0.0,
    )  # fmt: skip
    dataset = ClipDataset(config, seed=3)
    assert [video.file.case for video in dataset.catalogue.videos] == [
        case.id for split in ("train", "test") for case in contents.cases[split]
    ]
    cases = {case.id: case for split in SPLITS for case in contents.cases[split]}
    batch = next(batches(dataset, global_batch=4, rows=(0, 4), start_step=0, stop_step=1))
    for video_TxHxWx3, origin in zip(batch.video_BxTxHxWx3, batch.origin, strict=True):
        case, time = origin.split("/")[1].split("@")
        images = cases[case].frames
        wanted = [images.paths[int(float(time) + step)] for step in range(2)]
        assert all(np.array_equal(video_TxHxWx3[t], _pixels(path)) for t, path in enumerate(wanted))
    kept = ClipDataset(DataConfig(**{**vars(config), "memory_gb": 0.1}), seed=3)
    assert all(np.array_equal(dataset.clip(i).video_TxHxWx3, kept.clip(i).video_TxHxWx3) for i in range(6))


def _as_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_folder_listed_twice_is_found_out(videos, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(videos[2][5:])
    sources = {"a": SourceConfig(videos[2]), "b": SourceConfig(f"tfds:{link}")}
    with pytest.raises(ValueError, match=r"is in the datasets 'a' and 'b'"):
        ClipDataset(DataConfig(sources), seed=0)


def test_threads_read_what_one_alone_reads(videos):
    paths = [f"{videos[2]}#{split}/{case.id}" for split in SPLITS for case in videos[1].cases[split]]
    alone = [read_frames(path, [0.0, 1.0, 2.0, 3.0]) for path in paths]
    open_segment.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: read_frames(path, [0.0, 1.0, 2.0, 3.0]), paths * 5))
    assert all(np.array_equal(alone[i % len(paths)], found) for i, found in enumerate(together))


def test_reading_is_reading_at_any_time(videos):
    """Frames on display between and after the stored times are the folder's too."""
    _, contents, root = videos
    case = contents.cases["test"][0]
    path = f"{root}#test/{case.id}"
    times = [0.0, 0.4, 0.999, 1.0, 2.5, 3.0, 3.9, 50.0]
    found = read_frames(path, times)
    images = [min(int(t + 1e-9), len(case.frames.paths) - 1) for t in times]
    assert all(np.array_equal(found[t], _pixels(case.frames.paths[i])) for t, i in enumerate(images))
    assert read_frames(path, times, size=16).shape == (8, 16, 24, 3)
    info = probe(path)
    assert (info.duration_s, info.fps, info.height, info.width) == (4.0, 1.0, HEIGHT, WIDTH)


def test_video_is_stored_in_step_with_the_scored_moments(tmp_path: Path):
    """Moments off the whole second keep their own grid, and frames of a video become JPEGs."""
    benchmark, contents, root = built("jigsaws", tmp_path, BuildConfig(fps=2.0, quality=95))
    case = contents.cases["train"][0]
    segments = [Archive(root[5:]).segment("train", record) for _, record in Archive(root[5:]).cases("train")[case.id]]
    kept_s = np.concatenate([segment.time_us_T for segment in segments]) / 1e6
    end = case.times_N[0]
    assert end == pytest.approx(3.9)
    assert set(np.round(np.arange(end, 0, -0.5), 6)) | set(np.arange(0, 4, 0.5)) == set(kept_s)
    stored = read_contents(benchmark, root, benchmark.protocols[0]).cases["train"][0]
    a, b = (ClipReader(4, fps=2.0).sample(c, float(c.times_N[0])) for c in (case, stored))
    assert not np.array_equal(a.video_TxHxWx3, b.video_TxHxWx3)
    assert all(np.array_equal(_as_jpeg(x, 95), y) for x, y in zip(a.video_TxHxWx3, b.video_TxHxWx3, strict=True))
    everything = build(benchmark, contents, tmp_path / "all", BuildConfig(fps=None))
    assert probe(f"tfds:{everything.folder}#train/{case.id}").fps == pytest.approx(10.0)


def test_frames_masks_and_depth_are_stored_smaller_together(tmp_path: Path):
    benchmark, contents, root = built("c3vd", tmp_path, BuildConfig(size=16, quality=None))
    stored = read_contents(benchmark, root, "table").cases["val"][0]
    a = ClipReader(1, size=16).sample(contents.cases["val"][0], 2.0)
    b = ClipReader(1).sample(stored, 2.0)
    assert a.video_TxHxWx3.shape == (1, 16, 24, 3)
    same(a, b)


def test_a_source_of_another_program_is_read_through(videos, tmp_path: Path):
    _, contents, root = videos
    folder = tmp_path / "copy"
    shutil.copytree(root[5:], folder)
    (folder / "metadata.json").write_text("{}")
    found = [location.case for location in locations(f"tfds:{folder}#train")]
    assert found == [case.id for case in contents.cases["train"]]
    path = f"tfds:{folder}#train/{found[1]}"
    assert np.array_equal(read_frames(path, [3.0]), read_frames(f"{root}#train/{found[1]}", [3.0]))


def test_locations_are_taken_apart():
    assert str(parse_location("tfds:/a/b#train/x/y")) == "tfds:/a/b#train/x/y"
    location = parse_location("tfds:a#val")
    assert (location.folder, location.split, location.case) == (os.path.realpath("a"), "val", "")
    for wrong in ("a/b", "tfds:", "tfds:#train"):
        with pytest.raises(ValueError, match=r"is no TFDS location; write tfds:FOLDER"):
            parse_location(wrong)


def test_wrong_locations_are_named(videos, tmp_path: Path):
    _, contents, root = videos
    with pytest.raises(ValueError, match=r"source 'd': tfds:.*holds no dataset_info\.json; name the folder of one"):
        ClipDataset(DataConfig({"d": SourceConfig(f"tfds:{tmp_path}")}), seed=0)
    with pytest.raises(ValueError, match=r"source 'd': .*no split 'tain'; there are train, val, test"):
        ClipDataset(DataConfig({"d": SourceConfig(f"{root}#tain")}), seed=0)
    with pytest.raises(ValueError, match=r"it names no case"):
        ClipDataset(DataConfig({"d": SourceConfig(f"{root}#train/VID99")}), seed=0)
    with pytest.raises(UnreadableVideo, match=r"no case 'VID99' in the split 'train'"):
        probe(f"{root}#train/VID99")
    case = parse_location(f"{root}#train/{contents.cases['train'][0].id}")
    with pytest.raises(ValueError, match=r"mask=0: the source holds nothing of that name"):
        stored_file(annotation_path(case, "mask", 0))


def test_another_benchmark_or_protocol_is_refused(videos):
    benchmark, _, root = videos
    with pytest.raises(BenchmarkError, match=r"found cholect50 under rdv; .* cholect50 under challenge; build it"):
        read_contents(benchmark, root, "challenge")
    with pytest.raises(BenchmarkError, match=r"holds no dataset_info\.json"):
        read_contents(benchmark, "tfds:/nowhere", "rdv")


def test_a_damaged_record_is_named(videos, tmp_path: Path):
    root = tmp_path / "copy"
    shutil.copytree(videos[2][5:], root)
    shard = next(iter(root.glob("*-train.array_record-*")))
    data = bytearray(shard.read_bytes())
    place = data.find(b"\x89PNG")
    data[place : place + 400] = bytes(400)
    shard.write_bytes(data)
    with pytest.raises(UnreadableVideo, match=r"tfds:.*#train, record 0: cannot be read"):
        read_frames(f"tfds:{root}#train/{videos[1].cases['train'][0].id}", [0.0])


def test_a_record_of_another_version_or_length_is_refused(videos):
    example = open_archive(videos[2][5:]).segment("train", 0).example()
    with pytest.raises(ValueError, match=r"here: schema_version is 99, this version reads 1"):
        parse_segment("here", {**example, "schema_version": 99})
    with pytest.raises(ValueError, match=r"here: 2 frames for 3 times"):
        parse_segment("here", {**example, "frames": example["frames"][:2]})
    with pytest.raises(ValueError, match=r"field triplet has 2 entries for 3 moments"):
        parse_segment("here", {**example, "labels": {"triplet": example["labels"]["triplet"][:2]}})
    assert isinstance(parse_segment("here", example), Segment)


def test_other_features_are_refused(videos, tmp_path: Path):
    root = tmp_path / "copy"
    shutil.copytree(videos[2][5:], root)
    features = json.loads((root / "features.json").read_text())
    features["featuresDict"]["features"]["frames_of_mine"] = features["featuresDict"]["features"].pop("frames")
    (root / "features.json").write_text(json.dumps(features))
    with pytest.raises(ValueError, match=r"features are not those of a clip source: \['frames', 'frames_of_mine'\]"):
        Archive(str(root))


def test_what_cannot_be_built_is_refused_and_leaves_nothing(videos, tmp_path: Path):
    benchmark, contents, root = videos
    with pytest.raises(ValueError, match=r"exists already; remove it, or choose another --out"):
        build(benchmark, contents, Path(root[5:]).parents[1], LOSSLESS)
    with pytest.raises(ValueError, match=r"no case in any split"):
        build(benchmark, Contents("cholect50", "rdv", {}, {}), tmp_path, LOSSLESS)
    case = contents.cases["train"][0]
    lost = Case("x", "x", ImageFrames((*case.frames.paths[:2], tmp_path / "lost.png")), np.arange(3.0))
    with pytest.raises(ValueError, match=r"lost\.png: found no such file"):
        build(benchmark, Contents("cholect50", "rdv", {}, {"train": (lost,)}), tmp_path / "a", LOSSLESS)
    assert not list((tmp_path / "a").rglob("*record*"))
    unequal = (Case("x", "x", lost.frames, np.arange(3.0), {"phase": np.zeros(3, int)}), case)
    with pytest.raises(ValueError, match=r"has the labels .*; all must be alike"):
        build(benchmark, Contents("cholect50", "rdv", {}, {"train": unequal}), tmp_path / "b", LOSSLESS)
    fine = Case("x", "x", ImageFrames(case.frames.paths[:1]), np.zeros(1), {"score": np.array([0.1])})
    with pytest.raises(ValueError, match=r"found a score that needs 64 bits"):
        build(benchmark, Contents("cholect50", "rdv", {}, {"train": (fine,)}), tmp_path / "c", LOSSLESS)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("fps", -1.0, r"fps is -1\.0; it must be a positive number"),
        ("quality", 0, r"quality is 0; it must lie in \[1, 100\]"),
        ("frames_per_record", 0, r"frames_per_record is 0; it must be at least 1"),
    ],
)
def test_build_config_checks_itself(field, value, message):
    with pytest.raises(ValueError, match=message):
        BuildConfig(**{field: value})


def test_the_fake_pictures_differ(tmp_path: Path):
    """Else equal samples would prove nothing."""
    script = simulate("hamlyn", tmp_path)[0].script
    frames = [frame.video_HxWx3 for frame in draw(script)]
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(frames))
