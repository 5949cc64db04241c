"""The commands of a corpus: a benchmark's list, a store without its videos, and a run that is looked over."""

from __future__ import annotations

import json
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from surgmotion_jax import storage
from surgmotion_jax.__main__ import main
from surgmotion_jax.commands.data_leaks import LEAKED
from surgmotion_jax.corpus.declared import declared
from surgmotion_jax.corpus.publish import publish
from surgmotion_jax.data import SourceConfig
from surgmotion_jax.data.sources import sources_at
from tests.corpus.scenes import letterboxed, scene, write_file
from tests.corpus.stores import files

FPS, SIZE = 8.0, (64, 80)
SMALL = ("--size=64", "--shard-mb=0.1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two data sets, of which one holds the test video of a benchmark, and the benchmark."""
    root = tmp_path_factory.mktemp("world")
    videos = {seed: scene(seed, 16, FPS, SIZE) for seed in range(3)}
    write_file(root / "knee/a.mp4", videos[0], FPS)
    write_file(root / "hip/b.mp4", videos[1], FPS)
    write_file(root / "hip/tested.mkv", letterboxed(videos[2], 16), FPS)
    for split, seed in (("train", 1), ("test", 2)):
        write_file(root / f"polyp/videos/{split}{seed}.mp4", videos[seed], FPS)
    (root / "polyp/splits").mkdir()
    (root / "polyp/splits/train.txt").write_text("train1.mp4,0\n")
    (root / "polyp/splits/val.txt").write_text("test2.mp4,1\n")
    (root / "t.csv").write_text("dataset,path,specialty,licence\nknee,knee,knee,CC BY 4.0\nhip,hip,hip,\n")
    return root


@pytest.fixture(scope="module")
def listing(world):
    """The list of the benchmark's test videos, by the command."""
    path = world / "lists" / "polypdiag.json"
    code = main(["data", "fingerprint", "--benchmark=polypdiag", f"--root={world / 'polyp'}", f"--out={path}"])
    assert code == 0
    return path


@pytest.fixture(scope="module")
def store(world, listing):
    """A store without it, by the command."""
    out = world / "store"
    assert main(["data", "ingest", str(world / "t.csv"), f"--out={out}", f"--exclude={listing}", *SMALL]) == 0
    return out


def test_a_list_holds_the_videos_of_the_splits_that_are_asked_for(world, listing, capsys):
    (video,) = json.loads(listing.read_text())["videos"]
    assert (video["dataset"], video["split"], len(video["seconds"])) == ("polypdiag", "test", 16)
    argv = ["data", "fingerprint", "--benchmark=polypdiag", f"--root={world / 'polyp'}", f"--out={world / 'x.json'}"]
    assert main([*argv, "--splits=nowhere"]) == 2
    assert "--splits: polypdiag has no case in nowhere" in capsys.readouterr().err


def test_what_is_tested_is_left_out_and_reported(store):
    page = (store / "report.html").read_text()
    assert "dataset hip, video tested, 00:00 to 00:16: is polypdiag test" in page
    assert "CC BY 4.0" in page
    assert "not declared" in page
    assert "data:image" not in page
    cases = json.loads((store / "manifest.json").read_text())["cases"]
    assert [case["case"] for case in cases] == ["a", "b"]


def test_leaks_are_found_in_videos_and_none_in_the_store(world, store, listing, capsys):
    assert main(["data", "leaks", f"--data={world / 'hip'}", f"--lists={listing}"]) == LEAKED
    assert "dataset data, video tested, 00:00 to 00:16: is polypdiag test" in capsys.readouterr().out
    assert main(["data", "leaks", f"--data=records:{store}", f"--lists={listing}"]) == 0
    assert "0 stretches of 2 videos" in capsys.readouterr().out


def test_a_store_is_as_many_sources_as_it_holds_data_sets(store):
    assert {name: source.specialty for name, source in sources_at(f"records:{store}").items()} == {
        "knee": "knee",
        "hip": "hip",
    }
    assert list(sources_at(f"records:{store}#hip")) == ["hip"]
    assert sources_at("videos") == {"data": SourceConfig("videos")}
    assert main(["doctor", f"--data=records:{store}"]) == 0


def test_a_finished_store_and_a_request_for_nothing_are_refused(world, store, capsys):
    assert main(["data", "ingest", str(world / "knee"), f"--out={store}"]) == 2
    assert "holds a finished store" in capsys.readouterr().err
    assert main(["data", "ingest", f"--out={world / 'other'}"]) == 2
    assert "name what to ingest" in capsys.readouterr().err
    assert main(["data", "ingest", "x", f"--out={world / 'other'}", "--beam=--x"]) == 2
    assert "give --runner" in capsys.readouterr().err
    assert main(["data", "ingest", "x", f"--out={world / 'other'}", "--keep-classes=inside"]) == 2
    assert "name its evaluation by --keep" in capsys.readouterr().err


def test_pictures_of_cases_and_of_what_a_list_names_are_shown_where_they_are_asked_for(world, listing):
    out, asked = world / "shown", ["--pictures", f"--exclude={listing}"]
    assert main(["data", "ingest", str(world / "t.csv"), f"--out={out}", *asked, *SMALL]) == 0
    page = (out / "report.html").read_text()
    assert page.count("data:image") == 3
    assert page.count('title="dataset hip, video tested, 00:00 to 00:16: is polypdiag test') == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dataset,colour\na,b\n", r"t.csv: found the columns \['dataset', 'colour'\]"),
        ("dataset,path,folder_fps\na,b,0\n", "t.csv, line 2: .*folder_fps"),
        ("dataset,path\na,b\na,c\n", "a second source named 'a'"),
        ("dataset,path\n,b\n", "t.csv, line 2: the dataset is empty"),
    ],
)
def test_a_table_of_sources_that_is_none_is_refused(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=told):
        declared([str(tmp_path / "t.csv")])


def test_a_table_in_another_encoding_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "t.csv").write_text("dataset,path\na,b\n", encoding="utf-16")
    with pytest.raises(ValueError, match="t.csv, line 1: found UTF-16 text, .*iconv -f UTF-16"):
        declared([str(tmp_path / "t.csv")])


def test_sources_are_named_by_their_paths_unless_they_are_named(tmp_path):
    (tmp_path / "list.csv").write_text("path\na.mp4\n")
    assert list(declared(["videos/knee", "other=videos/knee", str(tmp_path / "list.csv")])) == ["knee", "other", "list"]
    with pytest.raises(ValueError, match="cannot be read as a table"):
        declared([str(tmp_path / "none.csv")])


class Bucket(MemoryFileSystem):
    """A bucket in memory, under the address of a cloud's; `broken` names a file that arrives otherwise than sent."""

    protocol = "s3"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    broken: ClassVar[str] = ""

    def _open(self, path, mode="rb", **more):
        if self.broken and self.broken in path and "w" in mode:
            raise OSError("connection reset")
        return super()._open(path, mode, **more)


@pytest.fixture
def bucket(monkeypatch):
    fsspec.register_implementation("s3", Bucket, clobber=True)
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "broken", "")
    return Bucket


def test_a_store_goes_to_a_bucket_with_its_manifest_last(world, tmp_path, bucket, monkeypatch, capsys):
    argv = ["data", "ingest", str(world / "t.csv"), "--out=s3://bucket/store", f"--work={tmp_path / 'work'}", *SMALL]
    bucket.broken = "report"
    assert main(argv) != 0
    assert not any("manifest" in path for path in bucket.store)
    bucket.broken = ""
    assert main(argv) == 0
    assert "holds a finished store, which is copied" in capsys.readouterr().out
    there = {path.removeprefix("s3://bucket/store/"): file.getvalue() for path, file in bucket.store.items()}
    assert there == files(tmp_path / "work")
    assert list(there)[-1] == "manifest.json"
    assert main(argv) == 0  # nothing left to do
    other = [*argv[:-3], f"--work={tmp_path / 'other'}", *SMALL, "--quality=80"]
    assert main(other) == 2
    assert "s3://bucket/store: holds a finished store" in capsys.readouterr().err


def test_what_does_not_arrive_as_it_was_sent_is_no_store(store, bucket, monkeypatch):
    monkeypatch.setattr(storage, "copy", lambda source, target: storage.write_bytes_atomic(target, b"cut short"))
    with pytest.raises(OSError, match="arrived with SHA-256"):
        publish(store, "s3://bucket/cut")
    assert not any("manifest" in path for path in bucket.store)


def test_a_bucket_needs_a_folder_of_work_and_a_disk_none(world, tmp_path, capsys):
    assert main(["data", "ingest", str(world / "t.csv"), "--out=gs://bucket/store"]) == 2
    assert "--out=gs://bucket/store: a store in a bucket is made in a local folder" in capsys.readouterr().err
    assert main(["data", "ingest", str(world / "t.csv"), f"--out={tmp_path / 'a'}", f"--work={tmp_path / 'b'}"]) == 2
    assert "without --work" in capsys.readouterr().err
