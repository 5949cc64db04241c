"""An evaluation from a config and a checkpoint to its results, with its lock, its page and the record of the run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence

import jax

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.lock import workdir_lock
from surgmotion_jax.checkpoints.manifest import installed_versions
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.encoder.frozen import load_encoder
from surgmotion_jax.evaluate.folds import evaluate_protocol
from surgmotion_jax.evaluate.results import RUN_FILE, Results, read_results
from surgmotion_jax.evaluate.run import Say
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.pages.evaluation import write_page
from surgmotion_jax.runs.configuration import Named, read_config


def evaluate(
    config: EvaluateConfig | Named,
    *,
    checkpoint: storage.PathLike = "",
    root: storage.PathLike,
    workdir: storage.PathLike,
    features: storage.PathLike = "",
    probe: storage.PathLike = "",
    weights: str = "target",
    dtype: str = "",
    attention: str = "auto",
    overrides: Mapping[str, object] | None = None,
    say: Say = lambda text: None,
) -> Results:
    """Scores an encoder on a benchmark, or goes on where that was interrupted, and returns the results.

    Args:
      config: an `EvaluateConfig`, a ConfigDict, a config file, or the name of a shipped one: `evaluate/cholec80`.
      checkpoint: a pretraining workdir, converted weights, or `random:VARIANT[/PATCH][:SEED]`.
      root: the data set, or `tfds:FOLDER` where one was built.
      workdir: features, heads, results and the page go here.
      features: instead of a checkpoint: a folder of another encoder's features, a file a case.
      probe: the workdir of an evaluation whose chosen head is scored instead of training heads.
      weights: `target` (the moving average) or `online`.
      dtype: of the encoder, `bfloat16` or `float32`; empty: what the devices compute fastest.
      attention: of the encoder, `xla`, `cudnn`, `splash` or `fused`; `auto` takes whichever suits the devices.
      overrides: fields of the config by dotted name, e.g. `{"sweep.epochs": 2}`.
      say: told what is being done.

    Returns the content of `results.json`. Raises ValueError naming the field, file or folder that is wrong.
    """
    read = read_config(EvaluateConfig, config, overrides or {})
    source = open_source(os.fspath(checkpoint), os.fspath(features), weights, dtype, attention)
    say(describe(read, source))
    command = ("surgmotion_jax.evaluate(...)",)
    return evaluate_source(read, source, root, workdir, probe=os.fspath(probe), command=command, say=say)


def open_source(
    checkpoint: str, features: str = "", weights: str = "target", dtype: str = "", attention: str = "auto"
) -> Source:
    """The encoder on every device of this process, or the folder of features. Raises ValueError unless one is given."""
    if bool(checkpoint) == bool(features):
        raise ValueError("give either a checkpoint or a folder of features: one set of features is evaluated.")
    if features:
        return Source(features=features)
    # CPUs compute bfloat16 slower than float32.
    fastest = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return Source(load_encoder(checkpoint, weights=weights, dtype=dtype or fastest, attention=attention))


def evaluate_source(
    config: EvaluateConfig,
    source: Source,
    root: storage.PathLike,
    workdir: storage.PathLike,
    *,
    probe: str = "",
    command: Sequence[str] = (),
    say: Say = lambda text: None,
) -> Results:
    """Evaluates features of a source that is open. Holds the workdir meanwhile, and writes its page and `run.json`."""
    started = time.time()
    with workdir_lock(workdir):
        evaluate_protocol(config, source, os.fspath(root), workdir, probe=probe, say=say)
        write_run(workdir, command, os.fspath(root), source, started)
        write_page(workdir)
        return read_results(workdir)  # as a repeated evaluation returns them


def describe(config: EvaluateConfig, source: Source) -> str:
    """What is about to run."""
    data, who = config.data, source.identity
    name = f"encoder {who['name']} ({who['dtype']}, digest {who['digest'][:12]})" if source.encoder else str(who)
    tuned = f"fine-tuned: {config.finetune.blocks}; " if config.finetune.trains else ""
    return (
        f"{data.benchmark} ({data.protocol or 'first protocol'}), recipe {data.recipe}: {data.frames} frames at "
        f"{data.fps or 'spread'} fps, {data.size} px; head {config.probe.head}; {tuned}{name}"
    )


def write_run(workdir: storage.PathLike, command: Sequence[str], root: str, source: Source, started: float) -> None:
    """When and where this ran: what may differ between runs with equal results."""
    fields = {
        "command": list(command),
        "root": os.path.abspath(root),
        "checkpoint": source.encoder.origin.path if source.encoder else "",
        "started": started,
        "seconds": time.time() - started,
        "versions": installed_versions(),
    }
    storage.write_text_atomic(storage.as_path(workdir) / RUN_FILE, json.dumps(fields, indent=1) + "\n")
