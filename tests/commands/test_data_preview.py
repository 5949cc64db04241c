"""The preview: the clips are a run's own, no top tube touches the black border, and the picture is there."""

from __future__ import annotations

import errno

import av
import numpy as np
import pytest
from PIL import Image

from surgmotion_jax import storage
from surgmotion_jax.__main__ import main
from surgmotion_jax.commands import data_preview
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.data import ClipDataset
from surgmotion_jax.pages.clip_drawings import TOP_COLOUR
from surgmotion_jax.pages.clips import Shown, describe, training_clips

SIZE = 160
SMALL = (
    "--config=pretrain/tiny",
    "--config.model.depth=1",
    "--config.data.frames=4",
    "--config.data.canvas=(128,128)",
    "--config.augment.crop=112",
    "--config.augment.scale=(0.8,1.0)",
    "--config.mask.ratios=(0.9,)",
    "--config.optim.batch=4",
)


@pytest.fixture(scope="module")
def endoscopy(tmp_path_factory):
    """A bright, faintly moving round view in a black frame: contrast is highest at its border."""
    path = tmp_path_factory.mktemp("endoscopy") / "round.mp4"
    rng = np.random.default_rng(0)
    texture = rng.integers(150, 175, (SIZE // 4, SIZE // 4, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    row, column = np.indices((SIZE, SIZE)) - SIZE / 2
    view = (row**2 + column**2 < (0.46 * SIZE) ** 2)[..., None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for t in range(75):
            image = np.where(view, np.roll(texture, t, axis=1), np.uint8(0))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def clips(endoscopy):
    """The clips that a preview with these flags shows."""

    def shown(count, *flags):
        return list(training_clips(pretrain_config([*SMALL, *flags], str(endoscopy)), count))

    return shown


BLACK = 40  # the view is brighter than 100, its rim a blend of the two


def blackest(clip):
    """The darkest pixel of the top tubes, each pixel at its brightest frame: near 0 if a tube holds border."""
    bright_HxW = clip.frame_TxHxWx3.max(axis=(0, 3))
    side = len(bright_HxW) // clip.top_uxghxgw.shape[1]
    cells = [
        bright_HxW[r * side : (r + 1) * side, c * side : (c + 1) * side] for _, r, c in np.argwhere(clip.top_uxghxgw)
    ]
    assert cells, "a clip without a top tube shows nothing"
    return min(cell.min() for cell in cells)


def test_no_top_tube_touches_the_border(clips):
    without = clips(4, "--config.saliency.fov=none")
    assert all(blackest(clip) < BLACK for clip in without), "the border must attract, or the test below is empty"
    shown = clips(4)
    assert all(blackest(clip) > BLACK for clip in shown)
    assert all(0.2 < clip.inside_ghxgw.mean() < 0.9 for clip in shown)
    assert all((clip.masked_txghxgw | ~clip.top_uxghxgw).all() for clip in shown), "I_h is chosen among masked tubes"


def test_the_clips_are_those_of_the_run_in_its_order(clips, endoscopy):
    shown = clips(6, "--config.mask.ratios=(0.5,0.9)")
    config = pretrain_config(SMALL, str(endoscopy))
    dataset = ClipDataset(config.data, config.seed)
    assert [clip.origin for clip in shown] == [dataset.clip(i).origin for i in range(6)]
    assert [clip.program for clip in shown[:4]] == [shown[0].program] * 4, "a step has one mask program"
    for few, many in zip(clips(2, "--config.mask.ratios=(0.5,0.9)"), shown[:2], strict=True):
        assert few.origin == many.origin
        np.testing.assert_array_equal(few.masked_txghxgw, many.masked_txghxgw)
        np.testing.assert_array_equal(few.frame_TxHxWx3, many.frame_TxHxWx3)


def test_a_picture_and_a_line_for_each_clip(endoscopy, tmp_path, capsys):
    heights = []
    for count in (1, 3):
        out = tmp_path / "new" / f"{count}.png"
        assert main(["data", "preview", *SMALL, f"--data={endoscopy}", f"--out={out}", f"--clips={count}"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in lines[:-1]] == [["clip", str(i + 1)] for i in range(count)]
        assert all("data/round@" in line and "% of tubes in the field of view" in line for line in lines[:-1])
        assert all("top tubes (row, column) score: (" in line for line in lines[:-1])
        assert lines[-1] == f"preview: {out}"
        assert out.read_bytes().startswith(b"\x89PNG\r\n")
        picture = np.asarray(Image.open(out))
        heights.append(len(picture))
        assert (picture == TOP_COLOUR).all(-1).sum() > 1000 * count
    assert heights[1] > 2 * heights[0]


def test_tubelets_and_mask_sets_are_drawn_too(endoscopy, tmp_path, capsys):
    flags = ("--config.saliency.unit=tubelet", "--config.mask.kind=multiblock")
    out = tmp_path / "preview.png"
    assert data_preview.main([*SMALL, *flags, f"--data={endoscopy}", f"--out={out}", "--clips=1"]) == 0
    assert "multiblock" in capsys.readouterr().out
    assert out.exists()


def test_scores_are_listed_highest_first_and_repeated_frames_counted():
    top = np.zeros((2, 2, 3), bool)
    top[0, 0, 1] = top[1, 1, 2] = True
    score = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    inside = np.ones((2, 3), bool)
    frames, valid = np.zeros((4, 32, 48, 3), np.uint8), np.array([True, True, False, False])
    shown = Shown("a/b@0.000", "tube 0.9", frames, valid, inside, score, top, top)
    line = describe(1, shown)
    assert "2 repeated frames" in line
    assert line.endswith("top tubes (time, row, column) score: (1, 1, 2) 11.000, (0, 0, 1) 1.000")
    column = shown._replace(valid_T=~np.zeros(4, bool), score_uxghxgw=score[:1], top_uxghxgw=top[:1])
    assert describe(1, column).endswith("top tubes (row, column) score: (0, 1) 1.000")
    assert "repeated" not in describe(1, column)
    assert describe(1, column._replace(top_uxghxgw=top[:1] & False)).endswith("score: none")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data=/nowhere/at/all"], r"/nowhere/at/all: it does not exist"),
        (
            ["--out=preview.jpg"],
            r"--out is 'preview\.jpg'; it must name the picture to write, e\.g\. --out=preview\.png",
        ),
        (["--clips=0"], r"--clips is 0; it must be at least 1"),
        (["--clips=many"], r"--clips is 'many'; it must be a whole number"),
        (["--clip=2"], r"unknown argument '--clip=2'"),
        (["--config.mask.ratios=(0.999,)"], r"mask\.ratios: a share of 0\.999 of 49 tubes"),
        (["--config.saliency.knd=none"], r"knd"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_refused_and_nothing_written(endoscopy, tmp_path, flags, message):
    given = {flag.split("=")[0] for flag in flags}
    base = [a for a in (*SMALL, f"--data={endoscopy}", f"--out={tmp_path / 'p.png'}") if a.split("=")[0] not in given]
    with pytest.raises(ValueError, match=message):
        data_preview.main([*base, *flags])
    assert not (tmp_path / "p.png").exists()


def test_missing_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"--out is missing; give --out=FILE\.png, the picture"):
        data_preview.main(["--data=x"])
    with pytest.raises(ValueError, match=r"the config names no videos; give --data=PATH"):
        data_preview.main([f"--out={tmp_path / 'p.png'}"])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        data_preview.main(["--data=x", f"--out={tmp_path / 'file' / 'p.png'}"])


def test_a_full_disk_is_one_line(endoscopy, tmp_path, monkeypatch, capsys):
    out = tmp_path / "p.png"

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(storage, "write_bytes_atomic", full)
    assert main(["data", "preview", *SMALL, f"--data={endoscopy}", f"--out={out}", "--clips=1"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == f"surgmotion: {out}: No space left on device; make room, then repeat the command"
