"""Frames of one's own with a CSV: what is read, how cases are left out, and what an error names."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.masks import decode_mask
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.simulate.case import NONE
from surgmotion_jax.simulate.generate import SetConfig, generate
from surgmotion_jax.simulate.instruments import EXCHANGED_KINDS
from surgmotion_jax.simulate.number_strip import read_number
from tests.simulate import fake_renderer

CASES = ("anna", "berta", "carl", "dora")
NAMED = ("case,frame,label", *(f"{case},{n}.png,{'cut' if n < 3 else 'clip'}" for case in CASES for n in (4, 2, 0)))
SEVERAL = ("case,frame,hook,smoke in view", *(f"{case},{n}.png,{n % 2},1" for case in CASES for n in range(5)))


def own(root, lines=NAMED, rates=()):
    """Five frames of each case, each of one grey, and a table."""
    for number, case in enumerate(CASES):
        (root / "frames" / case).mkdir(parents=True, exist_ok=True)
        for n in range(5):
            grey = np.full((16, 24, 3), 40 * number + 5 * n, np.uint8)
            Image.fromarray(grey).save(root / "frames" / case / f"{n}.png")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    if rates:
        (root / "rates.csv").write_text("\n".join(rates) + "\n")
    return root


def read(root, case="anna"):
    benchmark = catalogue.get("own_frames", root)
    return benchmark.read(root, f"loco_{case}")


def test_names_of_classes_make_a_workflow(tmp_path):
    benchmark = catalogue.get("own_frames", own(tmp_path))
    assert (benchmark.family, benchmark.label) == ("workflow", "label")
    contents = read(tmp_path)
    assert contents.classes == {"label": ("clip", "cut")}
    (case,) = contents.cases["test"]
    assert case.id == "anna"
    assert case.times_N.tolist() == [0, 2, 4]  # in the order of the frames, whatever that of the lines
    assert case.labels["label"].tolist() == [1, 1, 0]


def masked(root, size=(24, 16)):
    """The same frames, three of each case with a mask whose left half is the object."""
    for case in CASES:
        (root / "masks" / case).mkdir(parents=True, exist_ok=True)
        for n in (0, 2, 4):
            white = np.zeros(size[::-1], np.uint8)
            white[:, : size[0] // 2] = 255
            Image.fromarray(white).save(root / "masks" / case / f"{n}.png")
    return own(
        root, ("case,frame,mask", *(f"{case},{n}.png,masks/{case}/{n}.png" for case in CASES for n in (4, 2, 0)))
    )


def test_masks_make_a_segmentation(tmp_path):
    benchmark = catalogue.get("own_frames", masked(tmp_path))
    assert (benchmark.family, benchmark.label) == ("segmentation", "mask")
    contents = read(tmp_path)
    assert contents.classes == {"mask": ("background", "object")}
    (case,) = contents.cases["test"]
    assert case.times_N.tolist() == [0, 2, 4]
    assert [path.name for path in case.masks] == ["0.png", "2.png", "4.png"]
    assert not case.labels
    found = check(benchmark, tmp_path, "loco_anna", decode=True)
    assert not found.problems
    assert [split.shares for split in found.splits] == [{"mask": pytest.approx(0.5)}] * 3


def test_a_mask_that_is_missing_or_of_another_size_is_named_with_its_line(tmp_path):
    masked(tmp_path)
    (tmp_path / "masks" / "anna" / "2.png").unlink()
    with pytest.raises(BenchmarkError, match=r"labels.csv:3: found mask 'masks/anna/2.png'.*put the mask there"):
        read(tmp_path)
    with pytest.raises(BenchmarkError, match=r"anna.*\.png: .*12"):
        read(masked(tmp_path, size=(12, 16)))


def test_columns_of_0_and_1_are_classes_that_may_be_there_together(tmp_path):
    assert catalogue.get("own_frames", own(tmp_path, SEVERAL)).family == "presence"
    contents = read(tmp_path)
    assert contents.classes == {"label": ("hook", "smoke in view")}
    (case,) = contents.cases["test"]
    assert case.labels["label"].tolist() == [[0, 1], [1, 1], [0, 1], [1, 1], [0, 1]]


def test_a_root_may_name_another_table_beside_the_frames(tmp_path):
    root = own(tmp_path)
    (root / "hooks.csv").write_text("\n".join(SEVERAL) + "\n")
    assert catalogue.get("own_frames", root / "hooks.csv").family == "presence"
    assert read(root / "hooks.csv").classes == {"label": ("hook", "smoke in view")}
    assert read(root).classes == {"label": ("clip", "cut")}
    with pytest.raises(BenchmarkError, match=r"hook.csv: found no such file"):
        catalogue.get("own_frames", root / "hook.csv")


def test_each_case_is_left_out_once_and_others_validate(tmp_path):
    benchmark = catalogue.get("own_frames", own(tmp_path))
    assert benchmark.pooled["loco"] == tuple(f"loco_{case}" for case in CASES)
    for case in CASES:
        members = {split: [c.id for c in cases] for split, cases in read(tmp_path, case).cases.items()}
        assert members["test"] == [case]
        assert len(members["val"]) == 1
        assert sorted(name for names in members.values() for name in names) == sorted(CASES)


def test_thirds_test_each_case_once_too(tmp_path):
    benchmark = catalogue.get("own_frames", own(tmp_path))
    tested = []
    for protocol in benchmark.pooled["thirds"]:
        members = {split: [c.id for c in cases] for split, cases in benchmark.read(tmp_path, protocol).cases.items()}
        assert sorted(name for names in members.values() for name in names) == sorted(CASES)
        tested += members["test"]
    assert sorted(tested) == sorted(CASES)
    assert len(benchmark.pooled["thirds"]) == 3


def test_the_frames_before_a_moment_are_seen_whether_labelled_or_not(tmp_path):
    (case,) = read(own(tmp_path)).cases["test"]
    window = ClipReader(3, 1.0, dataset="own_frames").sample(case, 4.0)
    assert window.video_TxHxWx3[:, 0, 0, 0].tolist() == [10, 15, 20]


def test_rates_say_how_far_frames_are_apart(tmp_path):
    own(tmp_path, rates=("case,fps", "anna,2", "berta,1", "carl,1", "dora,0.5"))
    times = {case.id: case.times_N.tolist() for cases in read(tmp_path).cases.values() for case in cases}
    assert times["anna"] == [0, 1, 2]
    assert times["dora"] == [0, 4, 8]


def test_nothing_is_wrong_with_the_set_as_a_whole(tmp_path):
    for lines in (NAMED, SEVERAL):
        root = own(tmp_path / str(len(lines)), lines)
        findings = check(catalogue.get("own_frames", root), root, decode=True)
        assert findings.problems == ()
        assert [row.cases for row in findings.splits] == [2, 1, 1]


def changed(line, text, lines=NAMED):
    return [*lines[:line], text, *lines[line + 1 :]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (changed(0, "case,file,label"), r"labels.csv:1: found the header case,file,label; the layout asks for case,fr"),
        (
            changed(0, "case,frame"),
            r"labels.csv:1: found the header case,frame; the layout asks for case,frame,label",
        ),
        (changed(0, "case,frame,a,a", SEVERAL), r"labels.csv:1: found the header case,frame,a,a; .* name of its own"),
        (
            changed(2, "anna,9.png,cut"),
            r"labels.csv:3: found frame '9.png'; .* image in .*anna in column frame",
        ),
        (changed(2, "anna,../0.png,cut"), r"labels.csv:3: found frame '../0.png'; .* a plain name, without folders"),
        (changed(2, "anna,4.png,cut"), r"labels.csv:3: found frame 4.png of case anna again; .* keep one of the lines"),
        (changed(2, "anna,2.png,"), r"labels.csv:3: found an empty label; the layout asks for a value in column label"),
        (changed(2, "anna,2.png"), r"labels.csv:3: found 2 cells instead of 3"),
        (changed(2, "anna,1.png,1,2", SEVERAL), r"labels.csv:3: found smoke in view 2; .* from 0 to 1 in column smoke"),
        (changed(2, "anna,1.png,,1", SEVERAL), r"labels.csv:3: found hook ''; .* from 0 to 1 in column hook"),
        (
            changed(2, "anna,1.png,yes,1", SEVERAL),
            r"labels.csv:3: found hook 'yes'; .* from 0 to 1 in column hook",
        ),
        (changed(2, "emil,1.png,1,1", SEVERAL), r"frames/emil: found no such folder"),
        (NAMED[:1], r"labels.csv: found no rows"),
        (NAMED[:6], r"labels.csv: found 2 cases \(anna, berta\); the layout asks for at least 3: one to test"),
        ((), r"labels.csv: found no line"),
    ],
)
def test_an_error_names_file_line_and_column(tmp_path, lines, message):
    with pytest.raises(BenchmarkError, match=message):
        read(own(tmp_path, lines))


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (("case,fps", "anna,1"), r"rates.csv: found no line for case berta; .* add the line"),
        (("case,fps", "anna,0", "berta,1", "carl,1", "dora,1"), r"rates.csv:2: found fps 0; .* above 0, in column fps"),
        (("case,fps", "anna,1", "anna,2"), r"rates.csv:3: found case anna again"),
        (("case,rate", "anna,1"), r"rates.csv:1: found the header"),
    ],
)
def test_an_error_in_the_rates_names_file_line_and_column(tmp_path, rates, message):
    with pytest.raises(BenchmarkError, match=message):
        read(own(tmp_path, rates=rates))


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(BenchmarkError, match=r"labels.csv: found no such file"):
        catalogue.get("own_frames", tmp_path)


def test_a_simulated_set_is_read_back(tmp_path):
    """Columns are the kinds of instruments, as the scripts have them in the picture; frames are the right ones."""
    config = SetConfig("own_frames", 3, 9.0, height=64, width=64, paint_frame_number=True, exchange=True)
    made = {case.id: case for case in generate(config, tmp_path / "set", draw=fake_renderer.draw)}
    contents = read(tmp_path / "set", "case01")
    assert contents.classes["label"] == EXCHANGED_KINDS
    for case in (case for cases in contents.cases.values() for case in cases):
        script = made[case.id].script
        for row, sample in enumerate(ClipReader(2, 1.0, dataset="own_frames").case_samples(case)):
            frame = read_number(sample.video_TxHxWx3[-1])
            assert frame == row
            there = set(script.instruments_at(frame)[script.visible_TxM[frame]].tolist())
            assert set(np.flatnonzero(case.labels["label"][row]).tolist()) <= there
        assert case.labels["label"].any()


def test_a_simulated_set_has_tables_of_phases_and_targets_beside_that_of_instruments(tmp_path):
    config = SetConfig("own_frames", 3, 9.0, height=64, width=64, paint_frame_number=True, exchange=True)
    made = {case.id: case.script for case in generate(config, tmp_path / "set", draw=fake_renderer.draw)}
    phases, targets = (read(tmp_path / "set" / name, "case01") for name in ("phases.csv", "targets.csv"))
    for case in (case for cases in phases.cases.values() for case in cases):
        names = [phases.classes["label"][number] for number in case.labels["label"]]
        assert names == [f"phase {phase}" for phase in made[case.id].phase_T]
    for case in (case for cases in targets.cases.values() for case in cases):
        target_TxM = made[case.id].triplet_TxMx3[..., 2]
        for row, label_K in enumerate(case.labels["label"]):
            assert set(np.flatnonzero(label_K).tolist()) == set(target_TxM[row].tolist()) - {NONE}


def test_a_simulated_set_has_the_masks_of_all_instruments(tmp_path):
    def draw(script):
        for frame in fake_renderer.draw(script):
            slot_HxW = np.zeros_like(frame.instrument_HxW)
            slot_HxW[:, : 5 * frame.number], slot_HxW[:5] = 1, 2
            yield dataclasses.replace(frame, instrument_HxW=slot_HxW)

    generate(SetConfig("own_frames", 3, 3.0, height=64, width=64), tmp_path / "set", draw=draw)
    (case,) = read(tmp_path / "set" / "masks.csv", "case01").cases["test"]
    for number, path in enumerate(case.masks):
        mask_HxW = decode_mask(path)
        assert mask_HxW[:5].all()
        assert mask_HxW[5:].any(0).sum() == 5 * number
