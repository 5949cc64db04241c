"""Simulates a whole data set: plans its cases, draws each in a process of its own, publishes each when it is whole."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.data.workers import start_worker, starting_workers
from surgmotion_jax.simulate.case import NUISANCES, Frame, SceneConfig, Script
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase, get_layout
from surgmotion_jax.simulate.render import render
from surgmotion_jax.simulate.script import case_seed, write_script
from surgmotion_jax.simulate.truth import Recorder, truth_path

Draw = Callable[[Script], Iterable[Frame]]

STAGING = ".partial"
"""Folder below the data set in which cases grow until they are whole. It stays where a call was interrupted."""

SETTINGS = "simulation.json"


@dataclass(frozen=True)
class SetConfig:
    """One simulated data set."""

    layout: str  # name of a layout
    cases: int = 6
    seconds: float = 60.0  # of each case
    seed: int = 0
    height: int = 256  # pixels; even, as H.264 wants
    width: int = 256
    fps: float | None = None  # at which operations are drawn; None for the layout's own
    nuisance: float = 0.5  # 0 none, 1 strong, up to 2
    difficulty: float = 0.5  # 0 easy, 1 hard
    nuisance_to: float | None = None  # cases differ in strength, spread evenly from `nuisance` to this; None: all alike
    nuisances: tuple[str, ...] = NUISANCES  # those that there are
    zoom: float = 1.0  # of the lens
    exchange: bool = False  # instruments are exchanged as phases ask for them
    dense_truth: bool = False  # also store depth, masks and flow, once a second
    paint_frame_number: bool = False  # for tests: each frame shows its number

    def __post_init__(self) -> None:
        for name, value in (("height", self.height), ("width", self.width)):
            if value % 2:
                raise ValueError(f"{name} is {value} pixels; it must be even, as H.264 stores colour for 2 x 2 pixels")


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know of one case; small, so that it travels."""

    config: SetConfig
    number: int
    plan: CasePlan
    skill: float
    nuisance: float
    out: str
    again: bool  # begun by a call that was interrupted, so that some of its files may be there

    @property
    def mark(self) -> Path:
        """A file that says that the case is done."""
        return Path(self.out) / STAGING / f"{self.number:05d}.done"


def generate(
    config: SetConfig,
    out: Path,
    workers: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
    draw: Draw | None = None,
) -> list[SimulatedCase]:
    """Writes a data set, its truth beside it in `truth/`, and returns its cases in planned order.

    The files depend on the config alone, not on the number of workers (0 draws in this process). A call that was
    interrupted is simply repeated: what is done is kept.

    Args:
        config: what to simulate.
        out: folder, absent, empty, or left by an interrupted call of the same config.
        workers: processes.
        progress: called with (cases done, cases in all, id of the case just done).
        draw: renderer, `simulate.render.render` unless a test has its own.

    Raises:
        ValueError: a folder that holds something, a layout or size that cannot be.
    """
    layout = get_layout(config.layout)
    plans = layout.plan(config.cases, config.seed)
    skills, strengths = _skills(len(plans), config.seed), _strengths(config, len(plans))
    for strength in (min(strengths), max(strengths)):
        scene_config(config, layout, plans[0], strength)  # what the scene refuses is refused before anything is written
    again = _begin(config, out)
    each = enumerate(zip(plans, skills, strengths, strict=True))
    jobs = [_Job(config, number, *of_case, str(out), again) for number, of_case in each]
    for done, name in enumerate(_run(jobs, workers, draw), 1):
        if progress is not None:
            progress(done, len(jobs), name)
    cases = [_case(job, draw) for job in jobs]
    if layout.write_index is not None:
        layout.write_index(cases, out)
    storage.write_text_atomic(out / "truth" / SETTINGS, _settings(config))
    shutil.rmtree(out / STAGING)
    return cases


def scene_config(config: SetConfig, layout: Layout, plan: CasePlan, nuisance: float) -> SceneConfig:
    """The scene of one case, whose nuisances are so strong."""
    return SceneConfig(
        specialty=plan.specialty,
        height=config.height,
        width=config.width,
        fps=config.fps or layout.fps,
        seconds=config.seconds,
        nuisance=nuisance,
        nuisances=config.nuisances,
        difficulty=config.difficulty,
        zoom=config.zoom,
        exchange=config.exchange,
        lesion=plan.lesion,
        paint_frame_number=config.paint_frame_number,
    )


def _skills(cases: int, seed: int) -> list[float]:
    """Skill of each case: evenly spread over 0..1, dealt at random."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    return ((rng.permutation(cases) + 0.5) / cases).tolist()


def _strengths(config: SetConfig, cases: int) -> list[float]:
    """Strength of the nuisances of each case: the same, or evenly spread with both ends and dealt at random."""
    if config.nuisance_to is None:
        return [config.nuisance] * cases
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 2]))
    return rng.permutation(np.linspace(config.nuisance, config.nuisance_to, cases).round(6)).tolist()


def _case(job: _Job, draw: Draw | None, recorder: Recorder | None = None) -> SimulatedCase:
    """A case as planned. The same number in another layout is another operation."""
    config = scene_config(job.config, get_layout(job.config.layout), job.plan, job.nuisance)
    seed = case_seed(job.config.seed, (zlib.crc32(job.config.layout.encode()) << 20) + job.number)
    script = write_script(config, job.plan.vocabulary, job.skill, seed)

    def drawn(script: Script) -> Iterator[Frame]:
        frames = draw(script) if draw is not None else render(script, truth=job.config.dense_truth)
        return recorder.watch(frames) if recorder is not None else iter(frames)

    return SimulatedCase(job.plan, script, drawn)


def _run(jobs: Sequence[_Job], workers: int, draw: Draw | None) -> Iterator[str]:
    """Ids of cases as they are done, first those that an interrupted call has left."""
    left = [job for job in jobs if not job.mark.exists()]
    yield from (job.plan.id for job in jobs if job not in left)
    if not workers or not left:
        for job in left:
            yield _write(job, draw)
        return
    # A forked child would inherit the threads' locks of whatever runs here, but not the threads.
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(workers, len(left)), context, start_worker) as pool:
        with starting_workers():
            futures = [pool.submit(_write, job, draw) for job in left]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - before:
                worker.kill()  # a case takes minutes, and what it has drawn so far is drawn anew
            raise


def _write(job: _Job, draw: Draw | None) -> str:
    """Draws a case into a folder of its own, then moves its files to where they belong."""
    out = Path(job.out)
    staged = out / STAGING / f"{job.number:05d}"
    recorder = Recorder(job.config.dense_truth)
    case = _case(job, draw, recorder)
    shutil.rmtree(staged, ignore_errors=True)  # of an interrupted call
    get_layout(job.config.layout).write_case(case, staged)
    recorder.save(case, truth_path(staged, case.id))
    publish(staged, out, job.again)
    job.mark.touch()
    return case.id


def publish(staged: Path, out: Path, replace: bool = False) -> None:
    """Moves a tree into another, folders as a whole where they are new. A file is replaced only where that is asked."""
    for source in sorted(staged.iterdir()):
        target = out / source.name
        try:
            if source.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(source, target)  # fails where the folder holds something
                continue
        except OSError:
            publish(source, target, replace)
            continue
        if target.exists() and not replace:
            raise ValueError(f"{target}: written by two cases; give cases distinct names")
        os.replace(source, target)
    staged.rmdir()


def _begin(config: SetConfig, out: Path) -> bool:
    """Claims a folder for a data set; True where an interrupted call of the same config has begun it."""
    begun = out / STAGING / SETTINGS
    if begun.exists() and begun.read_text() == _settings(config):
        return True
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"{out}: not an empty folder; name a new one, a simulated set is never mixed with other files"
            + ("; what an interrupted command began there goes on with that command's flags" if begun.exists() else "")
        )
    storage.write_text_atomic(begun, _settings(config))
    return False


def _settings(config: SetConfig) -> str:
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"
