"""C3VD: colonoscopy phantom with registered depth, 22 sequences of 4 colon models in 4 textures.

Bobrow et al., "Colonoscopy 3D video dataset with paired depth from 2D-3D registration", Medical Image Analysis 2023.
The sequences and their splits are read from the user's table. Views of one model in one texture (`cecum_t1_a`,
`cecum_t1_b`) show the same surface, so a split never parts them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks import splits
from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.depth_files import depth_size, image_size, require_same_size
from surgmotion_jax.benchmarks.tables import Row, read_table, read_text

LAYOUT = (
    "c3vd.csv with the columns rgb,depth,sequence,split, or rgb,depth,mask,sequence,split (mask: where depth is"
    " valid): paths from the folder of the table, sequences as cecum_t1_a, splits train, val, test; depth as 16-bit"
    " PNG, TIFF or NPY from 0 to 100 mm"
)

COLUMNS = ("rgb", "depth", "sequence", "split")
MASKED_COLUMNS = ("rgb", "depth", "mask", "sequence", "split")
DEPTH_SCALE = 100 / 65535
"""Millimetres per unit of a 16-bit depth map."""

FPS = 1.0
"""Images of a sequence are taken one at a time, in the order of the table; no rate is implied."""


def read(root: Path, protocol: str) -> Contents:
    """Every sequence of the table. Without a val split in it, model and texture pairs are held out of train.

    Raises BenchmarkError for anything that is not as the layout says.
    """
    table = root / "c3vd.csv"
    masked = "mask" in read_text(table).partition("\n")[0].split(",")
    rows_of: dict[str, list[Row]] = {}
    for row in read_table(table, MASKED_COLUMNS if masked else COLUMNS):
        rows_of.setdefault(row.text("sequence"), []).append(row)
    split_of: dict[str, str] = {}
    for sequence, rows in rows_of.items():
        for row in rows:
            split = SPLITS[row.choice("split", SPLITS)]
            if split_of.setdefault(group_of(sequence), split) != split:
                found = f"{sequence} in {split}, its model and texture in {split_of[group_of(sequence)]} above"
                raise row.error(found, "one split for each model and texture", "never split by frame or view")
    cases = splits.by_split([_case(name, rows, root, masked) for name, rows in rows_of.items()], split_of)
    if not cases["val"]:
        cases |= splits.hold_out_cases(cases["train"])
    return Contents("c3vd", protocol, {}, cases)


def group_of(sequence: str) -> str:
    """`cecum_t1` of `cecum_t1_a`; another name is its own group."""
    match = re.fullmatch(r"(.+_t\d+)_[a-z]", sequence)
    return match[1] if match else sequence


def _case(sequence: str, rows: list[Row], root: Path, masked: bool) -> Case:
    paths = {column: tuple(_path(row, column, root) for row in rows) for column in ("rgb", "depth")}
    masks = tuple(_path(row, "mask", root) for row in rows) if masked else ()
    image, size = paths["rgb"][0], image_size(paths["rgb"][0])
    require_same_size(paths["depth"][0], depth_size(paths["depth"][0]), image, size)
    if masks:
        require_same_size(masks[0], image_size(masks[0]), image, size)
    return Case(
        sequence,
        group_of(sequence),
        ImageFrames(paths["rgb"], FPS),
        np.arange(len(rows)) / FPS,
        masks=masks,
        depths=paths["depth"],
        depth_scale=DEPTH_SCALE,
        annotation=rows[0].file,
    )


def _path(row: Row, column: str, root: Path) -> Path:
    path = root / row.text(column)
    if not path.is_file():
        raise row.error(f"{column} {row.cells[column]!r}, which is no file", f"a path from {root}", "correct the path")
    return path


BENCHMARK = Benchmark("c3vd", "C3VD", "depth", "depth", LAYOUT, ("table",), read)
