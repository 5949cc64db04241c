"""JIGSAWS: leaving users, super-trials and folds out, scores that add up, and what a broken table is told."""

from pathlib import Path

import numpy as np
import pytest
from fake_cases import simulate

from surgmotion_jax.benchmarks import jigsaws
from surgmotion_jax.benchmarks.benchmark import SPLITS
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.splits import overlaps
from surgmotion_jax.simulate.layouts import jigsaws as layout

CASES = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("jigsaws")
    return root, {case.id: case for case in simulate("jigsaws", root, cases=CASES, seconds=1.0)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    simulate("jigsaws", tmp_path, cases=3, seconds=0.5)
    return tmp_path


def meta(root: Path) -> Path:
    return next(iter(sorted(root.glob("*/meta_file_*.txt"))))


def edit(root: Path, column: int, value: str) -> None:
    cells = meta(root).read_text().splitlines()[0].split("\t")
    cells[column] = value
    rest = meta(root).read_text().splitlines()[1:]
    meta(root).write_text("\n".join(["\t".join(cells), *rest]) + "\n")


def test_scores_and_tasks_are_those_of_the_simulation(made):
    root, cases_made = made
    contents = jigsaws.read(root, "louo_B")
    cases = [case for split in SPLITS for case in contents.cases[split]]
    assert {case.id for case in cases} == set(cases_made)
    for case in cases:
        script = cases_made[case.id].script
        assert case.labels["grs"].tolist() == [script.grs]
        assert 6 <= script.grs <= 30
        assert case.labels["items"].tolist() == [script.grs_6.tolist()]
        assert contents.classes["task"][int(case.labels["task"][0])] == layout.task_of(case.id)
        assert case.times_N.tolist() == pytest.approx([0.9])  # the last of ten frames at 10 fps
    assert len({float(case.labels["grs"][0]) for case in cases}) > 3


@pytest.mark.parametrize("protocol", jigsaws.PROTOCOLS)
def test_what_is_left_out_is_nowhere_else(made, protocol):
    contents = jigsaws.read(made[0], protocol)
    assert not overlaps(contents.cases)
    assert sum(len(contents.cases[split]) for split in SPLITS) == CASES
    tested = {case.id for case in contents.cases["test"]}
    if protocol.startswith("fold"):
        folds = dict(line.split(",") for line in (made[0] / "folds.csv").read_text().splitlines()[1:])
        assert tested == {trial for trial, fold in folds.items() if f"fold{fold}" == protocol}
        return
    kind, left = (jigsaws.user_of, protocol[-1]) if protocol[:4] == "louo" else (jigsaws.super_trial_of, protocol[-1])
    units = {split: {kind(case.id) for case in contents.cases[split]} for split in SPLITS}
    assert units["test"] <= {left}
    assert not units["train"] & (units["val"] | {left})
    assert left not in units["val"]
    assert tested == {trial for trial in made[1] if kind(trial) == left}


def test_the_protocols_are_eight_users_five_trials_four_folds():
    kinds = [protocol[:4] for protocol in jigsaws.PROTOCOLS]
    assert (kinds.count("louo"), kinds.count("loso"), kinds.count("fold")) == (8, 5, 4)


def test_only_the_first_view_is_read(root: Path):
    before = jigsaws.read(root, "louo_B")
    for path in root.glob("*/video/*_capture1.mp4"):
        path.with_name(path.name.replace("capture1", "capture2")).write_bytes(b"the other eye")
    after = jigsaws.read(root, "louo_B")
    assert [c.id for s in SPLITS for c in before.cases[s]] == [c.id for s in SPLITS for c in after.cases[s]]


def test_kinematics_have_76_columns_and_move_as_the_tips_do(made):
    case = next(iter(made[1].values()))
    path = made[0] / layout.task_of(case.id) / "kinematics" / "AllGestures" / f"{case.id}.txt"
    table_TxK = np.loadtxt(path)
    assert table_TxK.shape == (case.script.frames, 76)
    assert np.allclose(table_TxK[:, :3], case.script.tip_TxMx3[:, 0] / 1000, atol=1e-6)
    steps_Tx3 = np.diff(table_TxK[:, :3], axis=0) * case.fps
    assert np.allclose(table_TxK[1:, 12:15], steps_Tx3, atol=1e-4)
    turn_Tx3x3 = table_TxK[:, 3:12].reshape(-1, 3, 3)
    assert np.allclose(turn_Tx3x3 @ turn_Tx3x3.transpose(0, 2, 1), np.eye(3), atol=1e-5)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (2, "31", r"meta_file_.*\.txt:1: found a GRS of 31; .* the sum of its six items"),
        (3, "6", r"meta_file_.*\.txt:1: found respect for tissue 6; .* 1 to 5"),
        (3, "0", r":1: found respect for tissue 0"),
        (4, "good", r":1: found suture/needle handling 'good'"),
        (1, "X", r":1: found experience 'X'; .* N, I, E"),
        (0, "Suturing_A001", r":1: found trial 'Suturing_A001'"),
        (8, "3\t3", r":1: found 10 cells instead of 9"),
    ],
)
def test_a_broken_line_is_named(root: Path, column, value, message):
    edit(root, column, value)
    with pytest.raises(BenchmarkError, match=message):
        jigsaws.read(root, "louo_B")


def test_missing_and_doubled_things_are_named(root: Path):
    video = next(iter(sorted(root.glob("*/video/*.mp4"))))
    kept, trial = video.read_bytes(), video.stem.removesuffix("_capture1")
    video.unlink()
    assert jigsaws.read(root, "louo_B").absent == (trial,)
    video.with_suffix(".mkv").write_bytes(kept)
    with pytest.raises(BenchmarkError, match=r"capture1\.mkv: found the ending '\.mkv'"):
        jigsaws.read(root, "louo_B")
    video.with_suffix(".mkv").unlink()
    video.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(BenchmarkError, match=r"capture1\.mp4: found .*"):
        jigsaws.read(root, "louo_B")
    video.write_bytes(kept)
    table = meta(root).read_text()
    meta(root).write_text(table + table.splitlines()[0] + "\n")
    with pytest.raises(BenchmarkError, match=r"found .*_.00. again"):
        jigsaws.read(root, "louo_B")
    meta(root).unlink()
    with pytest.raises(BenchmarkError, match=r"meta_file_.*\.txt: found no such file"):
        jigsaws.read(root, "louo_B")


def test_a_video_without_a_score_is_named(root: Path):
    lines = meta(root).read_text().splitlines()
    other = lines[0].split("\t")[0]
    swapped = other[:-1] + str(int(other[-1]) % 5 + 1)
    meta(root).write_text("\n".join([lines[0].replace(other, swapped), *lines[1:]]) + "\n")
    with pytest.raises(BenchmarkError, match=rf"no line for {other}"):
        jigsaws.read(root, "louo_B")


def test_folds_must_name_every_trial_once(root: Path):
    path = root / "folds.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(BenchmarkError, match=r"folds\.csv: found no line for"):
        jigsaws.read(root, "fold1")
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")
    with pytest.raises(BenchmarkError, match=r"folds\.csv:5: found .* again"):
        jigsaws.read(root, "fold1")
    path.write_text("\n".join([*lines[:-1], lines[-1][:-1] + "5"]) + "\n")
    with pytest.raises(BenchmarkError, match=r"folds\.csv:4: found fold 5; .* 1 to 4"):
        jigsaws.read(root, "fold1")
    path.unlink()
    with pytest.raises(BenchmarkError, match=r"folds\.csv: found no such file"):
        jigsaws.read(root, "fold1")
