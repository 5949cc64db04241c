"""A look over a data set finds what is there and what is wrong, and says where."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fake_cases import simulate
from PIL import Image

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, ImageFrames, VideoFrames
from surgmotion_jax.benchmarks.catalogue import get
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.benchmarks.same_video import shared_content
from surgmotion_jax.commands import data_check
from tests.benchmarks.simulated import make


@pytest.fixture
def cholec80(tmp_path):
    return make("cholec80", tmp_path / "set", seconds=6.0)


def problems(root, name="cholec80", **asked) -> str:
    return "\n".join(check(get(name), root, **asked).problems)


def test_counts(cholec80):
    findings = check(get("cholec80"), cholec80, decode=True)
    assert (findings.problems, findings.protocol) == ((), "official")
    for row in findings.splits:
        assert (row.cases, row.groups, row.frames, row.moments) == (1, 1, 30, 6)
        assert sum(row.classes.values()) == 6
        assert len(row.classes) == 7
    assert any("77 cases of the official lists are not on disk" in note for note in findings.notes)


def test_a_reader_that_refuses_is_a_finding(cholec80):
    (cholec80 / "videos/video41.mp4").unlink()
    findings = check(get("cholec80"), cholec80)
    assert findings.splits == ()
    assert "video41.mp4: found no such file" in findings.problems[0]


def test_a_truncated_video_is_found_without_decoding_it_all(cholec80):
    path = cholec80 / "videos/video41.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "video41.mp4: found" in problems(cholec80)


def test_damage_inside_a_video_is_found_by_decoding(cholec80):
    path = cholec80 / "videos/video41.mp4"
    data = bytearray(path.read_bytes())
    data[-2000:-200] = os.urandom(1800)
    path.write_bytes(data)
    assert "video41.mp4" in problems(cholec80, decode=True)


def test_an_annotation_longer_than_its_video(cholec80):
    path = cholec80 / "phase_annotations/video41-phase.txt"
    path.write_text(path.read_text() + "".join(f"{n}\tPreparation\n" for n in range(150, 250)))
    expected = "video41.mp4, case video41: found an annotation at 9 s, but frames only until 6 s"
    assert expected in problems(cholec80)


def test_a_video_longer_than_its_annotation_is_worth_a_note(cholec80):
    path = cholec80 / "phase_annotations/video41-phase.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:51]))
    findings = check(get("cholec80"), cholec80)
    assert not findings.problems
    assert any("video41.mp4: the last 5 s of case video41 are not scored" in note for note in findings.notes)


def test_the_same_video_in_two_splits(cholec80):
    shutil.copy(cholec80 / "videos/video41.mp4", cholec80 / "videos/video01.mp4")
    assert "case 'video41' in test shows the same video as 'video01' in" in problems(cholec80)


def test_the_same_video_under_a_link_in_one_split_is_worth_a_note(cholec80):
    for name in ("videos/{}.mp4", "phase_annotations/{}-phase.txt"):
        (cholec80 / name.format("video42")).symlink_to(cholec80 / name.format("video41"))
    findings = check(get("cholec80"), cholec80)
    assert not findings.problems
    assert "case 'video42' in test shows the same video as 'video41' in test" in "\n".join(findings.notes)


def stretches(path, *intervals):
    """Cases of one video, each (split, start, end), each a group of its own."""
    cases = {}
    for number, (split, start, end) in enumerate(intervals):
        case = Case(f"c{number}", f"g{number}", VideoFrames(path, start, end), np.zeros(1))
        cases[split] = (*cases.get(split, ()), case)
    return cases


def test_stretches_of_one_video_that_overlap(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"a video")
    apart = stretches(path, ("train", 0.0, 2.0), ("test", 2.0, 4.0), ("train", 5.0, 6.0))
    assert shared_content(apart) == ([], [])
    problems, notes = shared_content(stretches(path, ("train", 0.0, 9.0), ("train", 1.0, 2.0), ("test", 8.0, 9.5)))
    assert notes == ["case 'c1' in train shares 1.0 s of video with 'c0' in train"]
    assert problems == ["case 'c2' in test shares 1.0 s of video with 'c0' in train; keep one"]
    repeated = shared_content(stretches(path, ("val", 0.0, 1.0), ("val", 0.0, 1.0)))
    assert repeated == ([], ["case 'c1' in val shows the same video as 'c0' in val"])


def painted(root, part, change):
    """Replaces every file of that part of the simulated polyps by what `change` makes of its array."""
    for path in root.glob(f"*/**/{part}/*.png"):
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)


def test_decoding_tells_the_share_of_pixels_and_finds_empty_masks(tmp_path, capsys):
    root = tmp_path / "polyps"
    simulate("polyp_segmentation", root, cases=10)
    findings = check(get("polyp_segmentation"), root, decode=True)
    assert findings.problems == ()
    for row in findings.splits:
        assert row.classes == {}
        assert 0 < row.shares["mask"] < 0.5
    painted(root, "mask*", lambda mask: mask * 0)
    assert "train: every mask is empty" in "\n".join(check(get("polyp_segmentation"), root, decode=True).problems)
    data_check.main(["--benchmark=polyp_segmentation", f"--root={root}", "--decode"])
    assert "pixels of mask: train 0.00%" in capsys.readouterr().out


def depth_set(root, depth):
    """C3VD with every depth map replaced."""
    make("c3vd", root, cases=4, seconds=1.0)
    for path in root.rglob("*_depth.png"):
        tifffile.imwrite(path.with_suffix(".tiff"), depth)
    table = root / "c3vd.csv"
    table.write_text(table.read_text().replace("_depth.png", "_depth.tiff"))
    return root


def test_a_depth_map_of_eight_bits_is_found_without_decoding(tmp_path):
    root = depth_set(tmp_path / "set", np.ones((64, 64), np.uint8))
    assert "found uint8 [64, 64]" in "\n".join(check(get("c3vd"), root).problems)


def test_depth_without_a_measurement_and_in_another_unit_is_found_by_decoding(tmp_path):
    root = depth_set(tmp_path / "empty", np.full((64, 64), np.nan, np.float32))
    assert "depth maps hold no measurement" in "\n".join(check(get("c3vd"), root, decode=True).problems)
    root = depth_set(tmp_path / "metres", np.full((64, 64), 0.05, np.float32))
    findings = check(get("c3vd"), root, decode=True)
    assert findings.problems == ()
    assert "the median depth is 0.05 mm" in "\n".join(findings.notes)


def test_a_missing_image(tmp_path):
    root = make("pmlr50", tmp_path / "set")
    benchmark = get("pmlr50")
    contents = benchmark.read(root, "official")
    (root / "frames/41/00000002.jpg").unlink()
    later = dataclasses.replace(benchmark, read=lambda root, protocol: contents)
    found = "\n".join(check(later, root).problems)
    assert "00000002.jpg: found 1 images missing" in found


def row(images, labels=None, times=(0.0, 1.0), split="train", classes=("a", "b"), **more) -> Benchmark:
    case = Case("c", "c", images, np.array(times), {"phase": np.array([0, 1])} | (labels or {}), **more)
    contents = Contents("mine", "only", {"phase": classes, "many": classes}, {split: (case,)})
    return Benchmark("mine", "Mine", "workflow", "phase", "none", ("only",), lambda root, protocol: contents)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"labels": {"phase": np.array([0, 2])}}, "phase from 0 to 2, allowed are 0 to 1"),
        ({"labels": {"phase": np.array([-1, 0])}}, "phase from -1 to 0, allowed are 0 to 1"),
        ({"labels": {"phase": np.array([0, 1, 1])}}, "3 values of phase for 2 scored moments"),
        ({"labels": {"many": np.zeros((2, 3), int)}}, "3 columns of many, allowed are 2"),
        ({"labels": {"many": np.full((2, 2), 2)}}, "many from 2 to 2, allowed are 0 to 1"),
        ({"times": (1.0, 1.0)}, "scored moments are not ascending"),
        ({"times": ()}, "no scored moment"),
        ({"masks": (Path("m"),)}, "1 values of mask for 2 scored moments"),
        ({"times": (0.0, 2.0)}, "found an annotation at 2 s, but frames only until 2 s"),
    ],
)
def test_cases_that_do_not_fit_themselves(tmp_path, wrong, found):
    images = ImageFrames(tuple(sorted((make("autolaparo", tmp_path / "set") / "frames/11").iterdir()))[:2])
    assert check(row(images), tmp_path).problems == ()
    assert found in "\n".join(check(row(images, **wrong), tmp_path).problems)


def test_a_protocol_that_is_not_declared(tmp_path):
    with pytest.raises(ValueError, match="cholec80 has no protocol 'mine'; there are official"):
        check(get("cholec80"), tmp_path, "mine")


def test_the_command_prints_a_table_and_fails_on_problems(cholec80, capsys):
    arguments = ["--benchmark=cholec80", f"--root={cholec80}"]
    assert data_check.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "train        1       1        30        6" in shown
    assert "CalotTriangleDissection" in shown
    assert shown.endswith("no problems\n")
    (cholec80 / "videos/video41.mp4").unlink()
    assert data_check.main([*arguments, "--json"]) == 2
    assert "video41.mp4" in json.loads(capsys.readouterr().out)["problems"][0]
    assert data_check.main(arguments) == 2
    assert "PROBLEM: " in capsys.readouterr().out


def test_the_command_lists_benchmarks_and_layouts(capsys):
    assert data_check.main(["--benchmark=pitvis"]) == 0
    assert "annotations_XX.csv" in capsys.readouterr().out
    assert data_check.main([]) == 0
    assert (
        "surgicalactions160   action        SurgicalActions160         fold0, fold1, fold2, fold3"
        in capsys.readouterr().out
    )
    assert data_check.main(["--help"]) == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--benchmark=colec80"], "unknown benchmark 'colec80'.*Did you mean 'cholec80'"),
        (["--root=x"], "--root without --benchmark"),
        (["--bench=x"], "unknown argument '--bench=x'"),
        (["--benchmark"], "see surgmotion data check --help"),
    ],
)
def test_the_command_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        data_check.main(arguments)
