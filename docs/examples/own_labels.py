"""A probe on labels of one's own: videos in a folder, and a table of which video shows what.

python docs/examples/own_labels.py FOLDER ENCODER WORKDIR

FOLDER holds labels.csv with the columns video, patient and label, and the videos in FOLDER/videos. Patients are drawn
into training, validation and test cases; no patient is in two of them.
"""

import sys
from pathlib import Path

import surgmotion_jax
from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import Benchmark, Contents
from surgmotion_jax.benchmarks.clips import clip_case
from surgmotion_jax.benchmarks.frames import video_file
from surgmotion_jax.benchmarks.splits import by_split, draw_order, split_table
from surgmotion_jax.benchmarks.tables import read_table
from surgmotion_jax.config import defaults
from surgmotion_jax.evaluate.config import EvaluateConfig


def read(root: Path, protocol: str) -> Contents:
    """The videos as cases; a fifth of the patients is for choosing a head, another fifth for testing it."""
    rows = read_table(root / "labels.csv", ("video", "patient", "label"))
    names = tuple(sorted({row.text("label") for row in rows}))
    patients = draw_order((row.text("patient") for row in rows), seed=0)
    fifth = max(1, len(patients) // 5)
    split_of = split_table(val=patients[:fifth], test=patients[fifth : 2 * fifth], train=patients[2 * fifth :])
    cases = []
    for row in rows:
        video = video_file(root / "videos" / row.name("video"))
        label = row.choice("label", names)
        cases.append(clip_case(video.path.stem, video, "label", label, row.file, row.text("patient")))
    return Contents("own_labels", protocol, {"label": names}, by_split(cases, split_of))


BENCHMARK = Benchmark("own_labels", "My labels", "action", "label", "labels.csv and videos/", ("patients",), read)


def main(folder: str, encoder: str, workdir: str) -> None:
    """Trains linear heads on frozen features and prints how the chosen one does on the test patients."""
    catalogue.BENCHMARKS["own_labels"] = __name__  # the module that defines BENCHMARK
    config = defaults(EvaluateConfig)
    config.data.benchmark, config.data.frames, config.data.size, config.probe.head = "own_labels", 8, 64, "linear"
    results = surgmotion_jax.evaluate(config, checkpoint=encoder, root=folder, workdir=workdir, say=print)
    for row in results["chosen"]["results"]:
        print(f"{row['metric']:<12}{row['value']:.3f}  {row['convention']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
