"""The pretraining command with V-JEPA 2.1's model, images beside the clips: resuming, and what is said of images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.commands.runs import losses, state

VJEPA21 = (
    "--config.model.positions=rope",
    "--config.model.depth=2",
    "--config.model.v21.levels=2",
    "--config.model.v21.rope_grid=16",
    "--config.model.v21.modality=True",
    "--config.model.v21.context_projection=True",
    "--config.loss.context.weight=0.5",
    "--config.loss.context.rise=(2, 6)",
    "--config.images.batch=8",
    "--config.images.canvas=(40,40)",
)


@pytest.fixture
def pictures(tmp_path):
    """Images of several sizes in two folders."""
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(64, 48), (48, 80), (50, 50), (41, 200)]):
        folder = tmp_path / "images" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
        Image.fromarray(coarse[:height, :width].astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.slow
def test_stop_and_resume_is_bit_equal_with_images_beside_the_clips(run, pictures, tmp_path, capsys):
    flags = (*VJEPA21, f"--config.images.path={pictures}")
    assert run(tmp_path / "whole", *flags) == 0
    assert run(tmp_path / "parts", *flags, "--config.run.stop_at_step=5") == 0
    assert run(tmp_path / "parts", *flags) == 0
    for name in ("loss/total", "loss/images", "image/context", "gauge/context_share"):
        assert losses(tmp_path / "parts", name=name) == losses(tmp_path / "whole", name=name)
    shares = losses(tmp_path / "whole", name="gauge/context_share")
    assert [shares[step] for step in (1, 3, 5, 7, 10)] == [0, 0, 0.5, 1, 1]
    whole, resumed = state(tmp_path / "whole"), state(tmp_path / "parts")
    for path, leaf in whole.items():
        np.testing.assert_array_equal(resumed[path], leaf, err_msg=path)
    said = capsys.readouterr().out
    assert "8 a step, 32 x 32 px" in said
    assert "images images  2 folders or files, 100 % of draws, 0 unreadable" in said
    assert "images" in json.loads((tmp_path / "whole" / "summary.json").read_text())


def test_images_are_frames_of_the_videos_unless_they_have_a_place_of_their_own(prepare, pictures, tmp_path):
    _, found = prepare(tmp_path / "frames", *VJEPA21)
    assert found.images.catalogue is found.dataset.catalogue
    _, found = prepare(tmp_path / "own", *VJEPA21, f"--config.images.path={pictures}")
    assert {video.file.path for video in found.images.catalogue.videos} == {str(pictures / name) for name in "01"}
    assert found.images.clip(0).video_TxHxWx3.shape == (1, 40, 40, 3)
    _, found = prepare(tmp_path / "none")
    assert found.images is None
