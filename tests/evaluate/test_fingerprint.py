"""A change of what heads learn from is seen, one of the test labels is not looked for, and saved heads stay at home."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames
from surgmotion_jax.evaluate.claim import claim
from surgmotion_jax.evaluate.cohort import read_cohort
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.encoder.weights import Origin
from surgmotion_jax.evaluate.fingerprint import case_digests, check_probe, fingerprint
from surgmotion_jax.evaluate.run import evaluate
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from tests.evaluate.encoders import CONFIG, small_encoder
from tests.evaluate.evaluations import SMALL, changed, cholec80, read, relabel

NEAREST = changed(SMALL, probe={"head": "knn"})  # nothing to compile
WRONG = "GallbladderRetraction"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return cholec80(tmp_path_factory.mktemp("set") / "set", seconds=4.0)


@pytest.fixture
def other(root, tmp_path):
    """A copy of the set, to be changed."""
    return shutil.copytree(root, tmp_path / "other")


@pytest.fixture
def case(tmp_path) -> Case:
    """Two moments with everything that a case can have."""
    paths = [tmp_path / f"{kind}{n}.png" for kind in ("frame", "mask", "depth") for n in range(2)]
    for path in paths:
        path.write_bytes(b"1")
    labels = {"phase": np.array([0, 1]), "grs": np.array([10.0, 12.0])}
    frames, masks, depths = (tuple(paths[n : n + 2]) for n in (0, 2, 4))
    return Case("video01", "one", ImageFrames(frames), np.array([0.0, 1.0]), labels, masks, depths)


def what_changed(one: Case, other: Case) -> set[str]:
    before, after = case_digests(one), case_digests(other)
    return {name for name in before if before[name] != after.get(name)}


def test_each_part_of_a_case_has_a_digest_of_its_own(case):
    def so(**fields):
        return dataclasses.replace(case, **fields)

    relabelled = {**case.labels, "phase": np.array([0, 2])}
    turned = dict(reversed(case.labels.items()))
    assert set(case_digests(case)) == {"frames", "labels", "masks", "depths"}
    assert set(case_digests(so(labels={}, masks=(), depths=()))) == {"frames"}
    assert what_changed(case, so(labels=turned)) == set()
    assert what_changed(case, so(labels=relabelled)) == {"labels"}
    assert what_changed(case, so(labels={"phase": case.labels["phase"]})) == {"labels"}
    assert what_changed(case, so(labels={**case.labels, "phase": np.array([0.0, 1.0])})) == {"labels"}
    assert what_changed(case, so(times_N=np.array([0.0, 2.0]))) == {"frames"}
    assert what_changed(case, so(masks=case.masks[::-1])) == {"masks"}
    assert what_changed(case, so(depth_scale=2.0)) == {"depths"}


@pytest.mark.parametrize("kind", ["masks", "depths"])
def test_a_file_of_another_size_is_seen_wherever_it_lies(case, tmp_path, kind):
    before = case_digests(case)
    (tmp_path / "moved").mkdir()
    moved = tuple(Path(shutil.copy(path, tmp_path / "moved")) for path in getattr(case, kind))
    assert case_digests(dataclasses.replace(case, **{kind: moved})) == before
    moved[1].write_bytes(b"22")
    assert what_changed(case, dataclasses.replace(case, **{kind: moved})) == {kind}


def test_another_label_to_learn_or_choose_by_is_refused(root, tmp_path):
    source, run = Source(small_encoder()), tmp_path / "run"
    evaluate(NEAREST, source, str(root), run)
    before = (run / "results.json").read_bytes()
    for name, split in (("video02", "train"), ("video01", "val")):
        other = shutil.copytree(root, tmp_path / name)
        relabel(other, name, WRONG)
        wanted = rf"another evaluation:\n  evaluation.data.{split}.{name}.labels: '\w+' in the folder, '\w+' requested"
        with pytest.raises(ValueError, match=wanted):
            evaluate(NEAREST, source, str(other), run)
        (run / "results.json").unlink(missing_ok=True)  # as if it had been interrupted
        with pytest.raises(ValueError, match=wanted):
            evaluate(NEAREST, source, str(other), run)
    evaluate(NEAREST, source, str(root), run)
    assert (run / "results.json").read_bytes() == before


def test_test_labels_are_no_part_of_it(root, other):
    before = fingerprint(read_cohort(SMALL.data, str(root)))
    assert (list(before["train"]), list(before["val"])) == (["video02", "video04"], ["video01"])
    relabel(other, "video41", WRONG)
    assert fingerprint(read_cohort(SMALL.data, str(other))) == before
    relabel(other, "video02", WRONG)
    assert fingerprint(read_cohort(SMALL.data, str(other))) != before


def test_a_part_of_the_training_cases_is_another_fingerprint(root):
    whole = fingerprint(read_cohort(SMALL.data, str(root)))
    half = fingerprint(read_cohort(dataclasses.replace(SMALL.data, fraction=0.5), str(root)))
    assert half["train"].items() < whole["train"].items()
    assert half["val"] == whole["val"]


def described(root, folder, config=SMALL, digest="a"):
    """`config.json` of an evaluation that has not begun, and its fields."""
    layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1]))
    source = Source(FrozenEncoder(CONFIG, {}, Origin(f"run-{digest}", ("target",), 0, digest), layout))
    claim(folder, config, source, "official", "", fingerprint(read_cohort(config.data, str(root))))
    return read(folder / "config.json")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("data.size", {"data": {"size": 32}}),
        ("data.frames", {"data": {"frames": 4}}),
        ("data.fps", {"data": {"fps": 2.0}}),
        ("data.resize", {"data": {"resize": "squash"}}),
        ("data.recipe", {"data": {"recipe": "released"}}),
        ("data.train_windows", {"data": {"train_windows": 3}}),
        ("cases.train.video04", {"data": {"fraction": 0.5}}),
        ("probe.head", {"probe": {"head": "attentive"}}),
        ("probe.heads", {"probe": {"heads": 6}}),
        ("probe.layers", {"probe": {"layers": (1,)}}),
        ("encoder.digest", {}),
    ],
)
def test_a_head_made_for_something_else_is_refused(root, tmp_path, field, change):
    described(root, tmp_path / "there")
    here = described(root, tmp_path / "here", changed(SMALL, **change), "a" if change else "b")
    match = rf"there/config.json: the head was made for other features or cases:\n  head.{field}: "
    with pytest.raises(ValueError, match=match) as refused:
        check_probe(tmp_path / "there", here)
    assert str(refused.value).count(" requested") == 1  # nothing else is blamed


def test_a_head_may_be_scored_with_another_report_elsewhere(root, other, tmp_path):
    described(root, tmp_path / "there")
    relabel(other, "video42", WRONG)
    here = changed(
        SMALL,
        sweep={"epochs": 9},
        report={"resamples": 7},
        cache={"kind": "none"},
        probe={"neighbours": (3,), "remat": "none"},
    )
    check_probe(tmp_path / "there", described(other, tmp_path / "here", here))


def test_a_head_of_other_cases_is_refused(root, other, tmp_path):
    described(root, tmp_path / "there")
    relabel(other, "video04", WRONG)
    with pytest.raises(ValueError, match=r"(?s)head.cases.train.video04.labels: .*train heads here without --probe"):
        check_probe(tmp_path / "there", described(other, tmp_path / "here"))


def test_a_folder_without_the_settings_of_an_evaluation_is_refused(root, tmp_path):
    here = described(root, tmp_path / "here")
    with pytest.raises(ValueError, match=r"nothing/config.json: no such file; --probe names the workdir of a finished"):
        check_probe(tmp_path / "nothing", here)
    (tmp_path / "config.json").write_text(json.dumps({name: here[name] for name in here if name != "data"}))
    with pytest.raises(ValueError, match=r"config.json: not the settings of an evaluation \(KeyError\('data'\)\)"):
        check_probe(tmp_path, here)
