"""`surgmotion data build`: what it writes is what the reader reads, and a wrong command line is told so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.tfds_contents import read_contents
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.commands import data_build


@pytest.fixture
def hamlyn(tmp_path: Path) -> Path:
    """Three sequences of two images."""
    root = tmp_path / "hamlyn"
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        for part in ("image01", "depth01"):
            (root / f"rectified0{number}" / part).mkdir(parents=True)
        for k in range(2):
            folder = root / f"rectified0{number}"
            Image.fromarray(rng.integers(0, 256, (8, 12, 3), np.uint8)).save(folder / "image01" / f"{k:010d}.jpg")
            Image.fromarray(rng.integers(1, 200, (8, 12), np.uint16)).save(folder / "depth01" / f"{k:010d}.png")
    (root / "splits.csv").write_text("sequence,split\nrectified01,train\nrectified02,val\nrectified03,test\n")
    return root


def test_the_printed_location_is_the_data_set(hamlyn: Path, tmp_path: Path, capsys):
    argv = ["--benchmark=hamlyn", f"--root={hamlyn}", f"--out={tmp_path / 'out'}"]
    assert data_build.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "train  1 cases in 1 records",
        "val    1 cases in 1 records",
        "test   1 cases in 1 records",
        f"built: tfds:{tmp_path / 'out' / 'hamlyn' / '1.0.0'}",
    ]
    benchmark = catalogue.get("hamlyn")
    files, stored = (read_contents(benchmark, root, "table") for root in (hamlyn, lines[-1].removeprefix("built: ")))
    for split in ("train", "val", "test"):
        a, b = (ClipReader(2).sample(contents.cases[split][0], 1.0) for contents in (files, stored))
        assert np.array_equal(a.video_TxHxWx3, b.video_TxHxWx3)
        assert np.array_equal(a.depth_TxHxW, b.depth_TxHxW, equal_nan=True)
    with pytest.raises(ValueError, match=r"exists already; remove it, or choose another --out"):
        data_build.main(argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], r"--benchmark is missing"),
        (["--benchmark=hamlyn"], r"--root is missing"),
        (["--benchmark=hamlyn", "--root=x"], r"--out is missing"),
        (["--benchmark=hamln", "--root=x", "--out=y"], r"unknown benchmark 'hamln'; .* Did you mean 'hamlyn'"),
        (["--benchmark=hamlyn", "--root=x", "--out=y", "--protocol=z"], r"hamlyn has no protocol 'z'"),
        (["--benchmark=hamlyn", "--root=x", "--out=y", "--fps=-1"], r"fps is -1"),
        (["--benchmark=hamlyn", "--root=x", "--out=y", "--quality=101"], r"quality is 101"),
        (["--benchmark=hamlyn", "--root=x", "--out=y", "--size=0"], r"--size is 0"),
        (["--benchmark=hamlyn", "--root=x", "--out=y", "--fps=fast"], r"--fps is 'fast'; it must be a number"),
        (["--rot=x"], r"unknown argument '--rot=x'; see surgmotion data build --help"),
    ],
)
def test_a_wrong_command_line_is_told(argv, message):
    with pytest.raises(ValueError, match=message):
        data_build.main(argv)


def test_help_names_every_flag(capsys):
    assert data_build.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(
        flag in text for flag in ("--benchmark", "--root", "--out", "--protocol", "--fps", "--size", "--quality")
    )
