"""Evaluations small enough to repeat many times: three kinds of case of 8 s each, an encoder of two narrow blocks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from surgmotion_jax.evaluate.config import (
    CacheConfig,
    DataConfig,
    EvaluateConfig,
    ProbeSettings,
    ReportConfig,
    SweepConfig,
)
from tests.benchmarks.simulated import make

SMALL = EvaluateConfig(
    DataConfig(benchmark="cholec80", frames=2, size=16),
    ProbeSettings(head="linear", depth=1, heads=3, width=8),
    SweepConfig((3e-2, 1e-2), (0.01,), epochs=2, batch=8, strategy="vmap", save_every=1),
    CacheConfig(batch=8),
    ReportConfig(resamples=20),
)


def changed(config: EvaluateConfig, **sections: dict) -> EvaluateConfig:
    """The config with fields of its sections replaced."""
    made = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    return dataclasses.replace(config, **made)


def cholec80(root: Path, cases: int = 6, seconds: float = 8.0) -> Path:
    """Two training, one validation and three test videos (of 6)."""
    return make("cholec80", root, cases, seconds, fps=3)


def relabel(root: Path, name: str, wrong: str) -> None:
    """Every frame of a video gets the phase `wrong`."""
    path = root / "phase_annotations" / f"{name}-phase.txt"
    header, *rows = path.read_text().splitlines()
    changed_rows = [f"{row.partition(chr(9))[0]}\t{wrong}" for row in rows]
    path.write_text("\n".join([header, *changed_rows]) + "\n")


def read(path: Path) -> dict:
    return json.loads(path.read_text())
