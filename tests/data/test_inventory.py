"""A line for each file: what was found in it, what is done about it, or why it is left out."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig
from surgmotion_jax.data.inventory import inventory
from tests.data.recordings import Storage, painted, write


def test_every_file_has_a_line(tmp_path: Path):
    pictures = [painted(number) for number in range(40)]
    write(tmp_path / "plain.mp4", pictures)
    write(tmp_path / "wide.mkv", pictures, Storage(pixel_aspect=Fraction(64, 45)))
    (tmp_path / "joined.ts").write_bytes(write(tmp_path / "single.ts", pictures).read_bytes() * 2)
    shutil.copy(tmp_path / "plain.mp4", tmp_path / "zcopy.mp4")
    (tmp_path / "zbad.mp4").write_bytes(b"no video" * 50)
    config = DataConfig({"d": SourceConfig(str(tmp_path))}, frames=2, canvas=(32, 32), bad_budget=0.5)
    lines = {Path(line["path"]).name: line for line in inventory(ClipDataset(config, 0).catalogue)}
    assert json.loads(json.dumps(lines)), "every value is plain"
    assert list(lines) == ["joined.ts", "plain.mp4", "single.ts", "wide.mkv", "zbad.mp4", "zcopy.mp4"]
    assert lines["plain.mp4"]["findings"] == []
    (finding,) = lines["wide.mkv"]["findings"]
    assert finding["found"] == "pixels of 64:45"
    assert lines["wide.mkv"]["width"] == 182
    assert len(lines["joined.ts"]["segments"]) == len(lines["joined.ts"]["findings"]) == 2
    assert "cannot be decoded" in lines["zbad.mp4"]["left_out"]
    assert "the same video as" in lines["zcopy.mp4"]["left_out"]
