"""CholecT50: splits as published, triplets and their parts as simulated, and what a broken file is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_cases import simulate
from PIL import Image

from surgmotion_jax.benchmarks import cholect50
from surgmotion_jax.benchmarks.benchmark import SPLITS
from surgmotion_jax.benchmarks.errors import BenchmarkError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    simulate("cholect50", tmp_path)
    return tmp_path


def read(root: Path, protocol: str = "rdv"):
    return cholect50.read(root, protocol)


def edit(root: Path, change) -> Path:
    """Changes the annotation of the first video."""
    path = sorted((root / "labels").iterdir())[0]
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_the_splits_have_their_published_sizes_and_share_no_video():
    sizes = {
        "rdv": (35, 5, 10),
        "challenge": (40, 5, 5),
        **{f"crossval{fold}": (32, 8, 10) for fold in range(1, 6)},
    }
    assert tuple(sizes) == cholect50.PROTOCOLS
    for protocol, wanted in sizes.items():
        split_of = cholect50.video_splits(protocol)
        assert tuple(list(split_of.values()).count(split) for split in SPLITS) == wanted
        assert sorted(split_of) == sorted(map(cholect50.name_of, cholect50.VIDEOS))
    assert len(cholect50.VIDEOS) == len(set(cholect50.VIDEOS)) == 50


def test_every_video_is_tested_in_exactly_one_fold():
    tested = [number for fold in cholect50.FOLDS for number in fold]
    assert sorted(tested) == sorted(cholect50.VIDEOS)


def test_labels_are_those_of_the_simulation(tmp_path: Path):
    made = {case.id: case for case in simulate("cholect50", tmp_path, cases=5, seconds=30.0)}
    contents = read(tmp_path)
    assert {name: len(classes) for name, classes in contents.classes.items()} == {
        "triplet": 100, "instrument": 6, "verb": 10, "target": 15,
    }  # fmt: skip
    cases = [case for split in SPLITS for case in contents.cases[split]]
    assert {case.id for case in cases} == set(made)
    seen = 0
    for case in cases:
        script = made[case.id].script
        for row, time in enumerate(case.times_N):
            happening = [t for t in script.triplet_TxMx3[round(time * script.config.fps)].tolist() if t[0] != -1]
            wanted = {
                "triplet": {script.vocabulary.triplets.index(tuple(t)) for t in happening},
                **{part: {t[place] for t in happening} for place, part in enumerate(("instrument", "verb", "target"))},
            }
            found = {name: set(np.flatnonzero(columns[row]).tolist()) for name, columns in case.labels.items()}
            assert found == wanted
            seen += bool(happening)
        assert len(case.times_N) == len(case.frames.paths) == 30
    assert 0 < seen < sum(len(case.times_N) for case in cases)  # frames with a triplet, and frames without


def test_a_frame_without_a_triplet_is_all_zeros(root: Path):
    edit(root, lambda document: document["annotations"].update({"1": [[-1.0] * 15], "2": []}))
    case = next(case for split in SPLITS for case in read(root).cases[split] if case.id == "VID01")
    assert all(not columns[1:3].any() for columns in case.labels.values())


def test_the_table_of_triplets_may_come_from_maps(root: Path):
    before = read(root)
    for path in (root / "labels").iterdir():
        document = json.loads(path.read_text())
        document["categories"]["triplet"] = {}
        path.write_text(json.dumps(document))
    with pytest.raises(BenchmarkError, match=r"categories.triplet: found 0 entries.*100 names.*maps\.txt"):
        read(root)
    names = before.classes
    rows = ["# IVT, I, V, T, IV, IT"]
    for k, triplet in enumerate(names["triplet"]):
        parts = [names[p].index(word) for p, word in zip(cholect50.PARTS, triplet.split(","), strict=True)]
        rows.append(f"{k}, {parts[0]}, {parts[1]}, {parts[2]}, 0, 0")
    (root / "maps.txt").write_text("\n".join(rows) + "\n")
    after = read(root)
    assert after.classes == before.classes
    for split in SPLITS:
        for a, b in zip(before.cases[split], after.cases[split], strict=True):
            assert all(np.array_equal(a.labels[name], b.labels[name]) for name in a.labels)
    (root / "maps.txt").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(BenchmarkError, match=r"maps\.txt: found 99 triplets on 99 lines; .* 100"):
        read(root)
    (root / "maps.txt").write_text("\n".join([*rows[:-1], "99, 6, 0, 0, 0, 0"]) + "\n")
    with pytest.raises(BenchmarkError, match=r"maps\.txt:101: found I 6; .* 0 to 5"):
        read(root)


def _drop(key):
    return lambda document: document["annotations"].pop(key)


def _put(value, place=None):
    def change(document):
        vector = [3, 0, 1, -1, -1, -1, -1, 0, 0, 1, -1, -1, -1, -1, 0]
        if place is not None:
            vector[place] = value
        document["annotations"]["1"] = [vector] if place is not None else value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("2"), r"VID01\.json, frame 2: found no entry; .* every frame from 0"),
        (_put(100, 0), r"VID01\.json, frame 1: found triplet 100; .* 0 to 99"),
        (_put(-2, 0), r"frame 1: found triplet -2"),
        (_put(1.5, 7), r"frame 1: found verb 1\.5; .* 0 to 9"),
        (_put(15, 8), r"frame 1: found target 15"),
        (_put(7, 14), r"frame 1: found phase 7"),
        (_put([[0] * 16]), r"frame 1: found 16 entries; .* 15 numbers"),
        (_put([["x"] * 15]), r"frame 1: found entry 0 is 'x' of type str; .* 15 numbers"),
        (_put([[0] * 14 + ["1"]]), r"frame 1: found entry 14 is '1' of type str; .* 15 numbers"),
        (_put(None), r"frame 1: found None; .* a list of vectors"),
        (lambda d: d.pop("annotations"), r"found no annotations"),
        (lambda d: d["categories"]["verb"].pop("9"), r"categories\.verb: found 9 entries"),
        (lambda d: d["categories"]["triplet"].update({"5": "a,b,c"}), r"categories\.triplet\.5: found 'a,b,c'"),
    ],
)
def test_a_broken_annotation_is_named_with_its_frame(root: Path, change, message):
    edit(root, change)
    with pytest.raises(BenchmarkError, match=message):
        read(root)


def test_videos_with_other_names_are_refused(root: Path):
    path = sorted((root / "labels").iterdir())[-1]
    document = json.loads(path.read_text())
    document["categories"]["phase"]["0"] = "another"
    path.write_text(json.dumps(document))
    with pytest.raises(BenchmarkError, match=rf"{path.name}: found other categories; .* VID01\.json"):
        read(root)


def test_parts_that_contradict_the_table_are_refused(root: Path):
    triplets = json.loads((root / "labels" / "VID01.json").read_text())["categories"]["triplet"]
    verb = int(triplets["3"].split(",")[1].split()[-1])
    edit(root, _put((verb + 1) % 10, 7))
    with pytest.raises(BenchmarkError, match=r"frame 1: found (instrument|verb|target) \d+ in triplet 3"):
        read(root)


def test_missing_files_are_named(root: Path):
    last = sorted((root / "videos" / "VID01").iterdir())[-1]
    last.unlink()
    with pytest.raises(BenchmarkError, match=r"VID01: found 3 images; .* 4, one for each frame of VID01\.json"):
        read(root)
    Image.new("RGB", (8, 8)).save(last.with_suffix(".bmp"))
    with pytest.raises(BenchmarkError, match=r"000003\.bmp: found a file of another name"):
        read(root)
    (root / "labels" / "VID01.json").unlink()
    with pytest.raises(BenchmarkError, match=r"VID01\.json: found no such file"):
        read(root)


def test_a_gap_and_an_annotation_without_frames_are_named(root: Path):
    (root / "videos" / "VID01" / "000001.png").unlink()
    with pytest.raises(BenchmarkError, match=r"VID01, frame 1: found no image number 1"):
        read(root)
    (root / "videos" / "VID01").rename(root / "elsewhere")
    with pytest.raises(BenchmarkError, match=r"VID01: found no such folder; .* labels/VID01\.json"):
        read(root)


def test_a_video_of_no_split_is_refused(root: Path):
    (root / "videos" / "VID01").rename(root / "videos" / "VID03")
    (root / "labels" / "VID01.json").rename(root / "labels" / "VID03.json")
    with pytest.raises(BenchmarkError, match=r"VID03\.json: found case 'VID03'"):
        read(root)
