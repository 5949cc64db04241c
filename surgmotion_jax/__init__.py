"""Video representation learning for surgery by latent motion prediction, in JAX.

import surgmotion_jax
run = surgmotion_jax.pretrain("pretrain/tiny", "runs/tiny", data="videos")  # see surgmotion_jax/runs/pretraining.py
encoder = surgmotion_jax.load_encoder(run.workdir)  # see surgmotion_jax/evaluate/encoder/frozen.py
tokens_BxtxhxwxD = encoder(video_BxTxHxWx3)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from surgmotion_jax.evaluate.applied import load_classifier
    from surgmotion_jax.evaluate.config import EvaluateConfig
    from surgmotion_jax.evaluate.encoder.frozen import load_encoder, load_pretraining
    from surgmotion_jax.pretrain.config import PretrainConfig
    from surgmotion_jax.runs.configuration import Named
    from surgmotion_jax.runs.ending import Ending
    from surgmotion_jax.runs.evaluation import Results
    from surgmotion_jax.storage import PathLike

for _package in ("pretrain", "evaluate"):  # bound here before the functions of the same names, which take their places
    importlib.import_module(f"{__name__}.{_package}")

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load_classifier", "load_encoder", "load_pretraining", "pretrain"]

_LAZY = {
    "load_classifier": "surgmotion_jax.evaluate.applied",
    "load_encoder": "surgmotion_jax.evaluate.encoder.frozen",
    "load_pretraining": "surgmotion_jax.evaluate.encoder.frozen",
}


def pretrain(
    config: PretrainConfig | Named,
    workdir: PathLike,
    *,
    data: str = "",
    overrides: Mapping[str, object] | None = None,
    stream: TextIO | None = None,
) -> Ending:
    """Trains an encoder in `workdir`, or goes on with the run that lies there, and returns how that ended.

    Args:
      config: a `PretrainConfig`, a ConfigDict, a config file, or the name of a shipped one such as `pretrain/tiny`.
      workdir: a new folder, or that of the same run; local or `gs://...`. Checkpoints, metrics and pictures go there.
      data: a video, folder, glob or CSV; short for the config's `data.sources`.
      overrides: fields of the config by dotted name, e.g. `{"optim.batch": 16}`.
      stream: where the banner and the progress are written; standard output by default.

    Raises ValueError naming the field or file that is wrong, before anything is compiled.
    """
    from surgmotion_jax.runs.pretraining import pretrain as run  # imports JAX, which `surgmotion --help` does not need

    return run(config, workdir, data=data, overrides=overrides, stream=stream)


def evaluate(
    config: EvaluateConfig | Named,
    *,
    checkpoint: PathLike = "",
    root: PathLike,
    workdir: PathLike,
    features: PathLike = "",
    probe: PathLike = "",
    overrides: Mapping[str, object] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Results:
    """Scores a frozen encoder on a benchmark, or goes on where that was interrupted, and returns the results.

    Args:
      config: an `EvaluateConfig`, a ConfigDict, a config file, or the name of a shipped one: `evaluate/cholec80`.
      checkpoint: a pretraining workdir, converted weights, or `random:VARIANT[/PATCH][:SEED]`.
      root: the data set, or `tfds:FOLDER` where one was built.
      workdir: features, heads, results and the page go here.
      features: instead of a checkpoint: a folder of another encoder's features, a file a case.
      probe: the workdir of an evaluation whose chosen head is scored instead of training heads.
      overrides: fields of the config by dotted name, e.g. `{"sweep.epochs": 2}`.
      say: told what is being done.

    Returns the content of `results.json`. Raises ValueError naming the field, file or folder that is wrong.
    """
    from surgmotion_jax.runs.evaluation import evaluate as run  # imports JAX, as in `pretrain`

    return run(
        config,
        checkpoint=checkpoint,
        root=root,
        workdir=workdir,
        features=features,
        probe=probe,
        overrides=overrides,
        say=say,
    )


def __getattr__(name: str) -> object:
    """Imports a public function when it is first asked for, so that `surgmotion --help` loads no JAX."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
