"""Writes simulated colonoscopy as the PraNet sets lie on disk: polyps and their masks, five sets to test on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.polyp_segmentation import TEST_SETS
from surgmotion_jax.simulate.layouts.files import write_image, write_mask
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase, plain_vocabulary

SPECIALTY = "endoscopic"
FEWEST = 2
TRAIN = "TrainDataset"
RATE = 1.0  # images per second that are kept, where a polyp is in view
SEEN = 50  # pixels of a polyp in view


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """Training and test sets take turns, so that a few cases reach several of them. A case gives many images."""
    del seed
    if cases < FEWEST:
        raise ValueError(f"--cases is {cases}; this data set needs at least {FEWEST}, one of them to test")
    vocabulary = plain_vocabulary(1)
    sets = list(TEST_SETS.values())
    homes = [TRAIN if number % 2 == 0 else sets[number // 2 % len(sets)] for number in range(cases)]
    return [
        CasePlan(f"{home}_{number:03d}", "train" if home == TRAIN else "test", vocabulary, SPECIALTY, lesion=True)
        for number, home in enumerate(homes)
    ]


def write_case(case: SimulatedCase, out: Path) -> None:
    """Images named by second, each with its mask; if a polyp is never in view, the first image without one."""
    home, _, number = case.id.rpartition("_")
    folder = out / TRAIN if home == TRAIN else out / "TestDataset" / home
    image, mask = ("image", "mask") if home == TRAIN else ("images", "masks")
    written = 0
    for k, frame in case.at_rate(RATE):
        last = k == case.moments(RATE) - 1
        if frame.lesion_HxW.sum() < SEEN and not (last and not written):
            continue
        name = f"{number}_{k:05d}.png"
        write_image(folder / image / name, frame.video_HxWx3)
        write_mask(folder / mask / name, frame.lesion_HxW)
        written += 1


LAYOUT = Layout("polyp_segmentation", SPECIALTY, RATE, plan, write_case)
