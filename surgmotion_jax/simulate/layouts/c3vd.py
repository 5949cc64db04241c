"""Writes simulated colonoscopy as C3VD is read: images with 16-bit depth from 0 to 100 mm, and a table of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.c3vd import DEPTH_SCALE, MASKED_COLUMNS
from surgmotion_jax.simulate.layouts.depth_images import body_moments, depth_units
from surgmotion_jax.simulate.layouts.files import write_image, write_mask, write_table
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits

SPECIALTY = "endoscopic"
RATE = 1.0  # images per second that are kept


def write_case(case: SimulatedCase, out: Path) -> None:
    kept = set(body_moments(case, RATE))
    for k, frame in case.at_rate(RATE):
        if k not in kept:
            continue
        write_image(out / file_of(case, k, "color"), frame.video_HxWx3)
        write_image(out / file_of(case, k, "depth"), depth_units(frame, DEPTH_SCALE))
        write_mask(out / file_of(case, k, "mask"), frame.fov_HxW)


def file_of(case: SimulatedCase, k: int, kind: str) -> str:
    """Path of an image in the data set."""
    return f"{case.id}/{k:04d}_{kind}.png"


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    rows = [
        (*(file_of(case, k, kind) for kind in ("color", "depth", "mask")), case.id, case.plan.split)
        for case in cases
        for k in body_moments(case, RATE)
    ]
    write_table(out / "c3vd.csv", MASKED_COLUMNS, rows)


SEQUENCES = "abcdefgh"
TEXTURES = (1, 2, 3, 4)
MODELS = {"train": ("cecum", "sigmoid"), "val": ("desc",), "test": ("trans",)}
"""Sequences are split by the colon model that they were taken in, as papers on C3VD do."""

IDS = {
    split: [f"{model}_t{texture}_{sequence}" for sequence in SEQUENCES for texture in TEXTURES for model in models]
    for split, models in MODELS.items()
}
PLAN = plans_over_splits(IDS, plain_vocabulary(1), SPECIALTY)
LAYOUT = Layout("c3vd", SPECIALTY, RATE, PLAN, write_case, write_index)
