"""Writes simulated operations as CholecT50 lies on disk: PNG frames at 1 fps, and a JSON of triplets for each video.

Names in the files say what they are, `instrument 3`: the names of the real data set come with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.cholect50 import FPS, PARTS, PHASES, RDV, TRIPLETS, name_of
from surgmotion_jax.simulate.case import NONE, triplet_ids
from surgmotion_jax.simulate.layouts.files import write_images
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits

SPECIALTY = "laparoscopic"
NO_BOX = [-1, -1, -1, -1]


def write_case(case: SimulatedCase, out: Path) -> None:
    write_images(case, FPS, lambda k: out / "videos" / case.id / f"{k:06d}.png")
    document = {
        "video": int(case.id.removeprefix("VID")),
        "fps": FPS,
        "num_frames": case.moments(FPS),
        "categories": categories(case),
        "annotations": {str(k): vectors(case, case.frame_at(k / FPS)) for k in range(case.moments(FPS))},
    }
    storage.write_text_atomic(out / "labels" / f"{case.id}.json", json.dumps(document))


def categories(case: SimulatedCase) -> dict[str, dict[str, str]]:
    """Names by id of every kind of label."""
    names = {part: [f"{part} {number}" for number in range(count)] for part, count in PARTS.items()}
    words = [[names[part][i] for part, i in zip(PARTS, row, strict=True)] for row in case.plan.vocabulary.triplets]
    listed = {
        "triplet": [",".join(row) for row in words],
        **names,
        "phase": [f"phase {number}" for number in range(PHASES)],
    }
    return {label: {str(i): name for i, name in enumerate(row)} for label, row in listed.items()}


def vectors(case: SimulatedCase, frame: int) -> list[list[Any]]:
    """One vector of 15 for each triplet of a frame, or one that names none."""
    phase = int(case.script.phase_T[frame])
    happening = [(k, *case.plan.vocabulary.triplets[k]) for k in triplet_ids(case.script, frame)]
    return [
        [k, instrument, 1, *NO_BOX, verb, target, 1, *NO_BOX, phase]
        for k, instrument, verb, target in happening or [(NONE, NONE, NONE, NONE)]
    ]


IDS = {split: [name_of(number) for number in numbers] for split, numbers in RDV.items()}
VOCABULARY = plain_vocabulary(PHASES, PARTS["instrument"], PARTS["verb"], PARTS["target"], TRIPLETS)
LAYOUT = Layout("cholect50", SPECIALTY, FPS, plans_over_splits(IDS, VOCABULARY, SPECIALTY), write_case)
