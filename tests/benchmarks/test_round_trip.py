"""Sets of real pictures: every sample of every split holds the frame, label, mask and depth that were simulated, in
every process, and from a TFDS folder as from the files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.benchmarks.benchmark import Case, Contents
from surgmotion_jax.benchmarks.catalogue import get
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.benchmarks.tfds_builder import BuildConfig, build
from surgmotion_jax.benchmarks.tfds_contents import read_contents
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.data.sample import Sample
from surgmotion_jax.simulate.case import Frame, Script
from surgmotion_jax.simulate.generate import SetConfig, generate
from surgmotion_jax.simulate.layouts import scared
from surgmotion_jax.simulate.layouts.layout import SimulatedCase
from surgmotion_jax.simulate.number_strip import read_number

SIZE = 96
NAMES = ("cholect50", "jigsaws", "polyp_segmentation", "c3vd", "scared", "hamlyn")
DEPTH_ERROR = {"c3vd": 0.5 * 100 / 65535, "scared": 0.0, "hamlyn": 0.5}


def origin(name: str, case: Case, row: int, made: dict[str, SimulatedCase]) -> tuple[SimulatedCase, int]:
    """The simulated case and frame behind a scored moment."""
    if name == "polyp_segmentation":
        number, second = case.id.split("/")[1].split("_")
        return next(m for m in made.values() if m.id.endswith(number)), int(second)
    if name == "scared":
        simulated = made[case.group]
        return simulated, scared.keyframes(simulated)[int(case.id.rpartition("_")[2]) - 1]
    simulated = made[case.id]
    if name == "jigsaws":
        return simulated, simulated.script.frames - 1
    stem = case.frames.paths[row].stem.split("_")[0]
    return simulated, simulated.frame_at(int(stem))


def check_truth(name: str, contents: Contents, made: dict[str, SimulatedCase]) -> int:
    """Holds every sample to the simulation; how many there were."""
    dense = name in DEPTH_ERROR or name == "polyp_segmentation"
    drawn = {case.id: list(case.frames()) for case in made.values() if dense}
    samples = 0
    for case in (case for cases in contents.cases.values() for case in cases):
        for row, sample in enumerate(ClipReader(1).case_samples(case)):
            simulated, number = origin(name, case, row, made)
            assert read_number(sample.video_TxHxWx3[-1]) == number
            if dense:
                check_maps(name, sample, drawn[simulated.id][number])
            else:
                check_labels(name, sample, simulated.script, number)
            samples += 1
    return samples


def check_labels(name: str, sample: Sample, script: Script, number: int) -> None:
    if name == "jigsaws":
        assert sample.labels["grs"] == script.grs
        return
    happening = [t for t in script.triplet_TxMx3[number].tolist() if t[0] != -1]
    wanted = {"triplet": {script.vocabulary.triplets.index(tuple(t)) for t in happening}}
    wanted |= {part: {t[place] for t in happening} for place, part in enumerate(("instrument", "verb", "target"))}
    assert {label: set(np.flatnonzero(columns).tolist()) for label, columns in sample.labels.items()} == wanted


def check_maps(name: str, sample: Sample, frame: Frame) -> None:
    if name == "polyp_segmentation":
        np.testing.assert_array_equal(sample.masks["mask"], frame.lesion_HxW)
        return
    assert sample.depth_TxHxW is not None
    known = frame.fov_HxW & (frame.depth_HxW > 0)
    np.testing.assert_array_equal(~np.isnan(sample.depth_TxHxW[-1]), known)
    assert np.abs(sample.depth_TxHxW[-1] - frame.depth_HxW)[known].max() <= DEPTH_ERROR[name] + 1e-4


def digest(name: str, root: str) -> str:
    """Of every byte of every sample, in order."""
    benchmark, found = get(name), hashlib.sha256()
    for split, cases in read_contents(benchmark, root, benchmark.protocols[0]).cases.items():
        for case in cases:
            for sample in ClipReader(8, dataset=name).case_samples(case):
                arrays = [sample.video_TxHxWx3, sample.valid_T, *sample.masks.values()]
                arrays += [np.asarray(sample.labels[label]) for label in sorted(sample.labels)]
                arrays += [] if sample.depth_TxHxW is None else [np.nan_to_num(sample.depth_TxHxW)]
                found.update(f"{split} {sample.case} {sorted(sample.labels)}".encode())
                for array in arrays:
                    found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_set_of_real_pictures_is_read_back_across_processes_and_from_tfds(tmp_path: Path, name):
    """Three cases of 20 s, through the renderer, the files, and the TFDS folder."""
    config = SetConfig(name, 3, 20.0, height=SIZE, width=SIZE, paint_frame_number=True)
    made = {case.id: case for case in generate(config, tmp_path / "set", workers=2)}
    assert check(get(name), tmp_path / "set", decode=True).problems == ()
    contents = get(name).read(tmp_path / "set", get(name).protocols[0])
    assert all(contents.cases.values())
    assert check_truth(name, contents, made) >= 3
    built = build(get(name), contents, tmp_path / "tfds", BuildConfig(quality=None))
    code = "import sys; from tests.benchmarks.test_round_trip import digest; print(digest(*sys.argv[1:]))"
    seen = {digest(name, str(tmp_path / "set"))}
    for salt, root in (("1", tmp_path / "set"), ("2", f"tfds:{built.folder}")):
        environment = os.environ | {"PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code, name, str(root)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout.strip())
    assert len(seen) == 1
