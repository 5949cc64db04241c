"""What all processes of a run must share: package, config, workdir, and what they find in the data."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import surgmotion_jax
from surgmotion_jax.checkpoints.manifest import installed_versions
from surgmotion_jax.data import ClipDataset
from surgmotion_jax.pretrain.config import PretrainConfig

SETUP, DATA = "configuration", "data listing"


def setup_facts(config: PretrainConfig, workdir: str) -> dict[str, str]:
    """Field -> text of config, versions and workdir.

    Left out is what may differ from host to host: the process's own number, and where its copy of the data lies; that
    it is a copy shows in the listing.
    """
    tree = dataclasses.asdict(config)
    del tree["distributed"]
    for source in tree["data"]["sources"].values():
        del source["path"]
    del tree["probe"]["root"], tree["images"]["path"]
    versions = {f"version of {name}": text for name, text in installed_versions().items()}
    sources = {"source files of the package": source_digest()}
    return {"workdir": str(workdir), **versions, **sources, **dict(_flat(tree))}


def listing_facts(dataset: ClipDataset) -> dict[str, str]:
    """Video -> its length and what it is used for. Named by dataset, case and file name, wherever the files lie."""
    facts: dict[str, str] = {}
    for number, video in enumerate(dataset.catalogue.videos):
        name = f"video {number} of {video.file.dataset}"
        facts[name] = (
            f"{Path(str(video.file.path)).name} (case {video.file.case}, {video.info.frames} frames, "
            f"train {_stretch(video.train)}, held out {_stretch(video.heldout)})"
        )
    facts["number of videos"] = str(len(dataset.catalogue.videos))
    facts["unreadable"] = ", ".join(Path(str(fault.path)).name for fault in dataset.catalogue.faults) or "none"
    return facts


def source_digest() -> str:
    """Digest of the package's source files: two checkouts can carry one version number."""
    root = Path(surgmotion_jax.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _stretch(stretch: tuple[float, float] | None) -> str:
    return "no" if stretch is None else f"{stretch[0]:.6g} to {stretch[1]:.6g} s"


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", repr(value)
