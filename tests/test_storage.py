"""Laws of the filesystem seam."""

import hashlib
import json
import os
import re
import zipfile

import pytest

from surgmotion_jax import storage


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    storage.write_text_atomic(path, "old")
    storage.write_text_atomic(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert os.listdir(path.parent) == ["file.txt"]


def test_failed_atomic_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    storage.write_bytes_atomic(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_draft_takes_its_place_when_the_block_ends_well(tmp_path):
    with storage.Draft(tmp_path / "deep" / "folder") as folder:
        folder.mkdir()
        (folder / "a").write_text("whole")
        assert os.listdir(tmp_path / "deep") == [folder.name], "nothing is at the place before"
    assert (tmp_path / "deep" / "folder" / "a").read_text() == "whole"
    with storage.Draft(tmp_path / "clip.mp4", ".mp4") as file:
        assert file.suffix == ".mp4"
        file.write_text("video")
    assert sorted(os.listdir(tmp_path)) == ["clip.mp4", "deep"]


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_text("new")])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_draft_that_is_left_by_an_error_vanishes(make, error, tmp_path):
    def interrupted(place):
        with storage.Draft(place) as temporary:
            make(temporary)
            raise error

    place = tmp_path / "place"
    place.write_text("old")
    with pytest.raises(error):
        interrupted(place)
    assert place.read_text() == "old"
    assert os.listdir(tmp_path) == ["place"]


def test_a_draft_replaces_no_folder_that_holds_something(tmp_path):
    (tmp_path / "place" / "kept").mkdir(parents=True)
    with pytest.raises(OSError, match="place"), storage.Draft(tmp_path / "place") as folder:
        folder.mkdir()
    assert os.listdir(tmp_path / "place") == ["kept"]
    assert os.listdir(tmp_path) == ["place"]


def test_append_line_adds_lines_and_refuses_newlines(tmp_path):
    path = tmp_path / "lines"
    storage.append_line(path, "a")
    storage.append_line(path, "b")
    assert path.read_text() == "a\nb\n"
    with pytest.raises(ValueError, match="append each alone"):
        storage.append_line(path, "a\nb")


def test_read_json_names_file_and_line(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": [1, None]}))
    assert storage.read_json(path) == {"a": [1, None]}
    path.write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(ValueError, match=re.escape(f"{path}:2:6: not valid JSON")):
        storage.read_json(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="not UTF-8"):
        storage.read_json(path)


def test_ensure_writable_makes_the_directory_and_leaves_no_probe(tmp_path):
    path = storage.ensure_writable(tmp_path / "a" / "b")
    assert path.is_dir()
    assert not list(path.iterdir())


def test_unwritable_directory_names_path_reason_and_remedy(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a directory")
    with pytest.raises(storage.NotWritable, match=rf"{blocker}/run.*Not a directory.*choose another"):
        storage.ensure_writable(blocker / "run")
    assert issubclass(storage.NotWritable, ValueError)


def test_only_urls_are_remote():
    assert storage.is_local("/a/b")
    assert storage.is_local("a:b")
    assert not storage.is_local("gs://bucket/run")


def test_a_url_that_cannot_be_reached_says_what_to_install():
    with pytest.raises(ValueError, match="nowhere:// cannot be reached from here: .*; or use a local path or mount"):
        storage.as_path("nowhere://bucket/run")


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 2000
    (tmp_path / "file").write_bytes(content)
    assert storage.sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_an_archive_that_would_swell_is_refused_from_its_directory(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sound.npy", bytes(1_000_000))
    storage.check_inflation(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.npy", bytes(60_000_000))
    with pytest.raises(ValueError, match=r"member 'bomb\.npy' would grow from \d+ to 60000000 bytes, .*bomb"):
        storage.check_inflation(path)
