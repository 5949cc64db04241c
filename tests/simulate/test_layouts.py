"""What is simulated in a layout is read back from it: every sample, label and frame number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.benchmarks.catalogue import BENCHMARKS, get
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.benchmarks.pitvis import DROPPED
from surgmotion_jax.data import SourceConfig
from surgmotion_jax.data.sources import expand
from surgmotion_jax.simulate.case import SPECIALTIES
from surgmotion_jax.simulate.generate import STAGING, SetConfig, generate
from surgmotion_jax.simulate.layouts import pitvis
from surgmotion_jax.simulate.layouts.layout import LAYOUTS, get_layout, plain_vocabulary, spread_over_splits
from surgmotion_jax.simulate.truth import load_truth
from tests.simulate import fake_renderer
from tests.simulate.round_trip import READ_BACK, SIZES, check_samples, read, truth_of

RATE = {"egosurgery": 0.5}
"""Scored moments per second of the sets that score every moment; the others score one a second."""

WHOLE = ("surgicalactions160", "avos", "polypdiag")
"""Sets with one label for a whole case."""


def simulated(name: str, out: Path, seconds: float = 9.0, **changes) -> SetConfig:
    config = SetConfig(name, SIZES.get(name, 3), seconds, height=64, width=64, paint_frame_number=True, **changes)
    generate(config, out, draw=fake_renderer.draw)
    return config


@pytest.mark.parametrize("name", READ_BACK)
def test_a_simulated_set_is_read_back(tmp_path, name):
    seconds = 2.0 if name in WHOLE else 9.0
    simulated(name, tmp_path / "set", seconds, fps=get_layout(name).fps if name in RATE else 3.0)
    findings = check(get(name), tmp_path / "set", decode=True)
    assert findings.problems == ()
    assert all(row.cases for row in findings.splits)
    contents = read(name, tmp_path / "set")
    scored = check_samples(contents, tmp_path / "set")
    for case, numbers in scored.items():
        assert len(numbers) == len(set(numbers))
        if name not in (*WHOLE, "pitvis"):
            truth = load_truth(tmp_path / "set", case)
            rate, fps = RATE.get(name, 1.0), float(truth["fps"])
            moments = range(int(np.ceil(len(truth["phase_T"]) / fps * rate)))
            assert numbers == [int(k / rate * fps) for k in moments]


@pytest.mark.slow
@pytest.mark.parametrize("name", READ_BACK)
def test_a_set_of_real_pictures_is_read_back_across_processes(tmp_path, name):
    """Three cases of 20 s (more and shorter ones where whole cases are labelled), read by two fresh processes."""
    cases, seconds = {"surgicalactions160": (16, 2.0), "polypdiag": (8, 4.0), "avos": (3, 4.0)}.get(name, (3, 20.0))
    config = SetConfig(name, cases, seconds, height=96, width=96, paint_frame_number=True)
    generate(config, tmp_path / "set", workers=2)
    assert check(get(name), tmp_path / "set", decode=True).problems == ()
    check_samples(read(name, tmp_path / "set"), tmp_path / "set")
    code = f"""
from pathlib import Path
from tests.simulate.round_trip import check_samples, read
root = Path({str(tmp_path / "set")!r})
contents = read({name!r}, root)
print(check_samples(contents, root), {{split: [c.id for c in cases] for split, cases in contents.cases.items()}})
"""
    seen = set()
    for salt in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)
    assert len(seen) == 1


def test_pitvis_scores_every_second_but_those_of_dropped_steps(tmp_path):
    config = simulated("pitvis", tmp_path / "set", 30.0, fps=1.0)
    contents = read("pitvis", tmp_path / "set")
    cases = {c.plan.id: c for c in generate(config, tmp_path / "again", draw=fake_renderer.draw)}
    dropped = 0
    for members in contents.cases.values():
        for case in members:
            steps = [pitvis.step_at(cases[case.id], second) for second in range(30)]
            assert case.times_N.tolist() == [second for second, step in enumerate(steps) if step not in DROPPED]
            phase_S = truth_of(contents, case, tmp_path / "set")["phase_T"]
            np.testing.assert_array_equal(case.labels["phase"], phase_S[case.times_N.astype(int)])
            dropped += sum(step in DROPPED for step in steps)
    assert dropped >= 3 * 4


def test_the_same_seed_gives_the_same_files_whatever_the_workers(tmp_path):
    simulated("autolaparo", tmp_path / "one", 2.0)
    config = SetConfig("autolaparo", 3, 2.0, height=64, width=64, paint_frame_number=True)
    generate(config, tmp_path / "two", workers=2, draw=fake_renderer.draw)
    simulated("autolaparo", tmp_path / "other", 2.0, seed=1)

    def files(root):
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    one, two, other = (files(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert one != other


def test_a_case_appears_whole_or_not_at_all(tmp_path):
    """The second case fails half way: the first is there, of the second nothing, and no index speaks of either."""
    drawn = []

    def failing(script):
        drawn.append(script.seed)
        for frame in fake_renderer.draw(script):
            if len(drawn) == 2 and frame.number == 2:
                raise OSError("disk full")
            yield frame

    config = SetConfig("pmlr50", 3, 4.0, height=64, width=64)
    with pytest.raises(OSError, match="disk full"):
        generate(config, tmp_path, draw=failing)
    published = [p for p in tmp_path.rglob("*") if p.is_file() and STAGING not in p.parts]
    assert {p.parent.name for p in published} == {"01", "truth"}
    assert [p.name for p in published if p.suffix == ".npz"] == ["01.npz"]
    other = SetConfig("pmlr50", 4, 4.0, height=64, width=64)
    with pytest.raises(ValueError, match=r"not an empty folder.* goes on with that command's flags"):
        generate(other, tmp_path, draw=fake_renderer.draw)


def test_an_interrupted_call_is_repeated_and_ends_with_the_same_files(tmp_path):
    config = SetConfig("pmlr50", 3, 4.0, height=64, width=64)
    drawn: list[int] = []

    def interrupted(script):
        drawn.append(script.seed)
        for frame in fake_renderer.draw(script):
            if len(drawn) == 2 and frame.number == 2:
                raise KeyboardInterrupt
            yield frame

    def counted(script):
        drawn.append(script.seed)
        yield from fake_renderer.draw(script)

    with pytest.raises(KeyboardInterrupt):
        generate(config, tmp_path / "twice", draw=interrupted)
    generate(config, tmp_path / "twice", draw=counted)
    generate(config, tmp_path / "once", draw=fake_renderer.draw)
    assert len(drawn) == len(set(drawn)) + 1 == 4, "what was done is not drawn again, what was begun is"
    once, twice = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("once", "twice")
    )
    assert once == twice


def test_the_pretraining_folder_is_a_source_for_each_specialty(tmp_path):
    config = SetConfig("pretrain", 5, 1.0, height=64, width=64)
    generate(config, tmp_path, draw=fake_renderer.draw)
    videos = [v for name in SPECIALTIES for v in expand(name, SourceConfig(str(tmp_path / f"{name}.csv")))]
    assert len(videos) == len({video.case for video in videos}) == 5
    assert all(Path(video.path).is_file() and video.specialty == video.dataset for video in videos)
    assert {video.path for video in videos} == {v.path for v in expand("all", SourceConfig(str(tmp_path / "videos")))}


def test_truth_holds_what_the_frames_told(tmp_path):
    config = SetConfig("cholec80", 3, 2.0, height=64, width=64, fps=2.0, dense_truth=True)
    generate(config, tmp_path, draw=fake_renderer.draw)
    truth = load_truth(tmp_path, "video41")
    assert truth["tip_TxMx2"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert truth["depth_SxHxW"].shape == (2, 64, 64)
    assert truth["number_S"].tolist() == [0, 2]
    assert 6 <= truth["grs_6"].sum() <= 30


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "pretrain"])
def test_every_layout_has_a_benchmark(name):
    assert name in BENCHMARKS
    assert get_layout(name).name == name
    assert get_layout(name).specialty in SPECIALTIES


def test_spread_takes_each_split_first_and_then_in_proportion():
    ids = {"train": [f"a{n}" for n in range(8)], "val": ["b0", "b1"], "test": ["c0", "c1"]}
    assert [split for _, split in spread_over_splits(ids, 3)] == ["train", "val", "test"]
    assert [split for _, split in spread_over_splits(ids, 12)] == ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    for cases in (2, 13):
        with pytest.raises(
            ValueError, match=f"--cases is {cases}; this data set has 12 cases in 3 splits: ask for 3 to 12"
        ):
            spread_over_splits(ids, cases)


def test_hamlyn_goes_on_counting_beyond_the_real_sequences():
    plans = get_layout("hamlyn").plan(44, 0)
    assert [plan.id for plan in plans][-1] == "rectified44"
    assert len({plan.id for plan in plans}) == 44
    assert [sum(plan.split == split for plan in plans) for split in ("train", "val", "test")] == [30, 6, 8]
    with pytest.raises(ValueError, match="--cases is 2; this data set has 22 cases in 3 splits"):
        get_layout("hamlyn").plan(2, 0)


def test_the_vocabulary_uses_everything():
    vocabulary = plain_vocabulary(7)
    for place, size in enumerate((vocabulary.instruments, vocabulary.verbs, vocabulary.targets)):
        assert {triplet[place] for triplet in vocabulary.triplets} == set(range(size))


def test_unknown_layouts_odd_sizes_and_too_few_cases_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown layout 'colec80'.*Did you mean 'cholec80'"):
        get_layout("colec80")
    with pytest.raises(ValueError, match=r"width is 63 pixels; it must be even"):
        SetConfig("cholec80", width=63)
    for name, least in (("surgicalactions160", 16), ("avos", 3), ("polypdiag", 6), ("pretrain", 1)):
        with pytest.raises(ValueError, match=f"--cases is {least - 1};"):
            generate(SetConfig(name, least - 1), tmp_path / "set")
    assert not (tmp_path / "set").exists()
