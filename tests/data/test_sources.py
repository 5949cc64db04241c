"""Sources: what a path names, the cases it makes, and what a wrong one is told."""

import math
from pathlib import Path

import pytest
from PIL import Image

from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.sources import expand


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.new("RGB", (8, 8)).save(path)
        else:
            path.touch()


def _cases(path: Path | str) -> dict[str, str]:
    root = str(path)
    return {file.case: file.path for file in expand("d", SourceConfig(root))}


def test_folder_is_searched_in_natural_order(tmp_path: Path):
    _touch(tmp_path, "v10.mp4", "v9.MKV", "deep/er/x.mov", "w.webm", "u.avi", "notes.txt", ".hid.mp4", ".h/y.mp4")
    _touch(tmp_path, "frames/2.png", "frames/10.png", "thumbs/a.mp4", "thumbs/a.jpg")
    found = [str(Path(p).relative_to(tmp_path)) for p in _cases(tmp_path).values()]
    assert found == ["u.avi", "v9.MKV", "v10.mp4", "w.webm", "deep/er/x.mov", "frames", "thumbs/a.mp4"]


def test_case_is_the_stem_made_unique_by_folder_and_suffix(tmp_path: Path):
    _touch(tmp_path, "p1/op.mp4", "p2/op.mp4", "p3/other.mp4", "p4/same.mp4", "p4/same.avi")
    assert set(_cases(tmp_path)) == {"p1/op", "p2/op", "other", "p4/same.mp4", "p4/same.avi"}


def test_file_frame_folder_and_glob(tmp_path: Path):
    _touch(tmp_path, "a1.mp4", "a2.mp4", "b.mp4", "seq/1.jpg", "seq/2.jpg", "sub/a3.mp4")
    assert list(_cases(tmp_path / "b.mp4")) == ["b"]
    assert list(_cases(tmp_path / "seq")) == ["seq"]
    assert list(_cases(tmp_path / "a*.mp4")) == ["a1", "a2"]
    assert list(_cases(tmp_path / "**" / "a*.mp4")) == ["a1", "a2", "a3"]
    assert list(_cases(tmp_path / "s*")) == ["seq", "a3"]


def test_link_cycle_ends(tmp_path: Path):
    _touch(tmp_path, "a.mp4")
    (tmp_path / "again").symlink_to(tmp_path)
    assert list(_cases(tmp_path)) == ["a"]


def test_nothing_found_lists_what_was_looked_for(tmp_path: Path):
    _touch(tmp_path, "notes.txt")
    with pytest.raises(ValueError, match=r"source 'd': no readable video at .*: looked for \.mp4, .* and for a CSV"):
        _cases(tmp_path)
    with pytest.raises(ValueError, match=r"absent: it does not exist; looked for"):
        _cases(tmp_path / "absent")


def _table(root: Path, text: str) -> str:
    _touch(root, "v/a.mp4", "v/b.mp4", "empty/x.txt")
    (root / "t.csv").write_text(text)
    return str(root / "t.csv")


def test_csv_rows(tmp_path: Path):
    text = f"path, case,start,end\nv/a.mp4,p1,0,10\nv/a.mp4,p1,20.5,\n{tmp_path}/v/b.mp4,,,\n"
    files = expand("d", SourceConfig(_table(tmp_path, text), specialty="eye", folder_fps=2.0))
    assert [(Path(f.path).name, f.case, f.start_s, f.end_s) for f in files] == [
        ("a.mp4", "p1", 0.0, 10.0),
        ("a.mp4", "p1", 20.5, math.inf),
        ("b.mp4", "b", 0.0, math.inf),
    ]
    assert {(f.specialty, f.folder_fps, f.dataset) for f in files} == {("eye", 2.0, "d")}


def test_csv_segments_of_one_file_share_a_case_by_default(tmp_path: Path):
    files = expand("d", SourceConfig(_table(tmp_path, "path,start,end\nv/a.mp4,0,5\nv/a.mp4,5,9\n")))
    assert [f.case for f in files] == ["a", "a"]


def test_csv_specialty_overrides_the_source(tmp_path: Path):
    files = expand("d", SourceConfig(_table(tmp_path, "path,specialty\nv/a.mp4,eye\nv/b.mp4,eye\n")))
    assert {f.specialty for f in files} == {"eye"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,case\nv/a.mp4,x\n",
            r"t\.csv, line 1: found columns \['file', 'case'\], allowed are path and any",
        ),
        ("path\n", r"t\.csv: no readable video: the table has a header and no row"),
        ("path\nv/a.mp4\nv/c.mp4\n", r"t\.csv, line 3: .*c\.mp4 does not exist; relative paths start at"),
        ("path,case\n,x\n", r"line 2: found an empty path"),
        ("path,case\nv/a.mp4,x,y\n", r"line 2: found another number of fields"),
        ("path,case\nv/a.mp4\n", r"line 2: found another number of fields"),
        ("path\nempty\n", r"line 2: .*empty is a folder without images"),
        (
            "path,start,end\nv/a.mp4,5,3\n",
            r"line 2: found start '5' and end '3', allowed .* 0 <= start < end",
        ),
        ("path,start\nv/a.mp4,soon\n", r"line 2: found start 'soon'"),
        ("path,specialty\nv/a.mp4,eye\nv/b.mp4,ear\n", r"line 3: found specialty 'ear' after 'eye'"),
        ("path,start,end\nv/a.mp4,5,9\nv/a.mp4,0,6\n", r"line 2: .*a\.mp4 from 5 s overlaps .*line 3.* 6 s"),
    ],
)
def test_csv_errors_name_file_and_line(tmp_path: Path, text, message):
    with pytest.raises(ValueError, match=message):
        expand("d", SourceConfig(_table(tmp_path, text)))


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", r"t\.csv, line 1: found UTF-16 text, allowed is UTF-8; .*iconv -f UTF-16 -t UTF-8"),
        ("latin1", r"t\.csv, line 2: found byte 0xe4, which is not UTF-8, allowed is UTF-8; save it as such"),
    ],
)
def test_a_table_in_another_encoding_is_told_how_to_save_it(tmp_path: Path, encoding, message):
    (tmp_path / "t.csv").write_bytes("path\nv/\u00e4.mp4\n".encode(encoding))
    with pytest.raises(ValueError, match=message):
        expand("d", SourceConfig(str(tmp_path / "t.csv")))


def test_a_byte_order_mark_before_utf8_is_fine(tmp_path: Path):
    (tmp_path / "\u00e4.mp4").write_bytes(b"")
    (tmp_path / "t.csv").write_bytes("path\n\u00e4.mp4\n".encode("utf-8-sig"))
    assert [file.path for file in expand("d", SourceConfig(str(tmp_path / "t.csv")))] == [str(tmp_path / "\u00e4.mp4")]
