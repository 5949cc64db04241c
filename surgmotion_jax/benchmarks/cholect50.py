"""CholecT50: action triplets (instrument, verb, target) of cholecystectomy at 1 fps, 50 videos.

Nwoye et al., "Rendezvous", Medical Image Analysis 2022; splits after Nwoye and Padoy, arXiv 2204.05235. Names and
the triplet table come from the user's files. Letters: N annotated frames, K triplets, C classes of a component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks import frames, splits
from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.tables import Row, read_table

LAYOUT = (
    "videos/VIDxx/%06d.png at 1 fps, from 000000; labels/VIDxx.json with `categories` and `annotations`"
    " {frame: [15 numbers, ...]}; where categories name no triplets, maps.txt with IVT,I,V,T,IV,IT"
)

TRIPLETS = 100
PARTS = {"instrument": 6, "verb": 10, "target": 15}
"""Components of a triplet and how many classes each has."""

PHASES = 7
FPS = 1.0
VECTOR = 15  # triplet, instrument, its confidence and box, verb, target, its confidence and box, phase
COLUMN = {"triplet": 0, "instrument": 1, "verb": 7, "target": 8, "phase": 14}

RDV = {
    "train": (
        1, 15, 26, 40, 52, 65, 79, 2, 18, 27, 43, 56, 66, 92, 4, 22, 31, 47, 57, 68, 96, 5, 23, 35, 48, 60, 70, 103,
        13, 25, 36, 49, 62, 75, 110,
    ),
    "val": (8, 12, 29, 50, 78),
    "test": (6, 51, 10, 73, 14, 74, 32, 80, 42, 111),
}  # fmt: skip
VIDEOS = tuple(sorted(number for numbers in RDV.values() for number in numbers))
CHALLENGE = {"val": (5, 18, 36, 65, 74), "test": (92, 96, 103, 110, 111)}
FOLDS = (
    (79, 2, 51, 6, 25, 14, 66, 23, 50, 111),
    (80, 32, 5, 15, 40, 47, 26, 48, 70, 96),
    (31, 57, 36, 18, 52, 68, 10, 8, 73, 103),
    (42, 29, 60, 27, 65, 75, 22, 49, 12, 110),
    (78, 43, 62, 35, 74, 1, 56, 4, 13, 92),
)
POOLED = {"crossval": tuple(f"crossval{fold}" for fold in range(1, len(FOLDS) + 1))}
PROTOCOLS = ("rdv", "challenge", *POOLED["crossval"])

MAPS = ("maps.txt", "dict/maps.txt", "label_mapping.txt")


@dataclass(frozen=True)
class Vocabulary:
    """Names as the user's files have them. Row k of `parts_Kx3` is the instrument, verb and target of triplet k."""

    names: Mapping[str, tuple[str, ...]]  # by label
    parts_Kx3: np.ndarray


def name_of(number: int) -> str:
    """Folder of a video."""
    return f"VID{number:02d}"


def video_splits(protocol: str) -> dict[str, str]:
    """Split of each video under a protocol. Cross-validation validates on cases held out from the other folds."""
    if protocol == "rdv":
        return splits.split_table(**{split: map(name_of, numbers) for split, numbers in RDV.items()})
    if protocol == "challenge":
        held = {number for numbers in CHALLENGE.values() for number in numbers}
        parts = {"train": [n for n in VIDEOS if n not in held], **CHALLENGE}
        return splits.split_table(**{split: map(name_of, numbers) for split, numbers in parts.items()})
    test = [name_of(number) for number in FOLDS[PROTOCOLS.index(protocol) - PROTOCOLS.index("crossval1")]]
    rest = [name for name in map(name_of, VIDEOS) if name not in test]
    val = splits.hold_out_validation(rest)
    return splits.split_table(train=[name for name in rest if name not in val], val=sorted(val), test=test)


def read(root: Path, protocol: str) -> Contents:
    """All videos on disk. Raises BenchmarkError for anything that is not as the layout says."""
    folders = {path.name: path for path in frames.subfolders(root / "videos", LAYOUT)}
    split_of = video_splits(protocol)
    tables = {name: root / "labels" / f"{name}.json" for name in folders}
    for name in sorted({path.stem for path in (root / "labels").glob("VID*.json")} - set(folders)):
        asks = f"the frames of labels/{name}.json"
        raise BenchmarkError(root / "videos" / name, "no such folder", asks, "put the folder there")
    documents = {name: _document(path) for name, path in tables.items()}
    first = next(iter(folders))
    vocabulary = read_vocabulary(root, tables[first], documents[first])
    for name, document in documents.items():
        if document["categories"] != documents[first]["categories"]:
            raise BenchmarkError(tables[name], "other categories", f"those of {tables[first].name}", "restore the file")
    cases = [_case(folders[name], tables[name], documents[name], vocabulary) for name in folders]
    absent = tuple(sorted(set(split_of) - set(folders)))
    return Contents("cholect50", protocol, dict(vocabulary.names), splits.by_split(cases, split_of), absent)


def read_vocabulary(root: Path, table: Path, document: Mapping[str, Any]) -> Vocabulary:
    """Class names from the categories of an annotation, the triplet table from maps.txt or the triplets' names."""
    names = {part: _names(table, document["categories"], part, count) for part, count in PARTS.items()}
    maps = next((root / name for name in MAPS if (root / name).is_file()), None)
    if maps is not None:
        parts_Kx3 = _read_maps(maps)
        triplets = tuple(",".join(names[p][i] for p, i in zip(PARTS, row, strict=True)) for row in parts_Kx3.tolist())
    else:
        triplets = _names(table, document["categories"], "triplet", TRIPLETS)
        parts_Kx3 = np.array([_parts_of(table, k, triplet, names) for k, triplet in enumerate(triplets)])
    if len({tuple(row) for row in parts_Kx3.tolist()}) != TRIPLETS:
        raise BenchmarkError(maps or table, "a triplet twice", f"{TRIPLETS} different triplets", "restore the file")
    return Vocabulary({"triplet": triplets, **names}, parts_Kx3)


def _names(table: Path, categories: Mapping[str, Any], label: str, count: int) -> tuple[str, ...]:
    found = categories.get(label)
    at, asks = f"categories.{label}", f"{count} names under the keys 0 to {count - 1}"
    fix = "restore the file, or add maps.txt" if label == "triplet" else "restore the file"
    if not isinstance(found, dict):
        raise BenchmarkError(table, "nothing", asks, fix, at=at)
    wanted = {str(number) for number in range(count)}
    # Some releases name the absence of a class under -1.
    if set(found) - {"-1"} != wanted or not all(isinstance(name, str) for name in found.values()):
        raise BenchmarkError(table, f"{len(set(found) - {'-1'})} entries", asks, fix, at=at)
    return tuple(found[str(number)].strip() for number in range(count))


def _parts_of(table: Path, number: int, triplet: str, names: Mapping[str, tuple[str, ...]]) -> tuple[int, ...]:
    words = [word.strip() for word in triplet.split(",")]
    known = len(words) == len(PARTS) and all(word in names[part] for part, word in zip(PARTS, words, strict=True))
    if not known:
        asks = "instrument,verb,target by the names of their categories"
        fix = "restore the file, or add maps.txt"
        raise BenchmarkError(table, repr(triplet), asks, fix, at=f"categories.triplet.{number}")
    return tuple(names[part].index(word) for part, word in zip(PARTS, words, strict=True))


def _read_maps(path: Path) -> np.ndarray:
    """The table of `maps.txt`, int [K, 3], in triplet order."""
    columns = ("IVT", "I", "V", "T", "IV", "IT")
    rows = read_table(path, columns, header=False)
    if rows[0].cells["IVT"].lstrip("# ").upper() == "IVT":
        rows = rows[1:]
    found = {row.integer("IVT", 0, TRIPLETS - 1): _components(row) for row in rows}
    if len(rows) != TRIPLETS or len(found) != TRIPLETS:
        found_words = f"{len(found)} triplets on {len(rows)} lines"
        raise BenchmarkError(path, found_words, f"{TRIPLETS}, a line each", "restore the file")
    return np.array([found[k] for k in range(TRIPLETS)])


def _components(row: Row) -> tuple[int, ...]:
    return tuple(row.integer(column, 0, count - 1) for column, count in zip("IVT", PARTS.values(), strict=True))


def _document(path: Path) -> dict[str, Any]:
    """An annotation file with its two parts. Raises BenchmarkError."""
    try:
        document = storage.read_json(path)
    except FileNotFoundError:
        raise BenchmarkError(path, "no such file", "the annotation of this video", "put it there") from None
    except ValueError as error:
        raise BenchmarkError(path, str(error), "JSON", "restore the file") from error
    for part in ("categories", "annotations"):
        if not isinstance(document, dict) or not isinstance(document.get(part), dict):
            raise BenchmarkError(path, f"no {part}", "an object with categories and annotations", "restore the file")
    return document


def _case(folder: Path, table: Path, document: Mapping[str, Any], vocabulary: Vocabulary) -> Case:
    """One video. Images after the last annotated frame are not scored; a gap before it is an error."""
    images = frames.numbered_images(folder, r"(\d{6})", FPS)
    if images.paths[0].stem != "000000":
        raise BenchmarkError(folder, f"{images.paths[0].name} first", "000000.png first", "extract the frames again")
    annotations = document["annotations"]
    for number in range(len(annotations)):
        if str(number) not in annotations:
            asks = "an entry for every frame from 0"
            raise BenchmarkError(table, "no entry", asks, "restore the file", at=f"frame {number}")
    if not annotations or len(annotations) > len(images.paths):
        raise BenchmarkError(
            folder, f"{len(images.paths)} images", f"{len(annotations)}, one for each frame of {table.name}",
            "extract the frames again, or restore the annotation",
        )  # fmt: skip
    triplet_NxK = np.zeros((len(annotations), TRIPLETS), np.int64)
    for number in range(len(annotations)):
        for vector in _vectors(table, number, annotations[str(number)]):
            triplet = _triplet(table, number, vector, vocabulary)
            if triplet >= 0:
                triplet_NxK[number, triplet] = 1
    labels = {"triplet": triplet_NxK, **membership(triplet_NxK, vocabulary.parts_Kx3)}
    return Case(folder.name, folder.name, images, np.arange(len(annotations)) / FPS, labels, annotation=table)


def membership(triplet_NxK: np.ndarray, parts_Kx3: np.ndarray) -> dict[str, np.ndarray]:
    """0/1 columns [N, C] of each component: 1 where a triplet with that class happens."""
    found = {}
    for column, (part, count) in enumerate(PARTS.items()):
        member_KxC = parts_Kx3[:, column, None] == np.arange(count)
        found[part] = (triplet_NxK @ member_KxC > 0).astype(np.int64)
    return found


def _vectors(table: Path, number: int, vectors: Any) -> list[list[float]]:
    at = f"frame {number}"
    if not isinstance(vectors, list):
        raise BenchmarkError(table, repr(vectors)[:60], "a list of vectors", "restore the file", at=at)
    for vector in vectors:
        fault = _fault(vector)
        if fault:
            raise BenchmarkError(table, fault, f"{VECTOR} numbers in each vector", "restore the file", at=at)
    return vectors


def _fault(vector: Any) -> str:
    """What keeps a value from being a vector of numbers, or nothing."""
    if not isinstance(vector, list):
        return repr(vector)[:60]
    if len(vector) != VECTOR:
        return f"{len(vector)} entries"
    wrong = next((place for place, value in enumerate(vector) if type(value) not in (int, float)), None)
    if wrong is None:
        return ""
    return f"entry {wrong} is {vector[wrong]!r:.60} of type {type(vector[wrong]).__name__}"


def _triplet(table: Path, number: int, vector: list[float], vocabulary: Vocabulary) -> int:
    """The triplet id of a vector, -1 where it names none, after checking that its parts agree with the table."""
    most = {"triplet": TRIPLETS, **PARTS, "phase": PHASES}
    value = {name: vector[column] for name, column in COLUMN.items()}
    for name, count in most.items():
        if value[name] != int(value[name]) or not -1 <= value[name] < count:
            asks = f"-1, or {name} 0 to {count - 1}"
            raise BenchmarkError(table, f"{name} {value[name]}", asks, "restore the file", at=f"frame {number}")
    triplet = int(value["triplet"])
    if triplet < 0:
        return triplet
    for part, wanted in zip(PARTS, vocabulary.parts_Kx3[triplet].tolist(), strict=True):
        if value[part] not in (-1, wanted):
            found = f"{part} {value[part]:g} in triplet {triplet}"
            asks = f"{part} {wanted}, as the table of triplets has it"
            raise BenchmarkError(table, found, asks, "restore the file or maps.txt", at=f"frame {number}")
    return triplet


BENCHMARK = Benchmark("cholect50", "CholecT50", "triplet", "triplet", LAYOUT, PROTOCOLS, read, POOLED)
