"""A whole evaluation: interrupted anywhere it ends the same, and test labels have no part in the choice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import types

import jax
import numpy as np
import pytest

from surgmotion_jax.evaluate import run as running
from surgmotion_jax.evaluate.cohort import drawn, read_cohort, read_test_cases
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.encoder.weights import Origin
from surgmotion_jax.evaluate.features.cache import ComputedFeatures, Encoding, Wanted
from surgmotion_jax.evaluate.features.external import ExternalFeatures
from surgmotion_jax.evaluate.features.files import to_npz
from surgmotion_jax.evaluate.features.windows_of_cases import in_order
from surgmotion_jax.evaluate.heads.fit import save_tree
from surgmotion_jax.evaluate.results import read_predictions
from surgmotion_jax.evaluate.run import evaluate
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from tests.benchmarks.simulated import make
from tests.evaluate.encoders import CONFIG, small_encoder
from tests.evaluate.evaluations import SMALL, changed, cholec80, read, relabel

NEAREST = changed(SMALL, probe={"head": "knn"})  # nothing to compile
KEPT = ("results.json", "predictions.csv", "choice.json", "heads.npz", "config.json")


@pytest.fixture(scope="module")
def finished(root, source, tmp_path_factory):
    """A whole run: its folder, and what it said."""
    said: list[str] = []
    workdir = tmp_path_factory.mktemp("whole")
    evaluate(SMALL, source, str(root), workdir, say=said.append)
    return workdir, said


def files(workdir):
    return {name: (workdir / name).read_bytes() for name in KEPT}


def test_results_say_what_was_scored_how_and_by_which_head(finished, root):
    workdir, _ = finished
    fields = read(workdir / "results.json")
    assert fields["cases"] == {
        "train": ["video02", "video04"],
        "val": ["video01"],
        "test": ["video41", "video42", "video43"],
    }
    assert fields["training_moments"] == 16
    metrics = {(row["metric"], row["convention"]) for row in fields["chosen"]["results"]}
    assert ("f1", "mean over videos; classes present in the ground truth") in metrics
    assert all(row["interval"][0] <= row["interval"][1] for row in fields["chosen"]["results"])
    assert "not a result" in fields["oracle"]["note"]
    assert len(fields["candidates"]) == 2
    assert {row["metric"] for row in fields["sd_over_cases"]} >= {"accuracy", "f1", "edit_score"}
    best = max(fields["candidates"], key=lambda row: row["val"])
    assert fields["chosen"]["name"] == best["name"]
    assert fields["encoder"]["digest"] == f"{0:064x}"
    assert str(root) not in json.dumps(fields)


def test_every_case_and_second_is_predicted_exactly_once(finished):
    tables = read_predictions(finished[0])
    assert list(tables) == ["video41", "video42", "video43"]
    for table in tables.values():
        assert table["time"].tolist() == list(range(8))


def test_every_window_is_encoded_once_however_many_heads_learn_from_it(root, source, tmp_path, monkeypatch):
    encoded: list[int] = []
    encode = Encoding.__call__

    def counted(self, batch):
        encoded.append(len(batch.positions))
        return encode(self, batch)

    monkeypatch.setattr(Encoding, "__call__", counted)
    fields = evaluate(changed(SMALL, sweep={"learning_rates": (3e-2, 1e-2, 1e-3)}), source, str(root), tmp_path)
    assert len(fields["candidates"]) == 3
    assert sum(encoded) == 48  # six videos of 8 s: training, choice and test


class Stopped(Exception):
    """What interrupts a run here."""


def stop_and_repeat(source, root, workdir, moments):
    """Runs that each end at a message, then one that ends by itself."""
    for moment in moments:
        left = moment

        def say(text):
            nonlocal left
            left -= 1
            if left < 0:
                raise Stopped

        with pytest.raises(Stopped):
            evaluate(SMALL, source, str(root), workdir, say=say)
    evaluate(SMALL, source, str(root), workdir)


def test_interrupted_and_repeated_it_ends_the_same(finished, root, source, tmp_path):
    """In the features, in the sweep after a first update, and after the choice."""
    whole, said = finished
    moments = [1, next(n for n, text in enumerate(said) if text.startswith("step 2/")), len(said) - 1]
    for moment in moments:
        stop_and_repeat(source, root, tmp_path / str(moment), [moment])
        assert files(tmp_path / str(moment)) == files(whole)
        assert not (tmp_path / str(moment) / "sweep.npz").exists()


@pytest.mark.slow
def test_interrupted_at_every_message_in_turn_it_ends_the_same(finished, root, source, tmp_path):
    whole, said = finished
    assert len(said) >= 10
    for moment in range(len(said)):
        stop_and_repeat(
            source, root, tmp_path / str(moment), [moment, 2 if moment < 6 else 0] if moment % 3 == 0 else [moment]
        )
        assert files(tmp_path / str(moment)) == files(whole)


def test_what_was_measured_is_kept_for_the_repeated_command(root, source, tmp_path):
    config, plans = changed(SMALL, sweep={"strategy": "auto"}), []

    def stop(text):
        raise Stopped

    with pytest.raises(Stopped):  # at the plan, before any feature
        evaluate(config, source, str(root), tmp_path, say=stop)
    kept = read(tmp_path / "strategy.json")["strategy"]
    other = {"vmap": "loop", "loop": "vmap"}[kept]
    (tmp_path / "strategy.json").write_text(json.dumps({"strategy": other}))
    evaluate(config, source, str(root), tmp_path, say=plans.append)
    assert plans[0].startswith(f"2 heads, {'one after the other' if other == 'loop' else '2 at a time'}")


def test_a_finished_evaluation_is_left_as_it_is(finished, root, source):
    before, said = files(finished[0]), []
    fields = evaluate(SMALL, source, str(root), finished[0], say=said.append)
    assert said == ["this evaluation is finished"]
    assert files(finished[0]) == before
    assert fields == read(finished[0] / "results.json")


def test_test_labels_cannot_change_the_choice(finished, root, source, tmp_path):
    other = tmp_path / "set"
    shutil.copytree(root, other)
    for name in ("video41", "video42", "video43"):
        relabel(other, name, "GallbladderRetraction")
    evaluate(SMALL, source, str(other), tmp_path / "run")
    for name in ("choice.json", "heads.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (finished[0] / name).read_bytes()
    assert (tmp_path / "run" / "results.json").read_bytes() != (finished[0] / "results.json").read_bytes()


def test_test_labels_are_read_only_when_the_choice_is_on_disk(root, source, tmp_path, monkeypatch):
    cohort = read_cohort(SMALL.data, str(root))
    assert all(not (case.labels or case.masks or case.depths) for case in cohort.test)
    assert not any(case.labels for case in cohort.contents.cases["test"])
    seen = []

    def asked(*arguments):
        seen.append((tmp_path / "choice.json").exists())
        return read_test_cases(*arguments)

    monkeypatch.setattr(running, "read_test_cases", asked)
    evaluate(NEAREST, source, str(root), tmp_path)
    assert seen == [True]


def test_a_workdir_of_another_evaluation_is_refused(finished, root, source):
    with pytest.raises(ValueError, match=r"holds another evaluation:\n  evaluation.config.sweep.epochs: 2 in the"):
        evaluate(changed(SMALL, sweep={"epochs": 3}), source, str(root), finished[0])
    with pytest.raises(ValueError, match="evaluation.encoder.digest"):
        evaluate(SMALL, Source(small_encoder(1)), str(root), finished[0])


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"size": 20}, r"20 x 20 pixels .*patches of 8 x 8: resize or crop to multiples of 8"),
        ({"frames": 3}, r"the clip has 3 frames; this encoder takes 2 frames per token"),
    ],
)
def test_windows_that_the_encoder_cannot_take_are_refused_before_anything_is_written(
    root, source, tmp_path, data, match
):
    with pytest.raises(ValueError, match=match):
        evaluate(changed(SMALL, data=data), source, str(root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_heads_of_an_encoder_of_another_architecture_are_refused(finished, root, tmp_path):
    config = dataclasses.replace(CONFIG, width=96, heads=6)
    layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1]))
    wider = Source(FrozenEncoder(config, {}, Origin("wider", ("target",), 0, "f" * 64), layout))
    with pytest.raises(ValueError, match=r"features or cases:\n  head.architecture.heads: 3 in the folder"):
        evaluate(SMALL, wider, str(root), tmp_path / "run", probe=str(finished[0]))
    with pytest.raises(ValueError, match=r"another evaluation:\n  evaluation.architecture.heads: 3 in the folder"):
        evaluate(SMALL, wider, str(root), finished[0])


def test_equal_skill_scores_leave_the_correlation_undefined_and_the_result_says_so(source, tmp_path):
    root = make("jigsaws", tmp_path / "set", 12, 1.0, fps=2)
    for path in root.rglob("meta_file_*.txt"):
        trials = [line.split()[:2] for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name}\t{level}\t18\t3\t3\t3\t3\t3\t3\n" for name, level in trials))
    config, said = changed(NEAREST, data={"benchmark": "jigsaws"}), []
    fields = evaluate(config, source, str(root), tmp_path / "run", say=said.append)
    assert [row["metric"] for row in fields["chosen"]["results"]] == ["mae"]
    assert {row["metric"] for row in fields["chosen"]["undefined"]} > {"spearman"}
    assert any(note.startswith("sweep.class_weights is balanced, which has no part") for note in fields["notes"])
    assert all("are equal" in row["why"] for row in fields["chosen"]["undefined"])
    note = next(note for note in fields["notes"] if "training scores are 18" in note)
    assert f"note: {note}" in said


def test_one_test_case_has_no_interval_and_says_so(source, tmp_path):
    root = cholec80(tmp_path / "set", cases=3)
    fields = evaluate(changed(NEAREST, data={"train_windows": 5}), source, str(root), tmp_path / "run")
    assert all(row["interval"] is None for row in fields["chosen"]["results"])
    assert "one test case: no confidence interval can be given" in fields["notes"]
    assert fields["training_moments"] == 5


def test_classes_that_never_occur_in_training_are_named(source, root, tmp_path):
    other = tmp_path / "set"
    shutil.copytree(root, other)
    for name in ("video02", "video04"):
        relabel(other, name, "Preparation")
    said: list[str] = []
    fields = evaluate(NEAREST, source, str(other), tmp_path / "run", say=said.append)
    (note,) = [note for note in fields["notes"] if "6 of 7 classes never occur in training" in note]
    assert f"note: {note}" in said


def test_a_saved_probe_is_scored_as_it_was(finished, root, source, tmp_path):
    fields = evaluate(SMALL, source, str(root), tmp_path, probe=str(finished[0]))
    assert fields["chosen"]["results"] == read(finished[0] / "results.json")["chosen"]["results"]
    assert len(fields["candidates"]) == 1
    with pytest.raises(ValueError, match=r"config.json: no such file; --probe names the workdir of a finished"):
        evaluate(SMALL, source, str(root), tmp_path / "other", probe=str(tmp_path / "nothing"))
    wide = changed(SMALL, probe={"head": "temporal"})
    with pytest.raises(ValueError, match=r"head.probe.head: 'linear' in the folder, 'temporal' requested"):
        evaluate(wide, source, str(root), tmp_path / "wide", probe=str(finished[0]))
    assert not (tmp_path / "wide").exists()  # so that the folder is free for the corrected command


def test_a_result_by_a_saved_probe_names_it_and_another_probe_needs_another_workdir(finished, root, source, tmp_path):
    fields = evaluate(SMALL, source, str(root), tmp_path / "run", probe=str(finished[0]))
    (saved,) = fields["probe"]
    assert saved["head"] == fields["chosen"]["name"]
    assert saved["sha256"] == hashlib.sha256((finished[0] / "heads.npz").read_bytes()).hexdigest()
    assert saved["sweep"] == SMALL.result_fields["sweep"]
    assert any("trained and chosen by another evaluation" in note for note in fields["notes"])
    again = shutil.copytree(finished[0], tmp_path / "again" / finished[0].name)  # of the same name, too
    heads = dict(np.load(again / "heads.npz"))
    (again / "heads.npz").write_bytes(to_npz({name: array + 1 for name, array in heads.items()}))
    with pytest.raises(ValueError, match=r"another evaluation:\n  evaluation.probe"):
        evaluate(SMALL, source, str(root), tmp_path / "run", probe=str(again))
    assert read(finished[0] / "results.json")["probe"] is None


def test_a_head_that_diverged_is_named_and_cannot_be_chosen(root, source, tmp_path):
    said: list[str] = []
    config = changed(SMALL, sweep={"learning_rates": (1e38, 1e-2)})
    fields = evaluate(config, source, str(root), tmp_path / "run", say=said.append)
    assert fields["candidates"][0] == {"name": "lr=1e+38 wd=0.01", "val": None, "test": None}
    assert (fields["chosen"]["number"], fields["oracle"]["name"]) == (1, "lr=0.01 wd=0.01")
    (note,) = [note for note in fields["notes"] if "diverged" in note]
    assert note == "1 of 2 heads diverged and cannot be chosen: lr=1e+38 wd=0.01"
    assert f"note: {note}" in said
    with pytest.raises(ValueError, match="every head diverged .* lower sweep.learning_rates"):
        evaluate(changed(config, sweep={"learning_rates": (1e38,)}), source, str(root), tmp_path / "none")


def test_a_temporal_head_learns_from_whole_videos_at_the_pace_of_the_test(root, source, tmp_path):
    config = changed(SMALL, data={"train_windows": 5}, probe={"head": "temporal"}, sweep={"epochs": 1})
    assert evaluate(config, source, str(root), tmp_path)["training_moments"] == 16


def test_what_heads_need_is_said_before_features_are_computed(finished):
    first = {start: next(n for n, text in enumerate(finished[1]) if text.startswith(start)) for start in ("2 h", "fe")}
    assert first["2 h"] < first["fe"], finished[1]


def test_a_disk_that_holds_the_training_features_alone_is_refused_before_any_is_computed(
    root, source, tmp_path, monkeypatch
):
    held = 16 * CONFIG.width * 4  # of 48 moments; features of all three splits are needed
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=held))
    config = changed(SMALL, cache={"kind": "pooled"})
    with pytest.raises(ValueError, match=rf"missing take {3 * held} bytes, {held} are free"):
        evaluate(config, source, str(root), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # free for the config that the message advises


def test_more_test_cases_make_another_evaluation(root, source, tmp_path):
    fewer = shutil.copytree(root, tmp_path / "set")
    (fewer / "phase_annotations" / "video43-phase.txt").unlink()
    assert evaluate(NEAREST, source, str(fewer), tmp_path / "run")["cases"]["test"] == ["video41", "video42"]
    with pytest.raises(ValueError, match=r"another evaluation:\n  evaluation.data.test.video43"):
        evaluate(NEAREST, source, str(root), tmp_path / "run")


def test_an_unfinished_or_damaged_probe_is_refused(finished, root, source, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(finished[0] / "config.json", there)
    with pytest.raises(ValueError, match=r"no choice.json; --probe names the workdir of a finished"):
        evaluate(SMALL, source, str(root), tmp_path / "run", probe=str(there))
    shutil.copy(finished[0] / "choice.json", there)
    with pytest.raises(ValueError, match=r"heads.npz: no such file; name the workdir of a finished evaluation"):
        evaluate(SMALL, source, str(root), tmp_path / "run", probe=str(there))
    save_tree(there / "heads.npz", {"linear": np.zeros((2, 3))})
    with pytest.raises(ValueError, match=r"its heads do not fit this encoder and config: \S+ is "):
        evaluate(SMALL, source, str(root), tmp_path / "run", probe=str(there))


@pytest.mark.slow
def test_without_a_cache_the_results_are_the_same(finished, root, source, tmp_path):
    fields = evaluate(changed(SMALL, cache={"kind": "none"}), source, str(root), tmp_path)
    assert fields["chosen"] == read(finished[0] / "results.json")["chosen"]
    assert not (tmp_path / "features").exists()


def test_neighbours_are_chosen_like_heads(root, source, tmp_path):
    fields = evaluate(NEAREST, source, str(root), tmp_path)
    assert [row["name"] for row in fields["candidates"]] == ["k=5", "k=10", "k=16"]
    with pytest.raises(ValueError, match="nothing to load for probe.head=knn"):
        evaluate(NEAREST, source, str(root), tmp_path / "o", probe=str(tmp_path))


def test_features_of_another_encoder_are_scored_alike(finished, root, source, tmp_path):
    cohort = read_cohort(SMALL.data, str(root))
    cases = [*cohort.train, *cohort.val, *cohort.test]
    rows = ComputedFeatures(cases, Encoding(source.encoder, Wanted("pooled"), SMALL.data, SMALL.cache))
    for number, case in enumerate(cases):
        features = rows.rows([p for p in in_order(cases) if p.case == number])
        arrays = {"features": features[::-1], "time": case.times_N[::-1]}  # in any order
        (tmp_path / f"{case.id}.npz").write_bytes(to_npz(arrays))
    fields = evaluate(SMALL, Source(features=str(tmp_path)), str(root), tmp_path / "run")
    ours = read(finished[0] / "results.json")["chosen"]["results"]
    for row, own in zip(fields["chosen"]["results"], ours, strict=True):
        assert row["value"] == pytest.approx(own["value"], abs=1e-6)
    (tmp_path / "video41.npz").write_bytes(to_npz({"features": features, "time": case.times_N + 3}))
    with pytest.raises(ValueError, match=r"video41.npz: no feature within 0.5 s of the scored moment at 0 s"):
        ExternalFeatures(str(tmp_path), cases, "pooled")
    (tmp_path / "video41.npz").write_bytes(to_npz({"features": features}))
    with pytest.raises(ValueError, match=r"video41.npz: holds features; it must hold features and time"):
        ExternalFeatures(str(tmp_path), cases, "pooled")
    (tmp_path / "video41.npz").unlink()
    with pytest.raises(ValueError, match=r"video41.npz: no such file; --features needs a file for every case"):
        ExternalFeatures(str(tmp_path), cases, "pooled")


@pytest.fixture
def foreign(root, tmp_path):
    """A function that writes a folder of another encoder's features: a file a case, of random numbers."""
    cohort = read_cohort(SMALL.data, str(root))

    def write(folder, seed=0):
        folder.mkdir(parents=True)
        rng = np.random.default_rng(seed)
        for case in [*cohort.train, *cohort.val, *cohort.test]:
            arrays = {"features": rng.normal(size=(len(case.times_N), 4)), "time": case.times_N}
            (folder / f"{case.id}.npz").write_bytes(to_npz(arrays))
        return str(folder)

    return write


@pytest.mark.parametrize("case", ["video01", "video02", "video41"])  # of validation, training and test
def test_a_changed_file_of_features_is_refused_on_repeat(foreign, root, tmp_path, case):
    folder = foreign(tmp_path / "feat")
    evaluate(NEAREST, Source(features=folder), str(root), tmp_path / "run")
    before = read(tmp_path / "run" / "results.json")
    assert evaluate(NEAREST, Source(features=folder), str(root), tmp_path / "run") == before
    path = tmp_path / "feat" / f"{case}.npz"
    with np.load(path) as arrays:
        path.write_bytes(to_npz({"features": arrays["features"] + 1e-3, "time": arrays["time"]}))
    with pytest.raises(ValueError, match=r"holds another evaluation:\n(.*\n)?  evaluation.encoder.files: "):
        evaluate(NEAREST, Source(features=folder), str(root), tmp_path / "run")


def test_features_that_do_not_serve_are_refused_before_the_workdir_is_claimed(foreign, root, tmp_path):
    folder, run = foreign(tmp_path / "feat"), tmp_path / "run"
    whole = (tmp_path / "feat" / "video42.npz").read_bytes()
    for wrong, message in (
        ({"features": np.full((8, 4), np.nan), "time": np.arange(8.0)}, "video42.npz: features that are not finite"),
        ({"features": np.ones((8, 5)), "time": np.arange(8.0)}, r"features of video42 are \(5,\), those of video02"),
    ):
        (tmp_path / "feat" / "video42.npz").write_bytes(to_npz(wrong))
        with pytest.raises(ValueError, match=message):
            evaluate(NEAREST, Source(features=folder), str(root), run)
        assert not run.exists()
    (tmp_path / "feat" / "video42.npz").write_bytes(whole)
    evaluate(NEAREST, Source(features=folder), str(root), run)


def test_folders_of_one_name_are_told_apart_by_what_they_hold(foreign, root, tmp_path):
    folders = {name: foreign(tmp_path / name / "feat", seed) for name, seed in (("a", 0), ("b", 1), ("c", 0))}
    cases = read_cohort(SMALL.data, str(root)).train
    found = {name: Source(features=folder).using(cases).identity for name, folder in folders.items()}
    assert found["a"]["features"] == found["b"]["features"] == "feat"
    assert found["a"]["files"] != found["b"]["files"]
    assert found["a"] == found["c"] == Source(features=folders["a"]).using(cases[::-1]).identity
    evaluate(SMALL, Source(features=folders["a"]), str(root), tmp_path / "run")
    with pytest.raises(ValueError, match=r"other features or cases:\n  head.cases.features: "):
        evaluate(SMALL, Source(features=folders["b"]), str(root), tmp_path / "other", probe=str(tmp_path / "run"))
    assert not (tmp_path / "other").exists()


def test_a_head_of_the_same_training_features_is_scored_on_other_test_features(foreign, root, tmp_path):
    folder = foreign(tmp_path / "feat")
    evaluate(SMALL, Source(features=folder), str(root), tmp_path / "run")
    shutil.copy(tmp_path / "feat" / "video42.npz", tmp_path / "feat" / "video41.npz")
    fields = evaluate(SMALL, Source(features=folder), str(root), tmp_path / "new", probe=str(tmp_path / "run"))
    assert fields["predictions_sha256"] != read(tmp_path / "run" / "results.json")["predictions_sha256"]


def test_a_larger_fraction_of_training_cases_holds_every_smaller_one(root):
    cases = read_cohort(SMALL.data, str(root)).train * 1
    assert [len(drawn(cases, f, 0)) for f in (0.01, 0.5, 0.51, 1.0)] == [1, 1, 2, 2]
    assert {len({case.id for case in drawn(cases, 0.5, seed)}) for seed in range(4)} == {1}
    assert len({drawn(cases, 0.5, seed)[0].id for seed in range(8)}) == 2


def test_a_root_without_one_of_the_splits_is_refused(root, source, tmp_path):
    other = tmp_path / "set"
    shutil.copytree(root, other)
    (other / "phase_annotations" / "video01-phase.txt").unlink()
    with pytest.raises(ValueError, match="has no scored moment in val; a head is trained, chosen and reported on"):
        evaluate(SMALL, source, str(other), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "cases"),
    [
        ("cholec80", "attentive", 6),
        ("cholec80", "temporal", 6),
        ("surgicalactions160", "linear", 64),
        ("cholect50", "linear", 6),
        ("cholect50", "temporal", 6),
        ("jigsaws", "linear", 12),
        ("jigsaws", "knn", 12),
        ("polyp_segmentation", "dense", 12),
        ("c3vd", "dense", 6),
    ],
)
def test_every_family_runs_and_runs_again_to_the_same_bytes(tmp_path, source, name, head, cases):
    root = make(name, tmp_path / "set", cases, 4.0, fps=3)
    dense = head == "dense"
    config = changed(
        SMALL, data={"benchmark": name, "frames": 1 if dense else 2}, probe={"head": head, "layers": (0, 1) * dense}
    )
    fields = evaluate(config, source, str(root), tmp_path / "one")
    evaluate(config, source, str(root), tmp_path / "two")
    assert (tmp_path / "one" / "results.json").read_bytes() == (tmp_path / "two" / "results.json").read_bytes()
    assert all(np.isfinite(row["value"]) for row in fields["chosen"]["results"])
