"""The headroom of a data set whose classes are plain to see, and of one whose labels nothing shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.evaluate.config import DataConfig
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.runs import headroom as running
from surgmotion_jax.runs.headroom import Study, Subject, headroom, pixel_features
from tests.evaluate.encoders import small_encoder
from tests.evaluate.test_own_frames import CASES, FRAMES, own

SMALL = {
    "data.frames": 2,
    "data.size": 16,
    "probe.head": "linear",
    "sweep.learning_rates": (3e-2,),
    "sweep.weight_decays": (0.01,),
    "sweep.epochs": 4,
    "sweep.batch": 16,
    "sweep.strategy": "loop",
    "report.resamples": 10,
    "finetune.remat": "none",
}


def test_every_anchor_has_a_folder_and_a_repeated_call_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "open_source", lambda checkpoint: Source(small_encoder()))
    root = own(tmp_path / "set", "above,below", lambda up, low: f"{up},{low}")
    subject, study, said = Subject("evaluate/own_frames", str(root)), Study(overrides=SMALL), []
    (task,) = headroom([subject], study, tmp_path / "run", said.append)
    assert task.name == "own_frames mAP"
    assert task.points["chance"] == 50
    assert task.points["pixels"] > 90
    assert all(isinstance(task.points[anchor], float) for anchor in ("random", "tuned"))
    place = tmp_path / "run" / "own_frames"
    assert {path.name for path in place.iterdir()} == {"chance", "pixels", "pixel_features", "random", "tuned"}
    written = json.loads((tmp_path / "run" / "headroom.json").read_text())
    assert written["tasks"][0]["points"] == dict(task.points)
    assert written["tasks"][0]["failure"] == task.failure
    again: list[str] = []
    assert headroom([subject], study, tmp_path / "run", again.append) == [task]
    assert sum(text == "this evaluation is finished" for text in again) == 4 * (len(CASES) + 1)  # folds, and all


def test_masks_have_an_anchor_of_pixels_too(tmp_path, monkeypatch):
    """The upper half is the object where it is bright."""
    monkeypatch.setattr(running, "open_source", lambda checkpoint: Source(small_encoder()))
    root = own(tmp_path / "set", "mask", lambda up, low: f"{up}.png")
    for up in (0, 1):
        white = np.repeat(np.array([[255 * up], [0]], np.uint8), 8, axis=0).repeat(16, axis=1)
        Image.fromarray(white).save(root / f"{up}.png")
    head = {"probe.head": "patch_linear", "probe.layers": (1,), "data.frames": 1, "data.protocol": "third_1"}
    study = Study(overrides=SMALL | head | {"sweep.epochs": 30})
    (task,) = headroom([Subject("evaluate/own_frames", str(root))], study, tmp_path / "run", lambda text: None)
    assert task.name == "own_frames dice"
    assert task.points["pixels"] == pytest.approx(100 * 2 / 3, abs=0.1), "what brightness without a place can tell"
    assert all(isinstance(task.points[anchor], float) for anchor in ("random", "tuned"))


def test_pixels_are_the_last_frame_in_small(tmp_path):
    root = own(tmp_path / "set", "label", lambda up, low: "ab"[up])
    data = DataConfig("own_frames", protocol="loco", frames=2, size=64)
    folder = pixel_features(data, str(root), tmp_path / "features")
    with np.load(folder / f"{CASES[0]}.npz") as arrays:
        assert arrays["features"].shape == (FRAMES, 16 * 16 * 3)
        assert arrays["time"].tolist() == list(range(FRAMES))
        upper_N = arrays["features"].reshape(FRAMES, 16, 16, 3)[:, :8].mean((1, 2, 3))
    np.testing.assert_array_equal(upper_N > 0.5, np.arange(FRAMES) % 2)
    folder = pixel_features(data, str(root), tmp_path / "patches", patches=True)
    with np.load(folder / f"{CASES[0]}.npz") as arrays:
        upper_N = arrays["features"].reshape(FRAMES, 8, 8, 2, 2, 3)[:, :4].mean((1, 2, 3, 4, 5))
    np.testing.assert_array_equal(upper_N > 0.5, np.arange(FRAMES) % 2)
