"""PitVis: 25 endoscopic pituitary operations with steps (PitVis challenge 2023; Das et al., arXiv 2409.01184)."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.frames import numbered_images, stems, video_file
from surgmotion_jax.benchmarks.phases import phase_case
from surgmotion_jax.benchmarks.splits import by_split, hold_out_validation, split_table
from surgmotion_jax.benchmarks.tables import Row, read_table

CLASSES = (
    "nasal corridor creation",
    "anterior sphenoidotomy",
    "septum displacement",
    "sphenoid sinus clearance",
    "sellotomy",
    "durotomy",
    "tumour excision",
    "haemostasis",
    "synthetic graft placement",
    "fat graft placement",
    "dural sealant",
    "debris clearance",
)
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14)  # number in the file of each class
DROPPED = (-1, 11, 13)  # outside the patient, and two steps too rare to be scored
COLUMNS = ("int_video", "int_time", "int_step", "int_instrument1", "int_instrument2")
TEST = ("02", "06", "12", "13", "24")
OFFICIAL_TRAIN = tuple(f"{number:02d}" for number in range(1, 26) if f"{number:02d}" not in TEST)
VAL = tuple(sorted(hold_out_validation(OFFICIAL_TRAIN, count=4)))  # none is official
TRAIN = tuple(name for name in OFFICIAL_TRAIN if name not in VAL)
LAYOUT = """ROOT/
  annotations_XX.csv      `int_video,int_time,int_step,int_instrument1,int_instrument2`, a row a second from 0
  video_XX.mp4            or frames/XX/*.jpg, one image a second, second i being image i + 1
Seconds of the steps -1, 11 and 13 are not scored. Videos 2, 6, 12, 13 and 24 test; of the other 20, four validate."""


def read(root: Path, protocol: str) -> Contents:
    """Every case that has an annotation."""
    ids = stems(root, ".csv", r"annotations_(\d\d)", LAYOUT)
    split_of = split_table(train=TRAIN, val=VAL, test=TEST)
    cases = by_split([_case(root, name) for name in ids], split_of)
    absent = tuple(name for name in split_of if name not in ids)
    return Contents(BENCHMARK.name, protocol, {"phase": CLASSES}, cases, absent)


def _case(root: Path, name: str) -> Case:
    annotation = root / f"annotations_{name}.csv"
    rows = read_table(annotation, COLUMNS)
    steps = [_step(row, place, name) for place, row in enumerate(rows)]
    scored = [second for second, step in enumerate(steps) if step not in DROPPED]
    if not scored:
        raise BenchmarkError(annotation, f"only the steps {sorted(set(steps))}", f"some of {STEPS}", "remove the case")
    phases = [STEPS.index(steps[second]) for second in scored]
    if not (root / "frames").is_dir():
        return phase_case(name, video_file(root / f"video_{name}.mp4"), scored, phases, annotation)
    return phase_case(name, numbered_images(root / "frames" / name, r"\D*(\d+)", 1.0), scored, phases, annotation)


def _step(row: Row, second: int, name: str) -> int:
    if row.integer("int_video") != int(name):
        raise row.error(f"int_video {row.text('int_video')}", f"video {int(name)}, as the file name says", "correct it")
    if row.integer("int_time") != second:
        raise row.error(f"int_time {row.text('int_time')}", f"{second}, a row for each second", "restore the rows")
    step = row.integer("int_step")
    if step not in STEPS and step not in DROPPED:
        raise row.error(f"int_step {step}", f"one of {(*DROPPED, *STEPS)}", "correct the value")
    return step


BENCHMARK = Benchmark("pitvis", "PitVis", "workflow", "phase", LAYOUT, ("official",), read)
