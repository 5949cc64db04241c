"""C3VD, SCARED and Hamlyn: depth as simulated, splits that never part a subject, and what broken files are told."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from fake_cases import HEIGHT, WIDTH, simulate
from PIL import Image

from surgmotion_jax.benchmarks import c3vd, hamlyn, scared
from surgmotion_jax.benchmarks.benchmark import SPLITS
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.splits import overlaps
from surgmotion_jax.benchmarks.windows import ClipReader

READERS = {"c3vd": c3vd, "scared": scared, "hamlyn": hamlyn}
HALF_UNIT = {"c3vd": 0.5 * 100 / 65535, "scared": 0.0, "hamlyn": 0.5}
"""Millimetres that a file format can be off."""


def read(name: str, root: Path):
    module = READERS[name]
    return module.read(root, module.BENCHMARK.protocols[0])


def frame_number(name: str, case, row: int) -> int:
    """The frame that a scored moment shows: one a second, or five keyframes of four frames."""
    return {1: 0, 2: 1, 3: 2, 4: 3}[int(case.id[-1])] if name == "scared" else row


@pytest.mark.parametrize("name", READERS)
def test_images_and_depth_are_those_of_the_simulation(tmp_path: Path, name):
    made = {case.id: case for case in simulate(name, tmp_path)}
    contents = read(name, tmp_path)
    assert not overlaps(contents.cases)
    assert all(contents.cases[split] for split in SPLITS)
    reader = ClipReader(frames=1)
    for split in SPLITS:
        for case in contents.cases[split]:
            simulated = made[case.id.split("/")[0]]
            assert simulated.plan.split == split
            frames = list(simulated.frames())
            for row, sample in enumerate(reader.case_samples(case)):
                frame = frames[frame_number(name, case, row)]
                if name != "hamlyn":  # whose images are JPEG
                    assert np.array_equal(sample.video_TxHxWx3[0], frame.video_HxWx3)
                assert np.array_equal(np.isnan(sample.depth_TxHxW[0]), ~frame.fov_HxW)
                off_HxW = np.abs(sample.depth_TxHxW[0] - frame.depth_HxW)[frame.fov_HxW]
                assert off_HxW.max() <= HALF_UNIT[name] + 1e-4
                if name == "c3vd":
                    assert np.array_equal(sample.masks["mask"], frame.fov_HxW)
            assert row + 1 == len(case.times_N) == len(case.depths)


def test_c3vd_never_parts_a_model_and_texture(tmp_path: Path):
    simulate("c3vd", tmp_path)
    table = tmp_path / "c3vd.csv"
    lines = table.read_text().splitlines()
    train = next(number for number, line in enumerate(lines) if line.endswith("_a,train"))
    other = lines[train].replace("_a,train", "_b,test")
    table.write_text("\n".join([*lines, other]) + "\n")
    with pytest.raises(BenchmarkError, match=rf"c3vd\.csv:{len(lines) + 1}: found .*_b in test, its model and texture"):
        read("c3vd", tmp_path)
    lines[train] = lines[train].replace("train", "test")
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(BenchmarkError, match=r"never split by frame or view"):
        read("c3vd", tmp_path)
    assert [c3vd.group_of(name) for name in ("cecum_t1_a", "cecum_t1_b", "other")] == ["cecum_t1", "cecum_t1", "other"]


@pytest.mark.parametrize("name", ["c3vd", "hamlyn"])
def test_without_validation_in_the_table_some_of_train_is_held_out(tmp_path: Path, name):
    simulate(name, tmp_path, cases=6)
    table = next(iter(tmp_path.glob("*.csv")))
    table.write_text(table.read_text().replace(",val", ",train"))
    contents = read(name, tmp_path)
    assert contents.cases["val"]
    assert contents.cases["train"]
    assert not overlaps(contents.cases)


def test_c3vd_table_without_masks_and_broken_lines(tmp_path: Path):
    simulate("c3vd", tmp_path)
    table = tmp_path / "c3vd.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join(",".join([*row[:2], *row[3:]]) for row in rows) + "\n")
    assert all(not case.masks for split in SPLITS for case in read("c3vd", tmp_path).cases[split])
    for column, value, message in (
        (0, "absent.png", r"c3vd\.csv:2: found rgb 'absent\.png', which is no file"),
        (4, "training", r"c3vd\.csv:2: found split 'training'; .* train, val, test"),
        (3, "", r"c3vd\.csv:2: found an empty sequence"),
    ):
        broken = [list(row) for row in rows]
        broken[1][column] = value
        table.write_text("\n".join(",".join(row) for row in broken) + "\n")
        with pytest.raises(BenchmarkError, match=message):
            read("c3vd", tmp_path)


def test_scared_tests_on_the_challenge_subjects(tmp_path: Path):
    simulate("scared", tmp_path, cases=9)
    contents = read("scared", tmp_path)
    groups = {split: {case.group for case in contents.cases[split]} for split in SPLITS}
    assert groups["test"] == {"dataset_8", "dataset_9"}
    assert len(groups["val"]) == 1
    assert len(groups["train"]) == 6
    assert contents.absent == ()
    (tmp_path / "dataset_9").rename(tmp_path / "dataset_10")
    with pytest.raises(BenchmarkError, match=r"dataset_10: found another subject"):
        read("scared", tmp_path)


def test_scared_points_lie_on_the_rays_of_their_pixels(tmp_path: Path):
    made = simulate("scared", tmp_path)[0]
    points_HxWx3 = tifffile.imread(tmp_path / made.id / "keyframe_1" / "left_depth_map.tiff")
    assert points_HxWx3.shape == (HEIGHT, WIDTH, 3)
    assert points_HxWx3.dtype == np.float32
    focal = made.script.focal * HEIGHT
    x, y, z = points_HxWx3[20, 30]
    assert (x * focal / z, y * focal / z) == pytest.approx((30.5 - WIDTH / 2, 20.5 - HEIGHT / 2), rel=1e-4)


@pytest.mark.parametrize("name", READERS)
def test_depth_of_another_size_is_refused(tmp_path: Path, name):
    simulate(name, tmp_path)
    depth = read(name, tmp_path).cases["train"][0].depths[0]
    small = np.ones((HEIGHT, WIDTH - 2), np.uint16)
    if name == "scared":
        tifffile.imwrite(depth, np.ones((HEIGHT, WIDTH - 2, 3), np.float32), photometric="rgb")
    else:
        Image.fromarray(small).save(depth)
    with pytest.raises(BenchmarkError, match=rf"{depth.name}: found 46 x 32 pixels; .* 48 x 32, the size of"):
        read(name, tmp_path)


def test_scared_and_hamlyn_name_what_is_missing(tmp_path: Path):
    simulate("scared", tmp_path / "s")
    depth = read("scared", tmp_path / "s").cases["test"][0].depths[0]
    depth.unlink()
    with pytest.raises(BenchmarkError, match=r"left_depth_map\.tiff: found no such file"):
        read("scared", tmp_path / "s")
    (depth.parent / "Left_Image.png").unlink()
    with pytest.raises(BenchmarkError, match=r"Left_Image\.png: found no such file"):
        read("scared", tmp_path / "s")
    simulate("hamlyn", tmp_path / "h")
    case = read("hamlyn", tmp_path / "h").cases["test"][0]
    case.depths[1].unlink()
    with pytest.raises(BenchmarkError, match=r"0000000001\.jpg: found no depth map of that number"):
        read("hamlyn", tmp_path / "h")
    case.frames.paths[1].unlink()
    table = tmp_path / "h" / "splits.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(BenchmarkError, match=r"splits\.csv:5: found rectified.. again"):
        read("hamlyn", tmp_path / "h")
    table.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(BenchmarkError, match=r"splits\.csv: found case 'rectified"):
        read("hamlyn", tmp_path / "h")
