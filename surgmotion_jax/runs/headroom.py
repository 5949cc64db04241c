"""The headroom of data sets: four evaluations of each, whose results say whether it can tell encoders apart."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange

from surgmotion_jax import storage
from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.cohort import read_cohort
from surgmotion_jax.evaluate.config import DataConfig, EvaluateConfig
from surgmotion_jax.evaluate.features.files import to_npz
from surgmotion_jax.evaluate.features.windows_of_cases import WindowReader
from surgmotion_jax.evaluate.headroom import CEILING, Task, tasks_of
from surgmotion_jax.evaluate.results import Results
from surgmotion_jax.evaluate.run import Say
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.evaluate.tasks.families import DENSE
from surgmotion_jax.runs.configuration import read_config
from surgmotion_jax.runs.evaluation import evaluate_source, open_source

HEADROOM_FILE = "headroom.json"
PIXELS = 16  # rows and columns of the pictures that a linear head reads


@dataclass(frozen=True)
class Subject:
    """A data set under the config of its evaluation."""

    config: str  # name of a shipped config or a file
    root: str


@dataclass(frozen=True)
class Study:
    """What the anchors have in common."""

    checkpoint: str = "random:vit_nano"  # the architecture, with random weights
    rates: tuple[float, ...] = (1e-3,)  # learning rates of the head end to end; one is chosen on validation cases
    decays: tuple[float, ...] = (0.05,)  # weight decays end to end
    epochs: int = 0  # end to end; 0: those of the config
    overrides: Mapping[str, object] = dataclasses.field(default_factory=dict)  # of every evaluation's config


def headroom(subjects: Sequence[Subject], study: Study, workdir: storage.PathLike, say: Say) -> list[Task]:
    """Evaluates the anchors of every data set, each in a folder of its own, and writes `headroom.json`.

    A repeated call goes on where an earlier one was interrupted. Raises ValueError as an evaluation does.
    """
    path = storage.as_path(workdir) / HEADROOM_FILE
    seconds: dict[str, float] = storage.read_json(path)["seconds"] if path.exists() else {}
    source, tasks = open_source(study.checkpoint), list[Task]()
    for subject in subjects:
        started = time.time()
        config = read_config(EvaluateConfig, subject.config, study.overrides)
        place = storage.as_path(workdir) / config.data.benchmark
        tasks += tasks_of(_anchors(config, source, subject, study, place, say))
        spent = seconds.get(config.data.benchmark, 0.0) + time.time() - started  # of all calls
        seconds[config.data.benchmark] = round(spent, 1)
    rows = [{"task": t.name, "points": dict(t.points), "ceiling": CEILING, "failure": t.failure} for t in tasks]
    text = json.dumps({"encoder": source.identity, "tasks": rows, "seconds": seconds}, indent=1)
    storage.write_text_atomic(path, text + "\n")
    return tasks


def _anchors(
    config: EvaluateConfig, source: Source, subject: Subject, study: Study, place: storage.PathLike, say: Say
) -> dict[str, Results]:
    """Results by anchor. The head on pixels is linear, for masks and depth in those of a patch."""
    path, root = storage.as_path(place), subject.root

    def evaluated(anchor: str, made: EvaluateConfig, read: Source) -> Results:
        say(f"{config.data.benchmark}: {anchor}")
        return evaluate_source(made, read, root, path / anchor, say=say)

    found = {"chance": evaluated("chance", with_head(config, "constant"), source)}
    dense = found["chance"]["family"] in DENSE
    folder = pixel_features(config.data, root, Path(path) / "pixel_features", patches=dense)
    on_pixels = with_head(config, "patch_linear" if dense else "linear", normed=False)  # brightness counts
    found["pixels"] = evaluated("pixels", on_pixels, Source(features=str(folder)))
    found[RANDOM] = evaluated(RANDOM, config, source)
    found[TUNED] = evaluated(TUNED, end_to_end(config, study), source)
    return found


def with_head(config: EvaluateConfig, head: str, *, normed: bool = True) -> EvaluateConfig:
    """The config with another head."""
    return dataclasses.replace(config, probe=dataclasses.replace(config.probe, head=head, normed=normed))


def end_to_end(config: EvaluateConfig, study: Study) -> EvaluateConfig:
    """The config with the whole encoder trained."""
    epochs = study.epochs or config.sweep.epochs
    sweep = dataclasses.replace(config.sweep, learning_rates=study.rates, weight_decays=study.decays, epochs=epochs)
    return dataclasses.replace(config, sweep=sweep, finetune=dataclasses.replace(config.finetune, blocks="full"))


def pixel_features(data: DataConfig, root: str, folder: Path, *, patches: bool = False) -> Path:
    """A folder with a file a case: the last frame of each window as 16 x 16 pixels in [0, 1].

    A vector a moment; with `patches` a grid of 8 x 8 patches, each with its 2 x 2 pixels.
    """
    small = WindowReader(dataclasses.replace(data, frames=1, size=PIXELS))
    for case in _cases(data, root):
        path = folder / f"{case.id}.npz"
        if not path.exists():
            last_NxSxSx3 = np.stack([window[-1] for window in small.case_windows(case)]).astype(np.float32) / 255
            arrays = {"features": in_patches(last_NxSxSx3) if patches else flat(last_NxSxSx3), "time": case.times_N}
            storage.write_bytes_atomic(path, to_npz(arrays))
    return folder


def flat(picture_NxSxSx3: np.ndarray) -> np.ndarray:
    """[N,D]."""
    return picture_NxSxSx3.reshape(len(picture_NxSxSx3), -1)


def in_patches(picture_NxSxSx3: np.ndarray) -> np.ndarray:
    """[N,h,w,12]: patches of 2 x 2 pixels."""
    return rearrange(picture_NxSxSx3, "N (h a) (w b) C -> N h w (a b C)", a=2, b=2)


def _cases(data: DataConfig, root: str) -> list[Case]:
    """Every case of all folds that the protocol pools, once."""
    pooled = catalogue.get(data.benchmark, root).pooled.get(data.protocol, (data.protocol,))
    cohorts = [read_cohort(dataclasses.replace(data, protocol=member), root) for member in pooled]
    return list({case.id: case for cohort in cohorts for case in cohort.cases}.values())
