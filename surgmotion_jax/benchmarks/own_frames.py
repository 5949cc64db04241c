"""Frames of one's own with labels of one's own: a folder of images a case, and one CSV.

The smallest thing that a surgical group has. Labels are the name of one class a frame, a column of 0 and 1 for each
class, or the file of a mask. Letters: N labelled frames of a case, K classes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.depth_files import image_size, require_same_size
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.frames import folder
from surgmotion_jax.benchmarks.splits import VALIDATION_SEED, by_split, draw_order, hold_out_validation, split_table
from surgmotion_jax.benchmarks.tables import Row, read_header, read_table
from surgmotion_jax.data.images import image_names

LABELS, RATES = "labels.csv", "rates.csv"
KEYS = ("case", "frame")  # the first columns
NAMED = "label"  # the only column after them, where a frame has one class
MASKED = "mask"  # the only one, where a frame has a mask
POOLED, FOLD = "loco", "loco_"  # leave one case out
THIRDS, THIRD = "thirds", "third_"  # leave a third of the cases out
FEWEST = 3  # cases: one to test, one to choose a head, one to learn from
LAYOUT = """ROOT/
  labels.csv           `case,frame,label`: the name of one class; or `case,frame` and a column of 0 and 1 for each
                       class; or `case,frame,mask`: an image file that marks one kind of object, named from ROOT
  frames/CASE/NAME.jpg or .png: the frames of a case in the order of their names, labelled or not
  rates.csv            `case,fps`: images a second; without it every case has one a second
A line of labels.csv names a frame as its file is named. Frames without a line are seen by windows and not scored. Each
case is tested once, by heads that never saw it: alone (protocol loco), or with a third of the cases (thirds, or one of
third_1 to third_3); a fifth of the other cases validate. Images of one patient make one case, since nothing else keeps
them together. Other tables like labels.csv may lie beside it: --root=ROOT/NAME.csv reads that one."""


@dataclass(frozen=True)
class Labels:
    """labels.csv as it was read."""

    file: Path
    columns: tuple[str, ...]  # after case and frame
    rows: tuple[Row, ...]

    @property
    def named(self) -> bool:
        """Whether a frame has the name of one class."""
        return self.columns == (NAMED,)

    @property
    def masked(self) -> bool:
        """Whether a frame has a mask."""
        return self.columns == (MASKED,)

    @property
    def family(self) -> str:
        """What is scored."""
        return "workflow" if self.named else "segmentation" if self.masked else "presence"

    @functools.cached_property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Names by label: the columns in their order, or all that occur, sorted; what a mask tells apart."""
        if self.masked:
            return {MASKED: ("background", "object")}
        return {NAMED: tuple(sorted({row.text(NAMED) for row in self.rows})) if self.named else self.columns}

    @functools.cached_property
    def by_case(self) -> Mapping[str, Sequence[Row]]:
        """Lines of each case, cases in the order in which they first come."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.name("case"), []).append(row)
        return found


def at(root: Path) -> Benchmark:
    """The row of a folder: a fold for each of its cases, three of a third, and the family that its columns ask for.

    Raises BenchmarkError where labels.csv is not as the layout says.
    """
    labels = read_labels(table_at(root))
    folds = tuple(f"{FOLD}{case}" for case in labels.by_case)
    thirds = tuple(f"{THIRD}{number}" for number in (1, 2, 3))
    label, pooled = next(iter(labels.classes)), {POOLED: folds, THIRDS: thirds}
    return dataclasses.replace(BENCHMARK, family=labels.family, label=label, protocols=(*folds, *thirds), pooled=pooled)


def read(root: Path, protocol: str) -> Contents:
    """All cases; `loco_A` tests on case A, `third_2` on the second third of them.

    Raises BenchmarkError for anything that is not as the layout says.
    """
    labels = read_labels(table_at(root))
    rates = read_rates(labels.file.with_name(RATES), tuple(labels.by_case))
    cases = [_case(labels, name, rows, rates[name]) for name, rows in labels.by_case.items()]
    tested = tested_cases(protocol, tuple(labels.by_case))
    rest = [case.id for case in cases if case.id not in tested]
    held = hold_out_validation(rest)
    split_of = split_table(train=[name for name in rest if name not in held], val=sorted(held), test=tested)
    return Contents(BENCHMARK.name, protocol, labels.classes, by_split(cases, split_of))


def table_at(root: Path) -> Path:
    """The table of labels that a root names: itself, or labels.csv in it."""
    return root if root.suffix == ".csv" else root / LABELS


def tested_cases(protocol: str, cases: Sequence[str]) -> list[str]:
    """The cases on which a protocol tests."""
    if protocol.startswith(THIRD):
        return sorted(draw_order(cases, VALIDATION_SEED)[int(protocol.removeprefix(THIRD)) - 1 :: 3])
    return [protocol.removeprefix(FOLD)]


def read_labels(path: Path) -> Labels:
    """The lines of a table of labels. Raises BenchmarkError naming file, line and column."""
    header = read_header(path)
    columns = tuple(header[len(KEYS) :])
    if tuple(header[: len(KEYS)]) != KEYS or not columns or "" in columns or len(set(columns)) != len(columns):
        asks = "case,frame,label, case,frame,mask, or case,frame and a column with a name of its own for each class"
        raise BenchmarkError(path, f"the header {','.join(header)}", asks, "make the header so", at=1)
    labels = Labels(path, columns, tuple(read_table(path, header)))
    if len(labels.by_case) < FEWEST:
        found = f"{len(labels.by_case)} cases ({', '.join(labels.by_case)})"
        asks = f"at least {FEWEST}: one to test, one to choose a head and one to learn from"
        raise BenchmarkError(path, found, asks, "add lines of other cases")
    return labels


def read_rates(path: Path, cases: Sequence[str]) -> dict[str, float]:
    """Images a second of each case, 1 without a table. Raises BenchmarkError for a case without a line, or two."""
    if not path.exists():
        return dict.fromkeys(cases, 1.0)
    found: dict[str, float] = {}
    for row in read_table(path, ("case", "fps")):
        case, rate = row.text("case"), row.number("fps", low=0)
        if case in found:
            raise row.error(f"case {case} again", "one line for each case", "keep one of the lines")
        if not rate:
            raise row.error("fps 0", "images a second, above 0, in column fps", "correct the value")
        found[case] = rate
    for case in cases:
        if case not in found:
            raise BenchmarkError(path, f"no line for case {case}", "one for every case", "add the line")
    return found


def _case(labels: Labels, name: str, rows: Sequence[Row], fps: float) -> Case:
    """The labelled frames of a case, in the order in which they were taken."""
    place = folder(labels.file.parent / "frames" / name, LAYOUT)
    names = image_names(str(place))
    place_of = {image: number for number, image in enumerate(names)}
    found: dict[int, Row] = {}
    for row in rows:
        frame = row.name("frame")
        if frame not in place_of:
            asks = f"the name of an image in {place} in column frame"
            raise row.error(f"frame {frame!r}", asks, "correct the name, or put the image there")
        if place_of[frame] in found:
            raise row.error(f"frame {frame} of case {name} again", "one line for each frame", "keep one of the lines")
        found[place_of[frame]] = row
    scored = sorted(found)
    images = ImageFrames(tuple(place / image for image in names), fps)
    case = Case(name, name, images, np.array(scored) / fps, annotation=labels.file)
    if labels.masked:
        masks = tuple(_mask(labels.file.parent, found[number], images.paths[number]) for number in scored)
        return dataclasses.replace(case, masks=masks)
    label = np.stack([_label(labels, found[number]) for number in scored])
    return dataclasses.replace(case, labels={NAMED: label})


def _mask(root: Path, row: Row, image: Path) -> Path:
    """The file of a mask, as large as its frame."""
    path = root / row.text(MASKED)
    if not path.is_file():
        asks = f"a file in {root} in column {MASKED}"
        raise row.error(f"{MASKED} {row.text(MASKED)!r}", asks, "correct the name, or put the mask there")
    require_same_size(path, image_size(path), image, image_size(image))
    return path


def _label(labels: Labels, row: Row) -> np.ndarray:
    """The number of the class, or [K] of 0 and 1."""
    if labels.named:
        return np.array(row.choice(NAMED, labels.classes[NAMED]), np.int64)
    return np.array([row.integer(column, 0, 1) for column in labels.columns], np.int64)


BENCHMARK = Benchmark("own_frames", "Own frames", "workflow", NAMED, LAYOUT, (POOLED,), read, at=at)
