"""Polyp segmentation under the PraNet protocol: one training set, five test sets.

Fan et al., "PraNet", MICCAI 2020: training on 900 images of Kvasir-SEG and 550 of CVC-ClinicDB, testing on the rest of
both and on three sets from other hospitals. Images name no patient, so each is a case of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks import frames, splits
from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.depth_files import image_size, require_same_size
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.data.images import natural_key

LAYOUT = (
    "TrainDataset/{image,mask}/NAME.png (or images, masks) and TestDataset/SET/{images,masks}/NAME.png for SET in"
    " Kvasir, CVC-ClinicDB, CVC-300, CVC-ColonDB, ETIS-LaribPolypDB"
)

TEST_SETS = {
    "kvasir": "Kvasir",
    "clinicdb": "CVC-ClinicDB",
    "cvc300": "CVC-300",
    "colondb": "CVC-ColonDB",
    "etis": "ETIS-LaribPolypDB",
}
"""Protocol that tests on one set alone -> its folder. The protocol `pranet` tests on all five."""

SIZES = {"train": 1450, "kvasir": 100, "clinicdb": 62, "cvc300": 60, "colondb": 380, "etis": 196}
"""Images of the published sets; validation cases are taken from the 1450."""

PROTOCOLS = ("pranet", *TEST_SETS)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".bmp")


def read(root: Path, protocol: str) -> Contents:
    """Every image with its mask. Raises BenchmarkError for anything that is not as the layout says."""
    train = _pairs(root / "TrainDataset", "train")
    chosen = TEST_SETS.values() if protocol == "pranet" else (TEST_SETS[protocol],)
    present = [name for name in chosen if (root / "TestDataset" / name).is_dir()]
    if not present:
        asks = f"a folder for each of {', '.join(chosen)}"
        raise BenchmarkError(root / "TestDataset", "no test set of this protocol", asks, "put it there")
    test = [case for name in present for case in _pairs(root / "TestDataset" / name, name)]
    absent = tuple(name for name in chosen if name not in present)
    cases = {**splits.hold_out_cases(train), "test": tuple(test)}
    return Contents("polyp_segmentation", protocol, {"mask": ("background", "polyp")}, cases, absent)


def _pairs(folder: Path, name: str) -> list[Case]:
    """Images of a folder with the masks of the same names."""
    images, masks = (_files(_either(folder, part)) for part in ("image", "mask"))
    for stem in sorted({*images, *masks}, key=natural_key):
        if stem not in images or stem not in masks:
            have, lack = (images, "mask") if stem in images else (masks, "image")
            raise BenchmarkError(have[stem], f"no {lack} of that name", "an image and a mask each", "restore the pair")
    return [_case(images[stem], masks[stem], f"{name}/{stem}") for stem in images]


def _either(folder: Path, part: str) -> Path:
    """The folder `images`, or `image` as the training set's is named in one of its releases."""
    plural = frames.folder(folder, LAYOUT) / f"{part}s"
    return plural if plural.is_dir() else frames.folder(folder / part, LAYOUT)


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in SUFFIXES:
            asks = f"images ending in {', '.join(SUFFIXES)}"
            raise BenchmarkError(path, f"the ending {path.suffix!r}", asks, "move it out of the folder")
        if path.stem in found:
            raise BenchmarkError(path, f"{path.stem} again, beside {found[path.stem].name}", "one file", "remove one")
        found[path.stem] = path
    if not found:
        raise BenchmarkError(folder, "no image", LAYOUT, "put the images there")
    return found


def _case(image: Path, mask: Path, name: str) -> Case:
    require_same_size(mask, image_size(mask), image, image_size(image))
    return Case(name, name, ImageFrames((image,)), np.zeros(1), masks=(mask,), annotation=mask)


BENCHMARK = Benchmark(
    "polyp_segmentation",
    "Kvasir, CVC-ClinicDB, CVC-300, CVC-ColonDB, ETIS (PraNet protocol)",
    "segmentation",
    "mask",
    LAYOUT,
    PROTOCOLS,
    read,
)
