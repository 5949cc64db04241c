"""`surgmotion extract` from outside: flags, exit codes, what it prints."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.commands import extract
from surgmotion_jax.evaluate.features.files import read_features

FLAGS = ("--checkpoint=random:vit_nano", "--size=32", "--frames=2", "--fps=5", "--batch=2")


def test_a_folder_with_one_bad_file(videos, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "case0.mp4").symlink_to(videos / "case0.mp4")
    (folder / "bad.mp4").write_bytes(b"no video" * 100)
    arguments = [str(folder), f"--out={tmp_path / 'out'}", *FLAGS, "--overlap=0.5", "--layers=3,1", "--pca"]
    assert extract.main(arguments) == extract.SOME_UNREADABLE
    told = capsys.readouterr()
    assert "windows of 2 frames at 5 fps, 0.4 s, every 0.2 s; 32 px letterbox; tokens 1 x 2 x 2" in told.out
    assert "1 written, 0 finished before" in told.out
    assert "window 11/11  case0  ETA 0 s" in told.out
    assert f"unreadable: {folder / 'bad.mp4'}: cannot be decoded" in told.err
    found = read_features(tmp_path / "out" / "case0.npz")
    np.testing.assert_allclose(found.start_s, 0.2 * np.arange(11))  # 2.4 s
    assert found.features.shape == found.layers[1].shape == found.layers[3].shape == (11, 192)
    assert (tmp_path / "out" / "case0.pca.mp4").exists()
    (folder / "bad.mp4").unlink()
    assert extract.main(arguments) == 0
    assert "0 written, 1 finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--stride=1", "--overlap=0.5"], "both given"),
        (["--pool=max"], "pool is 'max'"),
        (["--size=33"], "33 x 33 pixels"),
        (["--batch=0"], "batch is 0"),
        (["--pca", "--pca-seconds=0"], "--pca-seconds is 0"),
        (["--folder-fps=0"], "folder_fps: found 0"),
    ],
)
def test_flags_that_do_not_fit_are_refused(videos, tmp_path, flags, match):
    with pytest.raises(ValueError, match=match):
        extract.main([str(videos), f"--out={tmp_path / 'out'}", *FLAGS, *flags])


def test_layers_are_numbers(videos, tmp_path):
    with pytest.raises(ValueError, match="--layers is 'last'; it must be a list of block numbers such as 5,11"):
        extract.main([str(videos), f"--out={tmp_path}", *FLAGS, "--layers=last"])


def test_a_source_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no readable video at .*nothing"):
        extract.main([str(tmp_path / "nothing"), f"--out={tmp_path}", *FLAGS])
