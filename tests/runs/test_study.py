"""A study: the order of its work, what it refuses, and a whole one of minutes that is interrupted."""

from __future__ import annotations

import dataclasses
import re
import shutil
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from surgmotion_jax import config as door
from surgmotion_jax.commands import study_run
from surgmotion_jax.commands.configs import study_config
from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.compare.strengths import ByOperation
from surgmotion_jax.pages.study import Learnt
from surgmotion_jax.runs.ablation import Ablated
from surgmotion_jax.runs.ending import Ending
from surgmotion_jax.runs.study import pictures, work
from surgmotion_jax.runs.study.config import Cell, StudyConfig, StudyTask, StudyWorld, cells
from surgmotion_jax.runs.study.findings import find
from surgmotion_jax.runs.study.record import CellRecord, read_record, write_record
from surgmotion_jax.runs.study.work import begin, evaluation_of, study

TASK = StudyTask(
    "own_frames",
    "evaluate/own_frames:small",
    ("mAP",),
    set=("data.frames=2",),
    tuned=("finetune.layer_decay=0.9",),
)
WORLDS = {"pretrain": StudyWorld(), "own_frames": StudyWorld()}
CONFIG = StudyConfig(
    WORLDS, {"tools": TASK}, arms=("plain", "pixel"), more=("sigreg",), seeds=(0, 1), strengths=(0.0, 2.0)
)


VALUES = ByOperation(1, {"a": (0.5, 2.0), "b": (0.25, 1.0)})


def test_anchors_and_main_arms_come_first_and_every_cell_once():
    order = cells(CONFIG)
    assert order[:4] == [Cell(RANDOM, 0, 0.0), Cell(RANDOM, 0, 2.0), Cell(TUNED, 0, 0.0), Cell(TUNED, 0, 2.0)]
    assert len(set(order)) == len(order) == 2 * (2 + 1 + 2 * 2 + 2) + 2 * 4
    fewer = [cell for cell in order if cell.share < 1]
    assert fewer == [Cell(arm, 0, 2.0, s) for s in (0.1, 0.01) for arm in (RANDOM, TUNED, "plain", "pixel")]
    assert len({cell.name for cell in order if cell.arm == "plain"}) == 2 + 2
    first_of = {arm: [cell.arm for cell in order].index(arm) for arm in ("plain", "pixel", "sigreg")}
    assert first_of["plain"] < first_of["pixel"] < order.index(Cell("plain", 1, 0.0)) < first_of["sigreg"]


def test_only_the_anchor_is_trained_end_to_end_and_seeds_are_those_of_heads_too():
    frozen, tuned = evaluation_of(TASK, Cell("plain", 1, 0.0, 0.1)), evaluation_of(TASK, Cell(TUNED, 0, 0.0))
    assert (frozen.data.fraction, tuned.data.fraction) == (0.1, 1)
    assert (frozen.finetune.trains, tuned.finetune.trains) == (False, True)
    assert (frozen.sweep.seed, frozen.data.frames, tuned.finetune.layer_decay) == (1, 2, 0.9)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tasks": {}}, "tasks is empty"),
        ({"seeds": ()}, "seeds is empty"),
        ({"shares": (0.1, 1.0)}, "shares is .*below 1"),
        ({"worlds": {"own_frames": StudyWorld()}}, "worlds has own_frames; add pretrain, which encoders learn from"),
        ({"worlds": {"pretrain": StudyWorld()}}, r"tasks\.\w+\.world is \'own_frames\'.*pretrain"),
        ({"arms": ("plain", "pixels")}, "--rows names 'pixels'.* pixel"),
        ({"compared": ("plain", "all")}, "compared is .* both must be among the arms: plain, pixel"),
    ],
)
def test_a_study_that_cannot_be_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(CONFIG, **changes)


def test_how_operations_are_named_must_be_a_regular_expression():
    with pytest.raises(ValueError, match=r"operation is '\(', no regular expression: "):
        dataclasses.replace(TASK, operation="(")


def test_a_folder_holds_one_study_to_which_seeds_may_be_added(tmp_path):
    begin(CONFIG, tmp_path)
    begin(dataclasses.replace(CONFIG, seeds=(0, 1, 2)), tmp_path)
    begin(dataclasses.replace(CONFIG, tasks={"more": TASK} | CONFIG.tasks), tmp_path)
    other = dataclasses.replace(TASK, set=("data.frames=4",))
    begin(dataclasses.replace(CONFIG, tasks={"more": TASK}), tmp_path)
    with pytest.raises(ValueError, match=r"holds a study with other tasks\.tools; name another"):
        begin(dataclasses.replace(CONFIG, tasks={"tools": other}), tmp_path)
    with pytest.raises(ValueError, match="holds a study with other zoom; name another --workdir"):
        begin(dataclasses.replace(CONFIG, zoom=2.0), tmp_path)
    (tmp_path / "study.config.json").unlink()
    (tmp_path / "cells").mkdir()
    with pytest.raises(ValueError, match=r"records of cells without study\.config\.json, which says"):
        begin(CONFIG, tmp_path)


def test_a_world_is_simulated_once_and_never_the_one_that_is_learnt_from(tmp_path, monkeypatch):
    asked = []

    def generate(config, out, workers):
        asked.append(config)
        out.mkdir(parents=True)

    monkeypatch.setattr(work, "generate", generate)
    for layout in ("pretrain", "own_frames", "own_frames"):
        assert work.world(CONFIG, 1.0, layout, tmp_path, 0) == tmp_path / "worlds" / "1" / layout
    assert [(one.layout, one.seed, one.nuisance) for one in asked] == [("pretrain", 1, 1.0), ("own_frames", 2, 1.0)]


def test_no_cell_begins_after_its_hours(tmp_path, monkeypatch):
    monkeypatch.setattr("surgmotion_jax.runs.study.work.evaluate_source", lambda *args: None)
    assert study(CONFIG, str(tmp_path), lambda text: None, hours=1e-9) is False
    assert not (tmp_path / "worlds").exists()


def test_processes_with_seeds_of_their_own_share_a_folder_and_leave_no_cell(tmp_path, monkeypatch):
    did = []
    monkeypatch.setattr(work, "_do", lambda config, cell, known, *rest: did.append(cell) or [known])
    for pattern in ("*-0", "*-1", "*-0.*"):
        assert study(CONFIG, str(tmp_path), lambda text: None, only=pattern)
    assert len(did) == len(set(did)) == len(cells(CONFIG))
    with pytest.raises(ValueError, match="cells='plain' matches none of the 26 cells, 0/random-0 to 2/sigreg-1; a pat"):
        study(CONFIG, str(tmp_path), lambda text: None, only="plain")


def test_a_world_is_made_by_one_process_while_the_others_wait(tmp_path, monkeypatch):
    made = []

    def generate(config, out, workers):
        made.append(out)
        time.sleep(0.2)
        out.mkdir(parents=True)

    monkeypatch.setattr(work, "generate", generate)
    threads = [threading.Thread(target=work.world, args=(CONFIG, 1.0, "own_frames", tmp_path, 0)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (tmp_path / "worlds" / "1" / "own_frames").is_dir()


def test_pages_are_written_of_what_there_is_and_nothing_is_done(tmp_path, capsys):
    flags = ["--config=study/laptop:small", f"--workdir={tmp_path}", "--page-only"]
    assert study_run.main(flags) == 0
    assert re.search(r"study\.html; \d+ cells are left: repeat the command to go on", capsys.readouterr().out)
    assert {path.name for path in tmp_path.iterdir()} == {"study.config.json", "study.html", "study.md"}


def test_a_record_is_read_as_it_was_written_and_a_task_that_is_added_is_all_that_it_lacks(tmp_path):
    cell = Cell("plain", 0, 2.0)
    learnt = Learnt(32_000, 35.0, 0.25, 42.0, float("nan"), "no", ((0, -50.0, 33.0), (500, 41.5, float("nan"))))
    assert read_record(tmp_path, cell) == CellRecord()
    for record in (CellRecord(3.0, "why"), CellRecord(12.3, "", learnt, {"tools mAP": VALUES})):
        write_record(tmp_path, cell, record)
        assert repr(read_record(tmp_path, cell)) == repr(record), "by text, since no number is not itself"
        assert record.ended(CONFIG)
    other = Cell("plain", 1, 2.0)
    write_record(tmp_path, other, CellRecord(values={"tools": ByOperation(1, {"a": (float("nan"), 1.0)})}))
    assert np.isnan(read_record(tmp_path, other).values["tools"].sums["a"][0])
    more = dataclasses.replace(CONFIG, tasks={**CONFIG.tasks, "more": TASK})
    assert read_record(tmp_path, cell).lacks(more) == ["more"]
    page = find(CONFIG, str(tmp_path), "")
    assert page.values == {("plain", "tools mAP", 2.0): 0.25}
    path = tmp_path / "cells" / "2" / "plain-0.json"
    path.write_text(path.read_text().replace("0.5, 2.0", "0.5"))
    with pytest.raises(ValueError, match=r"plain-0\.json: no record of a cell .*; delete it, and what is in results"):
        read_record(tmp_path, cell)


@pytest.mark.parametrize(
    ("kind", "raised"), [("interrupted", KeyboardInterrupt), ("stopped", SystemExit), ("unsaved", OSError)]
)
def test_what_ends_training_ends_the_study_and_nothing_unfinished_is_evaluated(tmp_path, monkeypatch, kind, raised):
    ending = Ending(kind, 3, tmp_path, "the disk is full")
    monkeypatch.setattr(work, "ablate", lambda *args, **more: Ablated({"plain-seed=0": ending}, ""))
    monkeypatch.setattr(work, "pretraining_of", lambda *args: None)
    monkeypatch.setattr(work, "world", lambda *args: tmp_path)
    with pytest.raises(raised):
        work.pretrain(CONFIG, Cell("plain", 0, 0.0), tmp_path, 0)


def test_an_arm_without_a_checkpoint_is_noted_and_the_others_go_on(tmp_path, monkeypatch):
    few = dataclasses.replace(CONFIG, more=(), seeds=(0,), strengths=(0.0,), shares=())
    said = []
    monkeypatch.setattr(work, "pretrain", lambda *args: None)
    monkeypatch.setattr(work, "open_source", lambda name: name)
    monkeypatch.setattr(work, "_show", lambda *args: None)
    monkeypatch.setattr(work, "world", lambda *args: tmp_path)
    monkeypatch.setattr(work, "evaluate_source", lambda config, source, *rest: said.append(source))
    monkeypatch.setattr(work, "read_column", lambda *args: None)
    monkeypatch.setattr(work, "by_operation", lambda *args: VALUES)
    assert study(few, str(tmp_path), lambda text: None)
    assert said == ["random:vit_pico/8:0", "random:vit_pico/8:0"], "the anchors"
    failed = {cell for cell in cells(few) if read_record(tmp_path, cell).failed}
    assert failed == {Cell("plain", 0, 0.0), Cell("pixel", 0, 0.0)}


def test_the_shipped_study_can_be_built():
    for name in ("study/laptop", "study/laptop:small", "study/gpu"):
        config = study_config([f"--config={name}"])
        assert cells(config)
        door.load_config(config.pretrain)


def test_strips_show_what_is_apart_in_the_features_and_the_frames_first(tmp_path, monkeypatch):
    """An encoder whose tokens tell left from right gives strips that do."""
    video = np.zeros((2, 2, 16, 16, 3), np.uint8)
    token = np.broadcast_to(np.array([0.0, 1.0])[None, None, None, :, None], (2, 1, 2, 2, 4)) * np.array([1.0, 0, 0, 0])
    encoder = SimpleNamespace(with_layers=lambda video, layers: SimpleNamespace(tokens=token))
    monkeypatch.setattr(pictures, "windows", lambda data, root: video)
    pictures.write_strips(encoder, "arm", None, "", tmp_path)
    strips = pictures.read_strips(tmp_path)
    assert list(strips) == ["frames", "arm"]
    assert strips["arm"].shape == (96, 2 * 96, 3)
    assert not strips["frames"].any()
    first = strips["arm"][:, :96].astype(float)
    assert abs(first[:, 90].mean() - first[:, 5].mean()) > 50


@pytest.mark.slow
def test_a_whole_study_of_minutes(tmp_path, capsys):
    argv = ["--config=study/laptop:small", f"--workdir={tmp_path}"]
    assert study_run.main([*argv, "--hours=0.0001"]) == 0
    assert "repeat the command to go on" in capsys.readouterr().out
    assert study_run.main(argv) == 0
    told = capsys.readouterr().out
    assert "lead of plain over pixel" in told
    page = (tmp_path / "study.html").read_text()
    assert "What was found" in page
    assert 'alt="plain"' in page
    rows = [
        line.strip("| ").split(" | ")
        for line in (tmp_path / "study.md").read_text().splitlines()
        if line.count("|") == 7
    ]
    measured = {tuple(row[:2]): row[2:] for row in rows if row[0] in ("polyps dice", "depth abs_rel")}
    assert {key[1] for key in measured} == {"0", "2", "0.5"}, "strengths, and the share of labels"
    assert len(measured) == 2 * 3
    assert "-" not in {cell for row in measured.values() for cell in row}, "every arm has a number of every task"
    config = study_config(argv[:1])
    assert all(read_record(tmp_path, cell).seconds > 0 for cell in cells(config))
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == {"frames", RANDOM, "plain", "pixel"}
    before = (tmp_path / "study.md").read_text()
    assert study_run.main(argv) == 0
    assert (tmp_path / "study.md").read_text() == before, "what is done stays"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "cells", elsewhere / "cells")
    shutil.copy(tmp_path / "study.config.json", elsewhere)
    assert study_run.main([argv[0], f"--workdir={elsewhere}", "--page-only"]) == 0
    assert (elsewhere / "study.md").read_text().replace(str(elsewhere), str(tmp_path)) == before, "records are all"
    assert not (elsewhere / "worlds").exists()
