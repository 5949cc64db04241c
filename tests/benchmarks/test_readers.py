"""Readers of workflow and action sets: official classes, published ids, one complaint for each way to be wrong."""

from __future__ import annotations

import os
import pickle
import shutil

import pytest

from surgmotion_jax.benchmarks import (
    autolaparo,
    cholec80,
    egosurgery,
    m2cai16,
    ophnet2024,
    pitvis,
    pmlr50,
    polypdiag,
    surgicalactions160,
)
from surgmotion_jax.benchmarks.catalogue import get
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.frames import numbered_images
from surgmotion_jax.benchmarks.splits import check_disjoint
from surgmotion_jax.benchmarks.windows import ClipReader
from tests.benchmarks.simulated import edit, make


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


def read(name, root, protocol=None):
    benchmark = get(name)
    return benchmark.read(root, protocol or benchmark.protocols[0])


def refused(name, root, match):
    with pytest.raises(BenchmarkError, match=match):
        read(name, root)


def test_class_counts():
    counts = {module: len(module.CLASSES) for module in (cholec80, autolaparo, m2cai16, egosurgery, pitvis, pmlr50)}
    assert list(counts.values()) == [7, 7, 8, 9, 12, 5]
    assert (ophnet2024.CLASS_COUNT, surgicalactions160.CLASS_COUNT, len(polypdiag.CLASSES)) == (96, 16, 2)


def test_pitvis_numbers_are_those_left_after_dropping():
    assert list(pitvis.STEPS) == [*range(1, 11), 12, 14]
    assert list(pitvis.DROPPED) == [-1, 11, 13]
    assert pitvis.CLASSES[pitvis.STEPS.index(12)] == "dural sealant"
    assert pitvis.CLASSES[pitvis.STEPS.index(14)] == "debris clearance"


def test_missing_annotation(root):
    make("cholec80", root)
    shutil.rmtree(root / "phase_annotations")
    refused("cholec80", root, r"phase_annotations: found no such folder; the layout asks for ROOT/(.|\n)*check --root")


def test_annotation_without_its_video(root):
    make("cholec80", root)
    (root / "videos/video41.mp4").unlink()
    refused("cholec80", root, r"video41.mp4: found no such file; the layout asks for a video video41.mp4")


def test_wrong_extension(root):
    make("cholec80", root)
    os.rename(root / "videos/video41.mp4", root / "videos/video41.avi")
    refused("cholec80", root, r"video41.mp4: found video41.avi instead; the layout asks for a video video41.mp4")


def test_extra_column(root):
    make("autolaparo", root)
    edit(root / "labels/label_11.txt", "2\t", "2\t9\t")
    refused("autolaparo", root, r"label_11.txt:3: found 3 cells instead of 2")


def test_label_out_of_range(root):
    make("autolaparo", root)
    path = root / "labels/label_11.txt"
    path.write_text("Frame\tPhase\n1\t7\n2\t8\n3\t1\n4\t1\n")
    refused("autolaparo", root, r"label_11.txt:3: found Phase 8; the layout asks for an integer from 1 to 7")
    path.write_text("Frame\tPhase\n1\t7\n2\t0\n3\t1\n4\t1\n")
    refused("autolaparo", root, r"label_11.txt:3: found Phase 0")


def test_unknown_label(root):
    make("cholec80", root)
    path = root / "phase_annotations/video41-phase.txt"
    path.write_text(path.read_text() + "100\tCoffee\n")
    refused("cholec80", root, r"video41-phase.txt:102: found Phase 'Coffee'; the layout asks for one of Preparation, ")


def test_annotation_with_a_hole(root):
    make("cholec80", root)
    path = root / "phase_annotations/video41-phase.txt"
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if not line.startswith("50\t")))
    refused("cholec80", root, r"video41-phase.txt:52: found Frame 51; the layout asks for Frame 50")


def test_frame_folder_one_short(root):
    make("autolaparo", root)
    (root / "frames/11/11_00000004.jpg").unlink()
    refused("autolaparo", root, r"frames/11: found 3 images; the layout asks for 4, one for each row of .*label_11.txt")
    (root / "frames/11/11_00000002.jpg").unlink()
    refused("autolaparo", root, r"frames/11, frame 1: found no image number 2; the layout asks for numbers from 1")


def test_a_stray_file_among_frames(root):
    make("autolaparo", root)
    (root / "frames/11/notes.txt").touch()
    refused("autolaparo", root, r"notes.txt: found a file of another name")


def test_truncated_video(root):
    make("cholec80", root)
    path = root / "videos/video41.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    case = read("cholec80", root).cases["test"][0]
    with pytest.raises(BenchmarkError, match=r"video41.mp4: found .*; the layout asks for frames that can be decoded"):
        list(ClipReader(2).case_samples(case))


def test_annotation_longer_than_the_video(root):
    make("cholec80", root)
    path = root / "phase_annotations/video41-phase.txt"
    path.write_text(path.read_text() + "".join(f"{n}\tPreparation\n" for n in range(100, 200)))
    case = read("cholec80", root).cases["test"][0]
    with pytest.raises(
        BenchmarkError, match=r"video41.mp4, case video41: found an annotation at 7 s, but frames only until 4 s"
    ):
        list(ClipReader(2).case_samples(case))


def test_malicious_pickle(root, tmp_path):
    class Run:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "marker"),)

    make("pmlr50", root)
    (root / pmlr50.LABELS["test"]).write_bytes(pickle.dumps({"41": Run()}))
    refused("pmlr50", root, r"1fpsinfer.pickle: found the pickle names \w+.mkdir")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([{"frame_id": 0, "phase_gt": 5}], r"1fpsinfer.pickle, 41 entry 0: found phase_gt 5; .*from 0 to 4"),
        ([{"frame_id": 0, "phase_gt": -1}], r"found phase_gt -1"),
        ([{"frame_id": 0}], r"found phase_gt None"),
        (
            [{"frame_id": 0, "phase_gt": 1}, {"frame_id": 2, "phase_gt": 1}],
            r"41 entry 1: found frame_id 2; .*frame_id 1",
        ),
        ([{"frame_id": n, "phase_gt": 1} for n in range(9)], r"00000004.jpg: found no such file \(and 4 more"),
        ([], "found list for video 41"),
        ("text", "found str for video 41"),
    ],
)
def test_pmlr50_entries(root, entries, match):
    make("pmlr50", root)
    (root / pmlr50.LABELS["test"]).write_bytes(pickle.dumps({"41": entries}))
    refused("pmlr50", root, match)


def test_pitvis_rows(root):
    make("pitvis", root)
    path = root / "annotations_02.csv"
    header, *rows = path.read_text().splitlines()
    for line, match in (
        ("2,0,15,0,0", r"annotations_02.csv:2: found int_step 15; the layout asks for one of \(-1, 11, 13, 1, 2"),
        ("2,0,0,0,0", "found int_step 0"),
        ("3,0,1,0,0", "found int_video 3; the layout asks for video 2"),
        ("2,1,1,0,0", "found int_time 1; the layout asks for 0"),
    ):
        path.write_text("\n".join([header, line, *rows[1:]]))
        refused("pitvis", root, match)
    path.write_text("\n".join([header, "2,0,-1,0,0"]))
    refused("pitvis", root, r"found only the steps \[-1\]")


def test_egosurgery_names_and_images(root):
    make("egosurgery", root, seconds=8.0)
    path = root / "annotations/phase/05_1.csv"
    text = path.read_text()
    edit(path, "05_1_00003", "05_1_00009")
    refused("egosurgery", root, r"05_1.csv:4: found Frame '05_1_00009'; the layout asks for an image 05_1_00009.jpg")
    path.write_text("\n".join(text.splitlines()[:-1]))
    refused("egosurgery", root, r"05_1.csv: found no row for 1 images, the first .*05_1_00004.jpg")
    header, first, second, *rest = text.splitlines()
    path.write_text("\n".join([header, second, first, *rest]))
    refused("egosurgery", root, r"05_1.csv:3: found Frame '05_1_00001' after number 2")


def test_ophnet_table(root):
    make("ophnet2024", root)
    path = root / ophnet2024.TABLE
    text = path.read_text()
    for line, match in (
        ("case_0000,0,4,96,train", "found phase_id 96; the layout asks for an integer from 0 to 95"),
        ("case_0000,4,4,1,train", "found end 4; the layout asks for more than start 4"),
        ("case_0000,0,4,1,dev", "found split 'dev'; the layout asks for one of train, val, test"),
    ):
        path.write_text(f"{text.splitlines()[0]}\n{line}\n")
        refused("ophnet2024", root, match)
    path.write_text(text + "case_0000,9,12,1,val\n")
    refused("ophnet2024", root, "found split val; the layout asks for train for every interval of video case_0000")
    path.write_text(text + "case_0000,9,12,1,train\n")
    refused("ophnet2024", root, r"frames: found \d folders case_0000_K; the layout asks for \d, one for each interval")
    (root / "phases.csv").write_text("phase_id,name\n0,incision\n")
    path.write_text(text)
    refused("ophnet2024", root, "phases.csv: found 1 names; the layout asks for 96")


def test_ophnet_intervals_inside_videos(root):
    """Videos instead of frame folders: the same cases, each an interval of its video."""
    make("ophnet2024", root)
    by_folder = read("ophnet2024", root)
    shutil.rmtree(root / "frames")
    refused("ophnet2024", root, r"case_0000.mp4: found no such file")
    (root / "videos").mkdir()
    for group in {case.group for cases in by_folder.cases.values() for case in cases}:
        (root / "videos" / f"{group}.mp4").touch()
    by_video = read("ophnet2024", root)
    for split, cases in by_folder.cases.items():
        assert [c.id for c in by_video.cases[split]] == [c.id for c in cases]
        for one, two in zip(cases, by_video.cases[split], strict=True):
            assert one.times_N.tolist() == two.times_N.tolist()


def test_surgicalactions160_folds(root):
    make("surgicalactions160", root, cases=64, seconds=0.5)
    tested = []
    for protocol in surgicalactions160.BENCHMARK.protocols:
        contents = read("surgicalactions160", root, protocol)
        check_disjoint(contents.cases)
        assert len({case.id for cases in contents.cases.values() for case in cases}) == 64
        assert {int(c.labels["action"][0]) for c in contents.cases["val"]} == set(range(16))
        tested += [case.id for case in contents.cases["test"]]
    assert len(tested) == len(set(tested)) == 64
    shutil.rmtree(root / "action_01")
    refused("surgicalactions160", root, "found 15 folders of clips; the layout asks for 16")


def test_avos_splits_go_by_source_video(root):
    make("avos", root, cases=6, seconds=2.0)
    contents = read("avos", root)
    check_disjoint(contents.cases)
    assert sum(map(len, contents.cases.values())) == 12
    assert contents.classes["action"] == ("cutting", "suturing", "tying")
    edit(root / "segments.csv", "web0000,0,", "web0000,9,")
    refused("avos", root, "found end .*; the layout asks for more than start 9")
    edit(root / "segments.csv", "web0000,9,", "../web0000,9,")
    refused("avos", root, "a plain name")


def test_labels_of_avos_test_segments_change_neither_classes_nor_splits_nor_names(root):
    make("avos", root, cases=6, seconds=2.0)
    (root / "classes.csv").unlink(missing_ok=True)
    before = read("avos", root)
    table = root / "segments.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    tested = [row for row in rows if row[0] == before.cases["test"][0].group and row[3] != "Others"]

    def relabelled(action, row=tested[0]):
        text = "\n".join(",".join([*r[:3], action] if r is row else r) for r in rows)
        table.write_text(text + "\n")

    def ids(contents, split):
        return [case.id for case in contents.cases[split]]

    other = next(name for name in before.classes["action"] if name != tested[0][3])
    relabelled(other)
    found = read("avos", root)
    assert found.classes == before.classes
    assert all(ids(found, split) == ids(before, split) for split in before.cases)
    assert found.classes["action"][found.cases["test"][0].labels["action"][0]] == other
    relabelled("Others")
    found = read("avos", root)
    assert found.classes == before.classes
    assert ids(found, "test") == ids(before, "test")[1:]
    assert all(ids(found, split) == ids(before, split) for split in ("train", "val"))
    relabelled("stapling")
    refused("avos", root, r"segments.csv:\d+: found action 'stapling'; .*one of cutting, .* list every .*classes.csv")
    (root / "classes.csv").write_text("action_id,name\n0,stapling\n1,cutting\n2,tying\n3,suturing\n")
    found = read("avos", root)
    assert found.classes["action"] == ("stapling", "cutting", "tying", "suturing")
    assert found.cases["test"][0].labels["action"][0] == 0


def test_a_segment_beyond_its_video_is_refused(root):
    make("avos", root, cases=6, seconds=2.0)
    edit(root / "segments.csv", ",2,", ",20,")
    refused("avos", root, r"web0000.mp4: found 2 s of video; the layout asks for frames from 1.2 to 20 s")


def test_polypdiag_lists(root):
    make("polypdiag", root, cases=12, seconds=1.0)
    contents = read("polypdiag", root)
    assert {split: len(cases) for split, cases in contents.cases.items()} == {"train": 6, "val": 2, "test": 4}
    edit(root / "splits/val.txt", "clip_004.mp4,0", "clip_004.mp4,2")
    refused("polypdiag", root, r"val.txt:1: found label 2; the layout asks for an integer from 0 to 1")
    edit(root / "splits/val.txt", "clip_004.mp4,2", "clip_004.avi,0")
    refused("polypdiag", root, r"val.txt:1: found 'clip_004.avi'; the layout asks for the name of an .mp4 file")


def test_atlas_holds_out_patients_where_no_case_validates(root):
    make("atlas_neurosurgical", root, cases=8)
    table = root / "cases.csv"
    table.write_text(table.read_text().replace(",val", ",train"))
    contents = read("atlas_neurosurgical", root)
    check_disjoint(contents.cases)
    assert len(contents.cases["val"]) == 1
    edit(root / "annotations/neuro_001.csv", "2,", "0,")
    refused("atlas_neurosurgical", root, r"neuro_001.csv:4: found second 0; .*an integer of at least 2")


def test_a_part_of_a_set_is_split_as_the_whole(root):
    make("cholec80", root, cases=12, seconds=1.0)
    contents = read("cholec80", root)
    assert len(contents.absent) == 68
    for split, ids in (("train", cholec80.TRAIN), ("val", cholec80.VAL), ("test", cholec80.TEST)):
        assert {case.id for case in contents.cases[split]} <= set(ids)
        assert contents.cases[split]


def test_names_outside_the_official_lists(root):
    make("cholec80", root)
    path = root / "phase_annotations/video41-phase.txt"
    shutil.copy(path, path.with_name("video81-phase.txt"))
    shutil.copy(root / "videos/video41.mp4", root / "videos/video81.mp4")
    refused(
        "cholec80", root, r"video81-phase.txt: found case 'video81'; the layout asks for cases of the official splits"
    )
    os.rename(path.with_name("video81-phase.txt"), path.with_name("mine.txt"))
    refused("cholec80", root, r"mine.txt: found a file of another name")


def frame_folder(tmp_path, *names):
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


def test_frame_names_may_have_digits_in_their_common_prefix(tmp_path):
    folder = frame_folder(tmp_path, "video01_000001.jpg", "video01_000026.jpg", "video01_000051.jpg")
    found = numbered_images(folder, r"\D*(\d+)", 1.0, 25)
    assert [path.name for path in found.paths] == sorted(path.name for path in folder.iterdir())
    (folder / "video02_000076.jpg").touch()
    with pytest.raises(BenchmarkError, match=r"video02_000076\.jpg: found a file of another name"):
        numbered_images(folder, r"\D*(\d+)", 1.0, 25)
