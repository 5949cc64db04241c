"""PolypDiag: clips of colonoscopy with and without a lesion (Tian et al., arXiv 2203.12121; split of Endo-FM,
Wang et al., arXiv 2306.16741)."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.clips import clip_case
from surgmotion_jax.benchmarks.frames import video_file
from surgmotion_jax.benchmarks.splits import hold_out_cases
from surgmotion_jax.benchmarks.tables import Row, read_table

CLASSES = ("normal", "abnormal")
LAYOUT = """ROOT/
  videos/NAME.mp4
  splits/train.txt    lines `NAME.mp4,LABEL`, 0 normal, 1 abnormal; a fifth of each class validates
  splits/val.txt      the same; the published results are on these clips, so they test"""


def read(root: Path, protocol: str) -> Contents:
    """Every clip of the two lists."""
    train, test = (
        [_case(root, row) for row in read_table(root / "splits" / name, ("file", "label"), ",", header=False)]
        for name in ("train.txt", "val.txt")
    )
    cases = {**hold_out_cases(train, stratify="diagnosis"), "test": tuple(test)}
    return Contents(BENCHMARK.name, protocol, {"diagnosis": CLASSES}, cases)


def _case(root: Path, row: Row) -> Case:
    name = row.name("file")
    if not name.endswith(".mp4"):
        raise row.error(f"{name!r}", "the name of an .mp4 file in videos/", "correct the line")
    label = row.integer("label", 0, 1)
    return clip_case(name.removesuffix(".mp4"), video_file(root / "videos" / name), "diagnosis", label, row.file)


BENCHMARK = Benchmark("polypdiag", "PolypDiag", "action", "diagnosis", LAYOUT, ("official",), read)
