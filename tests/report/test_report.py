"""The page as a whole: it stands alone, survives whatever is missing, and is made of registered sections."""

import json
import pathlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from surgmotion_jax.report.build import build_report, render
from surgmotion_jax.report.html import Section, escape, within
from surgmotion_jax.report.run import load_run
from surgmotion_jax.report.sections import SECTIONS

MakeWorkdir = Callable[..., pathlib.Path]


class _Page(HTMLParser):
    """Tags with their attributes, and the visible text of each section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(text)
        assert self._open == [], "unclosed tags"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
            self.sections[self._section] = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another tag"
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        if self._section:
            self.sections[self._section] += data


def _read(path: Any) -> str:
    return pathlib.Path(path).read_text(encoding="utf-8")


def _write_metrics(workdir: pathlib.Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = workdir / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_whole_report(finished_workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = build_report(finished_workdir, tmp_path / "new" / "page.html")
    assert pathlib.Path(out) == tmp_path / "new" / "page.html"
    page = _Page(_read(out))
    titles = ["verdict", "run", "curves", "clips", "throughput", "config", "environment", "events"]
    assert list(page.sections) == titles
    assert "11.5\u00a0% below the best constant" in page.sections["verdict"]
    assert "7,512,448" in page.sections["run"]
    assert "affinity.weight" in page.sections["config"]
    assert "3 fields differ from their defaults" in page.sections["config"]
    assert "600 (default 60,000)" in page.sections["config"]
    assert "interrupted" in page.sections["events"]
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2 * 4 * 5  # clips, tubelets, rows


def test_page_refers_to_nothing_outside_itself(finished_workdir: pathlib.Path) -> None:
    text = render(load_run(finished_workdir))
    page = _Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                assert (value or "").startswith(("data:image/", "#")), (tag, name)
    assert not re.search(r"url\(|@import|https?:|//", re.sub(r'src="data:[^"]*"', "", text))
    assert "default-src 'none'" in text


def test_same_run_same_page(finished_workdir: pathlib.Path) -> None:
    assert render(load_run(finished_workdir)) == render(load_run(finished_workdir))


def test_a_section_is_one_function_and_one_entry(finished_workdir: pathlib.Path) -> None:
    def answer(run: Any) -> Section:
        return Section("The answer & more", f"<p>{escape(run.last_step)}</p>")

    page = _Page(render(load_run(finished_workdir), (*SECTIONS[:2], answer)))
    assert list(page.sections) == ["verdict", "run", "the-answer-more"]
    assert "240" in page.sections["the-answer-more"]


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("config.json", "config"),
        ("changes.json", "config"),
        ("environment.json", "environment"),
        ("summary.json", "run"),
        ("snapshot.npz", "clips"),
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe{", b"PK\x03\x04 cut short", b"[" * 100_000, b"[1]", b"{}"])
def test_missing_or_damaged_part_is_a_sentence(
    make_workdir: MakeWorkdir, name: str, section: str, content: bytes | None
) -> None:
    path = make_workdir(steps=40) / name
    path.unlink() if content is None else path.write_bytes(content)
    told = _Page(_read(build_report(path.parent))).sections[section]
    if content is None:
        assert f"{name} is not in the workdir" in told
    elif content == b"{}" and section != "clips":
        assert ("Every field has its default" if name == "changes.json" else "is empty") in told
    else:
        assert f"{name} cannot be used" in told
    assert "allow_pickle" not in told


def test_changes_that_are_no_pairs_are_not_trusted(make_workdir: MakeWorkdir) -> None:
    workdir = make_workdir(steps=40)
    (workdir / "changes.json").write_text('{"optim.lr": 0.1}')
    told = _Page(_read(build_report(workdir))).sections["config"]
    assert "'optim.lr' should be a default and a value, found 0.1" in told


def test_snapshot_cut_short_or_with_objects_is_not_trusted(make_workdir: MakeWorkdir) -> None:
    path = make_workdir(steps=40) / "snapshot.npz"
    whole = path.read_bytes()
    for share in (0.3, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "not a whole .npz file" in _Page(_read(build_report(path.parent))).sections["clips"]
    np.savez(path, video_BxTxHxWx3=np.array([{"a": 1}], object))
    assert "not a whole .npz file of plain arrays" in _Page(_read(build_report(path.parent))).sections["clips"]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("features_BxtxghxgwxD", np.zeros((2, 4, 3, 4, 8)), "features_BxtxghxgwxD was left out: its shape is"),
        ("saliency_Bxghxgw", None, "saliency_Bxghxgw was not saved"),
        ("fov_Bxghxgw", np.array(["a"]), "fov_Bxghxgw was left out"),
        ("video_BxTxHxWx3", np.zeros((2, 8, 64, 64)), "should be uint8 of shape (B, T, H, W, 3)"),
        ("patch", np.array(7), "patch 7 and tubelet 2 do not divide"),
        ("fps", np.array(0.0), "frame 0"),
        ("error_Bxtxghxgw", np.full((2, 4, 4, 4), np.nan), "Error"),
        ("features_BxtxghxgwxD", np.full((2, 4, 4, 4, 8), np.inf), "Features"),
        ("origin", np.array("one"), "Clip 2"),
    ],
)
def test_snapshot_field_that_does_not_fit(
    make_workdir: MakeWorkdir, field: str, value: np.ndarray | None, told: str
) -> None:
    path = make_workdir(steps=40) / "snapshot.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != field}
    np.savez(path, **arrays, **({} if value is None else {field: value}))
    assert told in _Page(_read(build_report(path.parent))).sections["clips"]


def test_metrics_empty_or_damaged(make_workdir: MakeWorkdir) -> None:
    path = make_workdir(steps=40) / "metrics.jsonl"
    for content, told in (("", "no held-out evaluation"), ("rubbish\n{}\n", "not a metrics record")):
        path.write_text(content)
        assert told in _Page(_read(build_report(path.parent))).sections["verdict"]
    path.write_text(json.dumps({"kind": "event", "step": 10**400, "text": "start"}) + "\n")
    assert "delete the line" in _Page(_read(build_report(path.parent))).sections["curves"]
    path.write_text(json.dumps({"kind": "train", "step": 3, "time": "soon", "metrics": [1], "text": None}) + "\n")
    assert "step 3" in _read(build_report(path.parent))


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_a_run(tmp_path: pathlib.Path, make: bool) -> None:
    folder = tmp_path / "empty"
    if make:
        folder.mkdir()
    with pytest.raises(ValueError, match=r"looked for metrics\.jsonl") as caught:
        build_report(folder)
    assert str(folder) in str(caught.value)
    assert ("holds no such file" if make else "no such folder") in str(caught.value)


def test_unwritable_place_leaves_everything_as_it_was(finished_workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    taken = tmp_path / "folder"
    taken.mkdir()
    with pytest.raises(ValueError, match=r"cannot be written.*choose another file"):
        build_report(finished_workdir, taken)
    assert list(tmp_path.iterdir()) == [taken]
    assert list(taken.iterdir()) == []


HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=\"alert('2')\">&\x00\ud800"


def test_hostile_strings_are_only_text(make_workdir: MakeWorkdir) -> None:
    workdir = make_workdir(steps=40).rename(make_workdir(steps=40).with_name("<script>&\"'"))
    for name in ("config", "environment", "summary"):
        (workdir / f"{name}.json").write_text(
            json.dumps({HOSTILE: HOSTILE, "group": {HOSTILE: [HOSTILE, {HOSTILE: 1}]}})
        )
    (workdir / "changes.json").write_text(json.dumps({HOSTILE: [HOSTILE, HOSTILE]}))
    _write_metrics(workdir, lambda record: record.update(text=f"{record.get('text', '')} {HOSTILE}"))
    with np.load(workdir / "snapshot.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(workdir / "snapshot.npz", **arrays | {"origin": np.array([HOSTILE.rstrip("\ud800")] * 2)})
    text = _read(build_report(workdir))
    page = _Page(text)
    assert not any(tag == "script" or "onerror" in attributes for tag, attributes in page.tags)
    assert all(part in page.sections for part in ("config", "environment", "run", "events", "clips"))
    for part in ("config", "environment", "run", "events", "clips"):
        assert "<script>alert(1)</script>" in page.sections[part], part
    assert "\x00" not in text


def test_page_stays_small_on_pictures_that_do_not_compress(make_workdir: MakeWorkdir) -> None:
    portrait_noise = np.random.default_rng(0).integers(0, 255, (5, 16, 480, 176, 3), dtype=np.uint8)
    text = _read(build_report(make_workdir(steps=6000, every=2, video=portrait_noise)))
    assert len(text.encode()) < 3_000_000
    assert "4 of 5 held-out clips" in text


def test_within_a_sentence() -> None:
    assert [within(name) for name in ("Target std", "RankMe of", "EMA x", "")] == [
        "target std",
        "RankMe of",
        "EMA x",
        "",
    ]
