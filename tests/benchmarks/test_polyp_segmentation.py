"""PraNet protocol: pairs of image and mask, test sets by protocol, and what a broken pair is told."""

from pathlib import Path

import numpy as np
import pytest
from fake_cases import HEIGHT, WIDTH, simulate
from PIL import Image

from surgmotion_jax.benchmarks import polyp_segmentation as polyps
from surgmotion_jax.benchmarks.benchmark import SPLITS
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.splits import overlaps
from surgmotion_jax.benchmarks.windows import ClipReader


@pytest.fixture
def root(tmp_path: Path) -> Path:
    simulate("polyp_segmentation", tmp_path, cases=10)
    return tmp_path


def first(root: Path, part: str) -> Path:
    return sorted((root / "TrainDataset" / part).iterdir())[0]


def test_the_protocol_chooses_the_test_sets_and_nothing_else(root: Path):
    whole = polyps.read(root, "pranet")
    assert not overlaps(whole.cases)
    assert whole.absent == ()
    assert {case.id.split("/")[0] for case in whole.cases["test"]} == set(polyps.TEST_SETS.values())
    for protocol, name in polyps.TEST_SETS.items():
        one = polyps.read(root, protocol)
        assert {case.id for case in one.cases["test"]} == {
            case.id for case in whole.cases["test"] if case.id.startswith(f"{name}/")
        }
        for split in ("train", "val"):
            assert [case.id for case in one.cases[split]] == [case.id for case in whole.cases[split]]
    assert polyps.PROTOCOLS == ("pranet", "kvasir", "clinicdb", "cvc300", "colondb", "etis")
    assert (polyps.SIZES["train"], sum(polyps.SIZES.values()) - 1450) == (900 + 550, 100 + 62 + 60 + 380 + 196)


def test_images_and_masks_are_those_of_the_simulation(tmp_path: Path):
    made = {case.id[-3:]: case for case in simulate("polyp_segmentation", tmp_path, cases=4)}
    reader = ClipReader(frames=1)
    seen = 0
    for split in SPLITS:
        for case in polyps.read(tmp_path, "pranet").cases[split]:
            number, second = case.id.split("/")[1].split("_")
            frame = list(made[number].frames())[int(second)]
            sample = reader.sample(case, 0.0)
            assert np.array_equal(sample.video_TxHxWx3[0], frame.video_HxWx3)
            assert np.array_equal(sample.masks["mask"], frame.lesion_HxW)
            assert frame.lesion_HxW.any()
            seen += 1
    assert seen == 16


def test_either_naming_of_the_training_folders_is_read(root: Path):
    before = polyps.read(root, "pranet")
    for part in ("image", "mask"):
        (root / "TrainDataset" / part).rename(root / "TrainDataset" / f"{part}s")
    after = polyps.read(root, "pranet")
    assert [c.id for s in SPLITS for c in before.cases[s]] == [c.id for s in SPLITS for c in after.cases[s]]


def test_a_mask_counts_where_it_is_over_half_white(root: Path):
    grey = np.full((HEIGHT, WIDTH), 20, np.uint8)
    grey[:, 10:] = 240
    grey[:, 9], grey[:, 10] = 127, 128  # the rim of a blurred edge
    path = first(root, "mask")
    Image.fromarray(grey).save(path)
    case = next(c for s in ("train", "val") for c in polyps.read(root, "pranet").cases[s] if c.masks[0] == path)
    mask = ClipReader(frames=1).sample(case, 0.0).masks["mask"]
    assert mask[:, 10:].all()
    assert not mask[:, :10].any()


def test_a_mask_of_another_size_is_refused(root: Path):
    Image.new("L", (WIDTH, HEIGHT - 1)).save(first(root, "mask"))
    with pytest.raises(BenchmarkError, match=r"mask/.*png: found 48 x 31 pixels; .* 48 x 32, the size of"):
        polyps.read(root, "pranet")


def test_what_is_missing_or_strange_is_named(root: Path):
    mask = first(root, "mask")
    kept = mask.read_bytes()
    mask.unlink()
    with pytest.raises(BenchmarkError, match=r"image/.*png: found no mask of that name"):
        polyps.read(root, "pranet")
    mask.write_bytes(kept)
    first(root, "image").unlink()
    with pytest.raises(BenchmarkError, match=r"mask/.*png: found no image of that name"):
        polyps.read(root, "pranet")
    mask.unlink()
    (root / "TrainDataset" / "mask" / "Thumbs.db").write_bytes(b"x")
    with pytest.raises(BenchmarkError, match=r"Thumbs\.db: found the ending '\.db'"):
        polyps.read(root, "pranet")
    (root / "TrainDataset" / "mask" / "Thumbs.db").unlink()
    first(root, "mask").write_bytes(b"no picture")
    with pytest.raises(BenchmarkError, match=r"found no readable image"):
        polyps.read(root, "pranet")
    first(root, "mask").with_suffix(".jpg").write_bytes(kept)
    with pytest.raises(BenchmarkError, match=r"again, beside"):
        polyps.read(root, "pranet")


def test_absent_test_sets_are_listed_and_a_protocol_without_any_refused(tmp_path: Path):
    simulate("polyp_segmentation", tmp_path, cases=3)
    assert polyps.read(tmp_path, "pranet").absent == tuple(list(polyps.TEST_SETS.values())[1:])
    with pytest.raises(BenchmarkError, match=r"TestDataset: found no test set of this protocol; .* CVC-300"):
        polyps.read(tmp_path, "cvc300")
    with pytest.raises(BenchmarkError, match=r"found no such folder; .* TrainDataset"):
        polyps.read(tmp_path / "elsewhere", "pranet")
