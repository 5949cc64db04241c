"""What a data set was made of: a line for each file, with what was found in it and what is done about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from surgmotion_jax.data.catalogue import Catalogue, Video
from surgmotion_jax.data.findings import Finding
from surgmotion_jax.storage import Json


def inventory(catalogue: Catalogue) -> Iterator[Mapping[str, Json]]:
    """A JSON object for each file: those that are used, in their order, then those that are not, with the reason.

    Keys of a used file: dataset, path, case, width and height as displayed, fps, segments (each with the seconds that
    training and held-out clips may be taken from), findings (each with what was found and what is done about it).
    """
    found: dict[str, list[Finding]] = defaultdict(list)
    for finding in catalogue.findings:
        found[finding.path].append(finding)
    of_path: dict[str, list[Video]] = defaultdict(list)
    for video in catalogue.videos:
        of_path[video.file.path].append(video)
    for path, videos in of_path.items():
        yield _used(videos) | {"findings": [{"found": one.found, "done": one.done} for one in found[path]]}
    for why in ("faults", "short", "copies"):
        for fault in getattr(catalogue, why):
            yield {"dataset": fault.dataset, "path": fault.path, "left_out": fault.reason}


def _used(videos: list[Video]) -> dict[str, Json]:
    file, info = videos[0].file, videos[0].info
    return {
        "dataset": file.dataset,
        "path": file.path,
        "case": file.case,
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "segments": [{"train": video.train, "heldout": video.heldout} for video in videos],
    }
