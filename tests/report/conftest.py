"""A made-up workdir of a plausible run: `python tests/report/conftest.py FOLDER` writes one to look at.

Letters: B clips, T frames, H, W pixels, t tubelets, gh, gw rows and columns of the patch grid, D features.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

PATCH, TUBELET, FEATURES = 16, 2, 24
START = 1_770_000_000.0


def write_workdir(
    workdir: pathlib.Path, steps: int = 240, every: int = 4, video: np.ndarray | None = None
) -> pathlib.Path:
    """Writes every part of a workdir; `video_BxTxHxWx3` may be real frames."""
    workdir.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record) for record in made_up_records(steps, every)]
    (workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    for name, value in (
        ("config", CONFIG),
        ("changes", CHANGES),
        ("environment", ENVIRONMENT),
        ("summary", SUMMARY),
    ):
        (workdir / f"{name}.json").write_text(json.dumps(value))
    np.savez_compressed(workdir / "snapshot.npz", **made_up_snapshot(video, steps))
    return workdir


def made_up_records(steps: int, every: int) -> list[dict[str, Any]]:
    """A run that learns, is interrupted half-way and resumed; its training loss falls, then rises."""
    random = np.random.default_rng(0)
    records = [_event(0, "start"), _heldout(0, steps)]
    for step in range(every, steps + 1, every):
        records.append(_train(step, steps, random))
        if step % (10 * every) == 0:
            records.append(_heldout(step, steps))
        if step == steps // 2:
            records.append(_event(step, "interrupted by SIGINT, state saved"))
            records.append(_event(step, "resume from the checkpoint of this step", pause=900.0))
    records.append(_event(steps, "finished", pause=900.0))
    return records


def _event(step: int, text: str, pause: float = 0.0) -> dict[str, Any]:
    return {"kind": "event", "step": step, "time": START + 0.9 * step + pause, "metrics": {}, "text": text}


def _train(step: int, steps: int, random: np.random.Generator) -> dict[str, Any]:
    done, noise = step / steps, random.normal(size=8)
    l1 = 0.42 + 0.38 * np.exp(-14 * done) + 0.07 * done + 0.012 * noise[0]
    motion, affinity = 1.25 * l1 + 0.02 * noise[1], 0.09 * np.exp(-3 * done) + 0.02 + 0.002 * noise[2]
    diversity = 0.5 * np.exp(-5 * done) + 0.21 + 0.004 * noise[3]
    warm = min(1.0, done / 0.2)
    metrics = {
        "loss/total": motion + 0.1 * affinity + 0.3 * diversity,
        "loss/motion": motion,
        "loss/affinity": affinity,
        "loss/diversity": diversity,
        "loss/l1": l1,
        "optim/lr": 5e-4 * warm * (0.5 + 0.5 * np.cos(np.pi * max(0.0, done - 0.2) / 0.8)),
        "optim/weight_decay": 0.04,
        "optim/grad_norm": float(np.exp(0.6 * np.exp(-5 * done) + 0.25 * noise[4])),
        "ema/momentum": 0.99 + 0.009 * done,
        "ema/distance": 0.03 * done * (1.2 - done),
        "gauge/prediction_std": 0.3 + 0.2 * done,
        "gauge/target_std": 0.5 + 0.2 * done,
        "gauge/active_dims": float(np.clip(0.2 + 0.7 * done + 0.02 * noise[5], 0, 1)),
        "time/step_s": 0.88 + 0.03 * abs(noise[6]),
        "time/data_wait_share": 0.02 + 0.015 * abs(noise[7]),
        "speed/clips_per_s": 16 / (0.88 + 0.03 * abs(noise[6])),
        "speed/mfu": 0.4 / (0.88 + 0.03 * abs(noise[6])),
        "memory/gb": 1.83,
    }
    pause = 900.0 if step > steps // 2 else 0.0
    return {"kind": "train", "step": step, "time": START + 0.9 * step + pause, "metrics": metrics}


def _heldout(step: int, steps: int) -> dict[str, Any]:
    done = step / steps
    constant = 0.5 + 0.14 * done
    metrics = {
        "heldout/loss": constant
        * (1.32 * np.exp(-12 * done) * (1 - done) + 1 - 0.115 * done**0.5 - np.exp(-12 * done)),
        "heldout/constant": constant,
        "heldout/shuffled": constant * (1.34 * np.exp(-12 * done) * (1 - done) + 1.03 - np.exp(-12 * done)),
        "gauge/rankme": 18 + 74 * np.exp(-4 * done),
        "gauge/lidar": 4 + 9 * done,
        "gauge/alignment": 0.4 - 0.2 * done,
        "gauge/uniformity": -1 - 2 * done,
        "gauge/prediction_std": 0.02 + 0.35 * done**0.4,
        "gauge/target_std": 0.62 + 0.1 * done,
        "gauge/context_target_cosine": 0.2 + 0.55 * (1 - np.exp(-5 * done)),
    }
    for name, lead in (("knn", 0.3), ("linear", 0.4), ("chance", 0.0)):
        metrics[f"probe/{name}"] = 0.4 + lead * done**0.5
        metrics[f"probe/{name}_balanced"] = 1 / 7 + lead * done**0.5
    pause = 900.0 if step > steps // 2 else 0.0
    return {"kind": "heldout", "step": step, "time": START + 0.9 * step + pause, "metrics": metrics}


def made_up_snapshot(video: np.ndarray | None, step: int) -> dict[str, Any]:
    """Clips with a round field of view, a moving bright disc, and features that follow colour and place."""
    video_BxTxHxWx3 = _moving_disc() if video is None else video
    clips, frames, height, width = video_BxTxHxWx3.shape[:4]
    gh, gw, t = height // PATCH, width // PATCH, frames // TUBELET
    random = np.random.default_rng(1)
    cells = video_BxTxHxWx3.reshape(clips, t, TUBELET, gh, PATCH, gw, PATCH, 3).astype(np.float32) / 255
    colour_Bxtxghxgwx3 = cells.mean(axis=(2, 4, 6))
    row_ghxgw, column_ghxgw = np.mgrid[:gh, :gw] / max(gh, gw) - 0.5
    fov_Bxghxgw = np.broadcast_to(row_ghxgw**2 + column_ghxgw**2 < 0.21, (clips, gh, gw))
    score_Bxghxgw = np.abs(np.diff(colour_Bxtxghxgwx3, axis=1)).mean(axis=(1, 4)) + cells.std(axis=(2, 4, 6)).mean(
        axis=(1, 4)
    )
    masked_Bxghxgw = random.random((clips, gh, gw)) < 0.75
    ranked_BxN = np.where(masked_Bxghxgw & fov_Bxghxgw, score_Bxghxgw, -1).reshape(clips, -1)
    top_BxN = ranked_BxN >= np.sort(ranked_BxN, axis=1)[:, -3:-2]
    place = np.broadcast_to(np.stack([row_ghxgw, column_ghxgw], -1), (clips, t, gh, gw, 2))
    mixed = np.concatenate([colour_Bxtxghxgwx3, 0.3 * place], -1) @ random.normal(size=(5, FEATURES))
    target_Bxtxghxgw = np.repeat(masked_Bxghxgw[:, None], t, axis=1)
    error = np.where(target_Bxtxghxgw, 0.3 + cells.std(axis=(2, 4, 6)).mean(-1), np.nan)
    return {
        "video_BxTxHxWx3": video_BxTxHxWx3,
        "saliency_Bxghxgw": score_Bxghxgw,
        "fov_Bxghxgw": fov_Bxghxgw,
        "top_Bxghxgw": top_BxN.reshape(clips, gh, gw),
        "target_Bxtxghxgw": target_Bxtxghxgw,
        "features_BxtxghxgwxD": mixed.astype(np.float16),
        "error_Bxtxghxgw": error.astype(np.float32),
        "patch": PATCH,
        "tubelet": TUBELET,
        "fps": 5.0,
        "step": step,
        "origin": np.array([f"videos/case_{clip:02d}.mp4 at {3.2 + clip:.1f} s" for clip in range(clips)]),
    }


def _moving_disc(clips: int = 2, frames: int = 8, size: int = 64) -> np.ndarray:
    row, column = np.mgrid[:size, :size]
    video_BxTxHxWx3 = np.zeros((clips, frames, size, size, 3), np.uint8)
    for clip in range(clips):
        for frame in range(frames):
            ground = 90 + 60 * np.sin(row / 7 + clip) * np.cos(column / 9)
            disc = (row - 30) ** 2 + (column - 15 - 4 * frame) ** 2 < 70
            grey = np.where(disc, 235, ground)
            video_BxTxHxWx3[clip, frame] = np.stack([grey, 0.6 * grey, 0.5 * grey], -1)
    return video_BxTxHxWx3


CHANGES = {"steps": [60_000, 600], "loss.motion.alpha": [1.0, 2.0], "data.sources.own.path": [None, "videos"]}
CONFIG = {
    "seed": 0,
    "steps": 600,
    "model": {
        "variant": "vit_tiny",
        "patch": PATCH,
        "tubelet": TUBELET,
        "rope": {"kind": "3d", "theta": 10000.0},
    },
    "loss": {
        "motion": {"scope": "dense", "alpha": 2.0},
        "affinity": {"weight": 0.1, "tau": 0.1, "max_tokens": None},
    },
    "mask": {"kind": "tube", "ratios": [0.75, 0.8, 0.85, 0.9, 0.95]},
    "optim": {"lr": 5e-4, "warmup_steps": 120, "weight_decay": 0.04, "betas": [0.9, 0.999], "clip": 1.0},
    "data": {
        "sources": ["videos/*.mp4"],
        "fps": 5.0,
        "frames": 16,
        "crop": 128,
        "short": "pad",
        "workers": 2,
    },
}
ENVIRONMENT = {
    "python": "3.11.11",
    "jax": "0.10.2",
    "flax": "0.12.8",
    "optax": "0.2.8",
    "devices": "1 x cpu",
    "host_cores": 2,
    "platform": "Linux x86_64",
    "date": "2026-02-02 02:40:00 UTC",
    "command": "python -m surgmotion_jax pretrain --config configs/pretrain/tiny.py --workdir runs/first-light",
}
SUMMARY = {
    "model": "vit_tiny, 128 px, 16 frames",
    "parameters": 7_512_448,
    "effective_batch": 16,
    "steps": 600,
    "learning_rate": 5e-4,
    "tokens_per_clip": 512,
    "memory_estimate": "1.9 GB of 8 GB",
    "training_clips": "4 videos, 71 clips",
    "held_out_clips": 8,
}


@pytest.fixture(scope="session")
def finished_workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A complete workdir; not to be written to."""
    return write_workdir(tmp_path_factory.mktemp("runs") / "first-light")


@pytest.fixture
def make_workdir(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """`make_workdir(**options)`: a complete workdir of one's own, to damage."""
    return lambda **options: write_workdir(tmp_path / "run", **options)


if __name__ == "__main__":
    print(write_workdir(pathlib.Path(sys.argv[1]), steps=600, every=2))
