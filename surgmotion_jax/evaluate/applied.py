"""A finished evaluation as a function: windows of video in, a share for each class out.

  classifier = load_classifier("runs/phases")
  share_BxC = classifier(video_BxTxSxSx3)

The encoder is the one that was evaluated, the head the one that was chosen. Letters: B windows, T frames of a window, S
side of the square, C classes, K moments.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames
from surgmotion_jax.benchmarks.windows import window_times
from surgmotion_jax.evaluate.claim import chosen_head, saved_head
from surgmotion_jax.evaluate.config import FROZEN, CacheConfig, DataConfig, EvaluateConfig, ProbeSettings, trained_part
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder, load_encoder
from surgmotion_jax.evaluate.encoder.weights import RANDOM
from surgmotion_jax.evaluate.features.cache import Encoding, computed_with
from surgmotion_jax.evaluate.features.windows_of_cases import Position, WindowBatch, padded
from surgmotion_jax.evaluate.heads.of_tasks import head_for, wanted_features
from surgmotion_jax.evaluate.heads.predictors import HeadPredictor
from surgmotion_jax.evaluate.heads.targets import classification
from surgmotion_jax.evaluate.results import CONFIG_FILE, RUN_FILE, Results, read_results
from surgmotion_jax.evaluate.tasks.action import ActionTask
from surgmotion_jax.evaluate.tasks.families import task_of_results
from surgmotion_jax.evaluate.tasks.workflow import WorkflowTask
from surgmotion_jax.models.attention import AUTO
from surgmotion_jax.parallel.mesh import OneDevice

HEADS = ("attentive", "linear")


@dataclass(frozen=True, eq=False)
class Classifier:
    """An encoder and the head that an evaluation chose on it."""

    classes: tuple[str, ...]  # [C]
    data: DataConfig  # how windows are made
    key: str  # equal where encoder, head and windows are
    encoding: Encoding
    predictor: HeadPredictor

    def __call__(self, video_BxTxSxSx3: np.ndarray) -> np.ndarray:
        """Shares of the classes, float32 [B,C], of uint8 windows. Every call of up to a batch is one program."""
        batch, parts = self.encoding.cache.batch, []
        for start in range(0, len(video_BxTxSxSx3), batch):
            windows = video_BxTxSxSx3[start : start + batch]
            positions = tuple(Position(0, row) for row in range(len(windows)))
            rows = computed_with(self.encoding(WindowBatch(padded(windows, batch), positions)))
            parts.append(self.predictor(padded(rows, batch))[0, : len(windows)])
        return np.concatenate(parts)

    def times(self, moment_K: np.ndarray) -> np.ndarray:
        """When the frames of the windows that end at these moments are on display, seconds [K,T], none before 0."""
        case = Case("", "", ImageFrames(()), np.asarray(moment_K, np.float64))
        return np.stack([window_times(case, time, self.data.frames, self.data.fps or None)[0] for time in case.times_N])


def load_classifier(
    workdir: storage.PathLike, *, checkpoint: storage.PathLike = "", devices: Sequence[jax.Device] | None = None
) -> Classifier:
    """The encoder and the chosen head of a finished evaluation.

    Args:
      workdir: of an evaluation of one split whose family is workflow or action, with an attentive or linear head on a
        frozen encoder.
      checkpoint: the encoder; empty: where it was when it was evaluated.
      devices: where to run; default is every device of this process.

    Raises ValueError for another kind of evaluation, an encoder that is not the one that was evaluated, or a file that
    is missing or damaged.
    """
    path = storage.as_path(workdir)
    saved, results, config = saved_head(str(path)), read_results(path), _config(path)
    classes = _classes(str(path), results, config)
    encoder = _encoder(path, results, checkpoint, devices)
    choice, chosen = chosen_head(path)
    wanted = wanted_features(config, encoder.config.encoder.depth)
    encoding = Encoding(encoder, wanted, config.data, config.cache)
    objective = classification(np.arange(len(classes)), classes, "none")
    head = head_for(config, objective, encoding.shape, layout=OneDevice(encoder.layout))
    predictor = HeadPredictor(head, objective, chosen, [choice.name])
    key = hashlib.sha256(repr((saved["sha256"], choice.number, encoder.origin.digest, config.data)).encode())
    return Classifier(classes, config.data, key.hexdigest()[:16], encoding, predictor)


def _config(path: epath.Path) -> EvaluateConfig:
    fields = storage.read_json(path / CONFIG_FILE)["config"]
    if trained_part(fields) != FROZEN:
        raise ValueError(f"{path}: its encoder was trained with the head; name an evaluation with finetune.blocks=none")
    cache = CacheConfig(**fields["cache"])
    probe = {**_tuples(fields["probe"]), "attention": AUTO}  # these devices need not be those of the evaluation
    return EvaluateConfig(DataConfig(**fields["data"]), ProbeSettings(**probe), cache=cache)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _classes(where: str, results: Results, config: EvaluateConfig) -> tuple[str, ...]:
    task = task_of_results(results)
    if not isinstance(task, WorkflowTask | ActionTask) or config.probe.head not in HEADS:
        raise ValueError(
            f"{where}: a head of kind {config.probe.head} for {results['family']}; name an evaluation whose family is "
            f"workflow or action, with probe.head {' or '.join(HEADS)}"
        )
    if config.data.recipe != "ours":
        raise ValueError(f"{where}: its windows are those of recipe {config.data.recipe}; evaluate with recipe ours")
    return task.classes


def _encoder(
    path: epath.Path, results: Results, checkpoint: storage.PathLike, devices: Sequence[jax.Device] | None
) -> FrozenEncoder:
    """The encoder of the results. Raises ValueError where another one is found, or none."""
    identity = results["encoder"]
    if "digest" not in identity:
        raise ValueError(f"{path}: its features are those of another encoder, which is not here to be run")
    # A fold's run is told in the folder above it.
    told = next((folder / RUN_FILE for folder in (path, path.parent) if (folder / RUN_FILE).exists()), None)
    place = os.fspath(checkpoint) or (storage.read_json(told).get("checkpoint", "") if told else "")
    if not place or not (place.startswith(RANDOM) or storage.as_path(place).exists()):
        raise ValueError(f"{path}: its encoder {identity['name']} is not at {place or '(not told)'}; say where")
    (name,) = identity["weights"]
    encoder = load_encoder(place, weights=name, dtype=identity["dtype"], devices=devices)
    if encoder.origin.digest != identity["digest"]:
        raise ValueError(
            f"{place}: has the digest {encoder.origin.digest[:12]}, the encoder that {path} evaluated "
            f"{identity['digest'][:12]}; name that encoder"
        )
    return encoder
